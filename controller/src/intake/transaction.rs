//! A mail transaction: what MAIL and RCPT said, until the content is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::envelope::{Envelope, Recipient};
use dd_proto::id::RecipientNumber;
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use dd_proto::smtp::command::{Mail, Rcpt};

/// RFC 5321 §4.5.3.1.8 asks for at least 100.
pub const MAX_RECIPIENTS: usize = 1000;

/// From MAIL to the final dot.
#[derive(Debug)]
pub struct Transaction {
    pub mail: Mail,
    /// Each mailbox once.
    recipients: Vec<(Rcpt, Arc<Site>)>,
    /// For each RCPT that was taken, which recipient it named: naming one twice does not deliver twice.
    asked: Vec<usize>,
    seen: HashMap<(String, Option<Domain>), usize>,
}

/// What a transaction asks for, as the store takes it.
#[derive(Debug)]
pub struct Sorted {
    pub envelope: Envelope,
    pub deliveries: Vec<(SiteName, Vec<RecipientNumber>)>,
}

impl Transaction {
    pub fn new(mail: Mail) -> Self {
        Self {
            mail,
            recipients: Vec::new(),
            asked: Vec::new(),
            seen: HashMap::new(),
        }
    }

    pub fn is_full(&self) -> bool {
        self.asked.len() >= MAX_RECIPIENTS
    }

    pub fn has_recipients(&self) -> bool {
        !self.asked.is_empty()
    }

    pub fn add(&mut self, rcpt: Rcpt, site: Arc<Site>) {
        let mailbox = &rcpt.forward_path.0;
        let key = (mailbox.local_part().to_owned(), mailbox.domain().cloned());
        let index = *self.seen.entry(key).or_insert(self.recipients.len());
        self.asked.push(index);
        if index == self.recipients.len() {
            self.recipients.push((rcpt, site));
        }
    }

    /// The site of each RCPT that was taken, in their order.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.asked.iter().map(|&index| &*self.recipients[index].1)
    }

    /// The recipients whose site `takes` the message, numbered and sorted by site.
    pub fn sort(self, takes: impl Fn(&Site) -> bool) -> Sorted {
        let mut recipients = Vec::new();
        let mut deliveries: BTreeMap<SiteName, Vec<RecipientNumber>> = BTreeMap::new();
        let taken = self.recipients.into_iter().filter(|(_, site)| takes(site));
        for (number, (rcpt, site)) in (0..).map(RecipientNumber).zip(taken) {
            deliveries
                .entry(site.name.clone())
                .or_default()
                .push(number);
            recipients.push(Recipient {
                number,
                path: rcpt.forward_path,
                notify: rcpt.notify,
                orcpt: rcpt.orcpt,
            });
        }
        Sorted {
            envelope: Envelope {
                reverse_path: self.mail.reverse_path,
                body: self.mail.body,
                encoding: self.mail.encoding,
                ret: self.mail.ret,
                envid: self.mail.envid,
                recipients,
            },
            deliveries: deliveries.into_iter().collect(),
        }
    }
}
