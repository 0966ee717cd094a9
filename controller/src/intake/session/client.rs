//! XFORWARD and XCLIENT: a feeder says from whom it had a message (XFORWARD_README, XCLIENT_README of Postfix).
//!
//! # Invariants
//! They change what homes are told, never whom we trust: that goes by the address that is connected.

use dd_proto::client::{Attribute, Client, Spoken};
use dd_proto::site::HandOver;

use super::Session;
use crate::intake::content::Incoming;
use crate::intake::lmtp::Greeted;
use crate::intake::policy::Trust;
use crate::intake::transaction::Transaction;
use crate::intake::{received, reply};

/// What the feeder has said.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By XFORWARD, for the next message.
    pub(super) message: Option<Box<Client>>,
    /// By XCLIENT, for all that come.
    connection: Option<Box<Client>>,
}

impl Session {
    pub(super) fn xforward(&mut self, attributes: Vec<Attribute>) {
        if self.may_tell() {
            let told = self.told.message.get_or_insert_default();
            told.learn(attributes);
            self.say(&reply::done());
        }
    }

    /// The session stands where it stood behind its greeting.
    pub(super) fn xclient(&mut self, attributes: Vec<Attribute>) {
        if self.may_tell() {
            let told = self.told.connection.get_or_insert_default();
            told.learn(attributes);
            self.forget();
            self.hello = None;
            self.signed_in = None;
            self.say(&reply::greeting(&self.settings().hostname, self.protocol));
        }
    }

    fn may_tell(&mut self) -> bool {
        if self.trust != Trust::Trusted {
            self.reject(&reply::may_not_tell());
        } else if self.hello.is_none() {
            self.say(&reply::out_of_order("say hello first"));
        } else if self.transaction.is_some() {
            self.say(&reply::out_of_order("a transaction is open, RSET ends it"));
        } else {
            return true;
        }
        false
    }

    /// Whether one of the sites is to be told; for others nothing is read and kept.
    pub(super) fn is_asked_for(transaction: &Transaction) -> bool {
        let mut sites = transaction.sites();
        sites.any(|site| site.way.hand_over != HandOver::None)
    }

    /// From whom the feeder had the message.
    pub(super) fn client_of(
        &mut self,
        transaction: &Transaction,
        incoming: &Incoming,
    ) -> Option<Box<Client>> {
        if !Self::is_asked_for(transaction) {
            return None;
        }
        if let Some(told) = self.told.message.take() {
            return Some(told);
        }
        let Some(told) = &self.told.connection else {
            return received::client(incoming.first_received()).map(Box::new);
        };
        // A proxy says EHLO as its client did.
        let mut client = told.clone();
        if let Some((greeted, name)) = &self.hello {
            let spoken = match greeted {
                Greeted::Helo => Spoken::Smtp,
                Greeted::Ehlo | Greeted::Lhlo => Spoken::Esmtp,
            };
            client.helo = client.helo.or_else(|| dd_proto::client::name(name));
            client.protocol = client.protocol.or(Some(spoken));
        }
        Some(client)
    }

    /// STARTTLS: nothing that was said before counts.
    pub(super) fn forget_clients(&mut self) {
        self.told = Told::default();
    }
}
