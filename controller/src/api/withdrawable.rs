//! An answer that can be cut short: nobody goes on reading what it may not read any more.
//!
//! # Not here
//! Who may call what, and when that ends: [`super::roles`].

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body as http_body;
use hyper::body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// An answer that ends when its receiver loses the right to it.
pub(super) struct Withdrawable<F> {
    /// None: it has ended.
    body: Option<Body>,
    withdrawn: Pin<Box<F>>,
}

impl<F> Withdrawable<F> {
    /// Of an answer, and what resolves to the reason when the right to it is lost.
    pub(super) fn new(body: Body, withdrawn: Pin<Box<F>>) -> Self {
        Self {
            body: Some(body),
            withdrawn,
        }
    }
}

impl<F: Future<Output = Status>> http_body::Body for Withdrawable<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(context);
        if frame.is_ready() {
            return frame;
        }
        match self.withdrawn.as_mut().poll(context) {
            Poll::Ready(denied) => {
                self.body = None;
                let trailers = denied.into_http::<()>().into_parts().0.headers;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// An error without a message goes as one HEADERS frame that ends the stream ("Trailers-Only"): with a DATA frame
    /// behind it, clients built on grpc-go lose the status and its sentence.
    fn is_end_stream(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    /// The body may end early, so that what it is known to have at least is no promise.
    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        let body = self.body.as_ref();
        let most = body.map_or(Some(0), |body| body.size_hint().upper());
        if let Some(most) = most {
            hint.set_upper(most);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn an_error_without_a_message_ends_the_stream_with_its_headers() {
        let refused = Status::not_found("no such site").into_http::<Body>();
        let refused = Withdrawable::new(refused.into_body(), Box::pin(pending::<Status>()));
        let ended = Withdrawable {
            body: None,
            withdrawn: Box::pin(pending::<Status>()),
        };
        for body in [refused, ended] {
            assert!(http_body::Body::is_end_stream(&body));
            assert_eq!(http_body::Body::size_hint(&body).upper(), Some(0));
        }
        let message = Body::new("message".to_owned());
        let body = Withdrawable::new(message, Box::pin(pending::<Status>()));
        assert!(!http_body::Body::is_end_stream(&body));
        let hint = http_body::Body::size_hint(&body);
        assert_eq!((hint.lower(), hint.upper()), (0, Some(7)));
    }
}
