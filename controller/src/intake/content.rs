//! A content while it comes in: unstuffed, counted, its header read; then judged.

use bytes::{Bytes, BytesMut};
use dd_proto::envelope::{Body, Encoding};
use dd_proto::site::Site;
use dd_proto::smtp::data::{Progress, StrayCrLf, Unstuffer};
use dd_proto::smtp::reply::ServerReply;

use super::authserv::Filter;
use super::header::{Capture, HeaderScan};
use super::{Settings, policy, reply};

/// RFC 5321 §6.3: "at least 100 Received entries" mean a loop.
const MAX_HOPS: u32 = 100;

/// The content of the transaction in hand.
#[derive(Debug)]
pub struct Incoming {
    unstuffer: Unstuffer,
    authserv: Option<Filter>,
    header: HeaderScan,
    bytes: u64,
    body: Body,
    limit: u64,
}

impl Incoming {
    pub fn of(settings: &Settings, first_received: Capture) -> Self {
        Self {
            authserv: Filter::new(&settings.authserv_ids),
            header: HeaderScan::new(first_received),
            ..Self::new(settings.stray_cr_lf, settings.max_message_bytes)
        }
    }

    /// Nothing of it is taken out, and its `Received` fields are only counted.
    pub fn new(stray: StrayCrLf, limit: u64) -> Self {
        Self {
            unstuffer: Unstuffer::new(stray),
            authserv: None,
            header: HeaderScan::default(),
            bytes: 0,
            body: Body::SevenBit,
            limit,
        }
    }

    /// What of `input` is to be kept; nothing any more once the content is known to be refused.
    pub fn feed(&mut self, input: &[u8]) -> (Bytes, Progress) {
        let mut content = BytesMut::with_capacity(input.len());
        let progress = self.unstuffer.feed(input, &mut content);
        if let Some(filter) = &mut self.authserv {
            content = filter.pass(content);
            if matches!(progress, Progress::End { .. }) {
                content.unsplit(filter.end());
            }
        }
        self.bytes = self.bytes.saturating_add(content.len() as u64);
        self.header.feed(&content);
        if !content.is_ascii() {
            self.body = Body::EightBitMime;
        }
        if self.is_doomed() {
            content.clear();
        }
        (content.freeze(), progress)
    }

    /// Whether it is refused whatever else comes: nothing of it needs to be kept.
    pub fn is_doomed(&self) -> bool {
        self.bytes > self.limit || self.unstuffer.fault().is_some()
    }

    /// Why the whole content is refused, at its end.
    pub fn refusal(&self) -> Option<ServerReply> {
        if let Some(fault) = self.unstuffer.fault() {
            return Some(reply::fault(fault));
        }
        if self.bytes > self.limit {
            return Some(reply::too_big(self.limit));
        }
        let hops = self.header.hops();
        (hops >= MAX_HOPS).then(|| reply::mail_loop(hops))
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is there, whatever BODY said.
    pub fn body(&self) -> Body {
        self.body
    }

    /// What the header needs of the next server. RFC 6531 §3.4: a client asks for SMTPUTF8 only where something needs
    /// it, and many ask for every message. A header in UTF-8 whose sender did not ask has been on its way without.
    pub fn encoding(&self, asked: Encoding) -> Encoding {
        match asked {
            Encoding::Utf8 if self.header.is_utf8() => Encoding::Utf8,
            Encoding::Utf8 | Encoding::Ascii => Encoding::Ascii,
        }
    }

    /// Why one site does not take it.
    pub fn refusal_by(&self, site: &Site) -> Option<ServerReply> {
        policy::too_big_for(site, self.bytes)
    }

    /// The value of the topmost `Received` field; empty where there is none, or it was not wanted.
    pub fn first_received(&self) -> &[u8] {
        self.header.first_received()
    }

    pub fn message_id(&self) -> &str {
        self.header.message_id()
    }
}
