//! A mail transaction: what MAIL and RCPT said, until the content is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dd_proto::client::Client;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
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
    seen: HashMap<(String, String), usize>,
}

/// What the content turned out to need.
#[derive(Debug)]
pub struct Needs {
    /// From whom the feeder had it.
    pub client: Option<Box<Client>>,
    pub body: Body,
    pub encoding: Encoding,
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
        let key = rcpt.forward_path.0.key();
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

    /// The recipient of each RCPT that was taken, in their order.
    pub fn asked(&self) -> impl Iterator<Item = &str> {
        let asked = self.asked.iter().map(|&index| &self.recipients[index].0);
        asked.map(|rcpt| rcpt.forward_path.0.as_str())
    }

    /// As many as a line of the log has room for.
    pub fn first_recipients(&self) -> String {
        const MOST: usize = 80;
        let mut text = String::new();
        for (rcpt, _) in &self.recipients {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(rcpt.forward_path.0.as_str());
            if text.len() > MOST {
                break;
            }
        }
        text
    }

    /// Whether all its recipients are of this site.
    pub fn is_only_for(&self, site: &Site) -> bool {
        let sites = self.recipients.iter().map(|(_, site)| site);
        sites.map(|it| &it.name).all(|name| *name == site.name)
    }

    /// The recipients whose site `takes` the message, numbered and sorted by site.
    pub fn sort(self, needs: Needs, takes: impl Fn(&Site) -> bool) -> Sorted {
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
                body: needs.body,
                encoding: needs.encoding,
                ret: self.mail.ret,
                envid: self.mail.envid,
                recipients,
                client: needs.client,
            },
            deliveries: deliveries.into_iter().collect(),
        }
    }
}
