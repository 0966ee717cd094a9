//! A response that is made while it is sent: the producer waits for the receiver, and ends with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tonic::Status;

/// What waits between producer and connection.
const AHEAD: usize = 4;

/// Where a producer puts its items.
pub(super) type Items<T> = mpsc::Sender<Result<T, Status>>;

/// The stream; dropped, it ends its producer.
#[derive(Debug)]
pub struct Produced<T> {
    items: mpsc::Receiver<Result<T, Status>>,
    _producer: JoinSet<()>,
}

impl<T: Send + 'static> Produced<T> {
    pub(super) fn by<F>(produce: impl FnOnce(Items<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, items) = mpsc::channel(AHEAD);
        let mut producer = JoinSet::new();
        producer.spawn(produce(sender));
        Self {
            items,
            _producer: producer,
        }
    }
}

impl<T> Stream for Produced<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_recv(context)
    }
}
