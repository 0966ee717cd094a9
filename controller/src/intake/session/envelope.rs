//! From whom a message is, and for whom: MAIL, RCPT, and DATA before the content.

use std::sync::Arc;

use dd_proto::site::Site;
use dd_proto::smtp::command::{Mail, Rcpt};
use dd_proto::smtp::reply::ServerReply;

use super::{Output, Session, State};
use crate::intake::lmtp::Protocol;
use crate::intake::policy::{self, Directory};
use crate::intake::reply;
use crate::intake::transaction::Transaction;

impl Session {
    pub(super) fn mail(&mut self, mail: Mail) {
        if self.hello.is_none() {
            return self.say(&reply::out_of_order("say hello first"));
        }
        if self.transaction.is_some() {
            return self.say(&reply::out_of_order("a transaction is open, RSET ends it"));
        }
        self.sender.clear();
        self.sender.push_str(mail.reverse_path.as_str());
        let limit = self.settings().max_message_bytes;
        let directory = &*self.around.directory;
        match policy::mail(&mail, self.trust, self.protocol, limit, directory) {
            Ok(()) => {
                self.transaction = Some(Transaction::new(mail));
                self.say(&reply::sender());
            }
            Err(refusal) => {
                self.say(&refusal);
                self.forget();
            }
        }
    }

    pub(super) fn rcpt(&mut self, rcpt: Rcpt) {
        let Some(transaction) = &mut self.transaction else {
            return self.say(&reply::out_of_order("MAIL first"));
        };
        match judge(transaction, self.protocol, &rcpt, &*self.around.directory) {
            Ok(site) => {
                transaction.add(rcpt, site);
                self.say(&reply::recipient());
            }
            Err(refusal) => {
                self.recipient.push_str(rcpt.forward_path.0.as_str());
                self.say(&refusal);
                self.recipient.clear();
            }
        }
    }

    /// Whom a line names that is refused for something else in it.
    pub(super) fn names(&mut self, line: &str) {
        if let Some(path) = path_behind("MAIL FROM:", line) {
            path.clone_into(&mut self.sender);
        } else if let Some(path) = path_behind("RCPT TO:", line) {
            path.clone_into(&mut self.recipient);
        }
    }

    pub(super) fn data(&mut self) {
        let Some(transaction) = &self.transaction else {
            return self.say(&reply::out_of_order("MAIL first"));
        };
        if !transaction.has_recipients() {
            return self.say(&reply::no_recipients(self.protocol));
        }
        let announced_bytes = transaction.mail.size;
        self.state = State::AwaitBuffer;
        self.outputs.push_back(Output::Reserve { announced_bytes });
    }
}

/// What stands where the command has its address, whether it is one or not.
fn path_behind<'a>(command: &str, line: &'a str) -> Option<&'a str> {
    let (verb, rest) = line.split_at_checked(command.len())?;
    let path = rest.trim_start();
    verb.eq_ignore_ascii_case(command)
        .then(|| match path.strip_prefix('<') {
            Some(path) => path.split('>').next().unwrap_or_default(),
            None => path.split(' ').next().unwrap_or_default(),
        })
}

/// The site for which the transaction takes this recipient, or why it does not.
fn judge(
    transaction: &Transaction,
    protocol: Protocol,
    rcpt: &Rcpt,
    directory: &dyn Directory,
) -> Result<Arc<Site>, ServerReply> {
    if transaction.is_full() {
        return Err(reply::too_many_recipients());
    }
    let announced = transaction.mail.size;
    let site = policy::rcpt(&rcpt.forward_path.0, announced, directory)?;
    let certain = |site: &Site| policy::is_certain(site, announced, directory.usage(&site.name));
    if protocol == Protocol::Smtp
        && !transaction.is_only_for(&site)
        && !(certain(&site) && transaction.sites().all(certain))
    {
        return Err(reply::not_together());
    }
    Ok(site)
}
