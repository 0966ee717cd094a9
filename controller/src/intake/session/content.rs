//! The content of a message within a session: from 354 to the answers to its end.

use std::collections::HashMap;

use dd_proto::id::MessageId;
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use dd_proto::smtp::data::Progress;
use dd_proto::smtp::reply::ServerReply;
use rand::RngExt as _;

use super::{Letter, Output, Receiving, Session, State};
use crate::intake::content::Incoming;
use crate::intake::header::{Capture, Hop};
use crate::intake::lmtp::{Protocol, with};
use crate::intake::quota::Kept;
use crate::intake::reply;
use crate::intake::transaction::{Needs, Transaction};

impl Session {
    pub(super) fn begin_content(&mut self) {
        let (greeted, name) = self
            .hello
            .as_ref()
            .expect("MAIL is taken only behind a hello");
        let transaction = self
            .transaction
            .as_ref()
            .expect("DATA is taken only in a transaction");
        let settings = &self.around.settings;
        let unix_ms = u64::try_from(self.now.as_millisecond()).unwrap_or(0);
        let id = MessageId::new(unix_ms, self.entropy.random());
        let field = Hop {
            from: name,
            client: self.client,
            by: &settings.hostname,
            with: with(*greeted, self.tls, transaction.mail.encoding),
            id,
            at: self.now,
        }
        .field();
        let incoming = Incoming::of(settings, first_received(transaction));
        self.state = State::Content(Box::new(Receiving { id, incoming }));
        self.say(&reply::start_content());
        self.outputs.push_back(Output::Content(field.into()));
        let early = self.lines.take_rest();
        if !early.is_empty() {
            self.content(&early);
        }
    }

    pub(super) fn content(&mut self, bytes: &[u8]) {
        let State::Content(receiving) = &mut self.state else {
            unreachable!("called only while a content comes in");
        };
        let (content, progress) = receiving.incoming.feed(bytes);
        let output = match receiving.incoming.is_doomed() {
            true => Output::Discard,
            false => Output::Content(content),
        };
        self.outputs.push_back(output);
        if let Progress::End { consumed } = progress {
            self.end_content();
            self.lines.push(&bytes[consumed..]);
            self.run();
        }
    }

    fn end_content(&mut self) {
        let State::Content(receiving) = std::mem::replace(&mut self.state, State::Commands) else {
            unreachable!("called only while a content comes in");
        };
        let transaction = self
            .transaction
            .take()
            .expect("a content belongs to a transaction");
        let about = match self.protocol {
            Protocol::Smtp => vec![transaction.first_recipients()],
            Protocol::Lmtp => transaction.asked().map(str::to_owned).collect(),
        };
        let Receiving { id, incoming } = *receiving;
        let mut room = self.around.quotas.message(incoming.bytes());
        let judged = self.judge(&transaction, &incoming, &mut room);
        let judge = |site: &Site| judged.get(&site.name).cloned().flatten();
        let refused: Vec<_> = transaction.sites().map(judge).collect();
        if let Some(refusal) = whole_refusal(self.protocol, &incoming, &refused) {
            self.outputs.push_back(Output::Discard);
            // What refuses the message as a whole is the answer for every recipient.
            let nobody = refused.iter().map(|_| None).collect();
            return self.answer(nobody, about, &refusal);
        }
        let needs = Needs {
            client: self.client_of(&transaction, &incoming),
            body: incoming.body(),
            encoding: incoming.encoding(transaction.mail.encoding),
        };
        let letter = Letter {
            id,
            sorted: transaction.sort(needs, |site| judge(site).is_none()),
            message_id: incoming.message_id().into(),
            arrived: self.now,
        };
        self.state = State::AwaitAccept {
            id,
            refused,
            about,
            _room: room,
        };
        self.outputs.push_back(Output::Accept(Box::new(letter)));
    }

    /// What each site says to the content; room is kept in the queues of those that take it.
    fn judge(
        &self,
        transaction: &Transaction,
        incoming: &Incoming,
        room: &mut Kept,
    ) -> HashMap<SiteName, Option<ServerReply>> {
        let mut judged = HashMap::new();
        for site in transaction.sites() {
            if judged.contains_key(&site.name) {
                continue;
            }
            let usage = || self.around.directory.usage(&site.name);
            let refusal = incoming.refusal_by(site).or_else(|| {
                let full = !room.in_queue_of(site, usage);
                full.then(|| reply::over_quota(&site.name))
            });
            judged.insert(site.name.clone(), refusal);
        }
        judged
    }

    /// `about` has whom each of the answers is about.
    pub(super) fn answer(
        &mut self,
        refused: Vec<Option<ServerReply>>,
        about: Vec<String>,
        common: &ServerReply,
    ) {
        let answers = self.protocol.answers(refused, common);
        for (reply, recipient) in answers.into_iter().zip(about) {
            self.recipient = recipient;
            self.say(&reply);
        }
        self.forget();
    }
}

/// The field is read where a site is to be told of the client.
fn first_received(transaction: &Transaction) -> Capture {
    match Session::is_asked_for(transaction) {
        true => Capture::Wanted,
        false => Capture::Not,
    }
}

/// Why nothing of the message is taken: its own fault, or that of every site; in SMTP, which has one answer for all
/// of them, of any.
fn whole_refusal(
    protocol: Protocol,
    incoming: &Incoming,
    refused: &[Option<ServerReply>],
) -> Option<ServerReply> {
    let first = || refused.iter().flatten().next().cloned();
    incoming.refusal().or_else(|| match protocol {
        Protocol::Smtp => first(),
        Protocol::Lmtp => refused.iter().all(Option::is_some).then(first).flatten(),
    })
}
