//! What a trial knows: which letters were acknowledged, and what has arrived where.
//!
//! # Invariants
//! {acknowledged} ⊆ {delivered} ∪ {queued} ∪ {DSN}, recipient by recipient, and {delivered at S} ⊆ {addressed to S},
//! byte by byte. [`Ledger::judge`] rules on the first; the second is ruled on as mail arrives.
//! A letter whose 250 was lost may be there or not, but never at the wrong site or with another content.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::letter::{self, Letter, MOST_RECIPIENTS, Post};

/// Shared by feeders, sites and the judge.
#[derive(Debug)]
pub struct Ledger {
    post: Post,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    letters: HashMap<u64, Entry>,
    /// What arrived and should not have, for people.
    strange: Vec<String>,
}

/// A letter that was offered. Sets of recipients are bits by their places.
#[derive(Debug, Default)]
struct Entry {
    /// The names under which it was queued: LMTP and a lost 250 can make more than one.
    ids: HashSet<String>,
    acknowledged: u16,
    notified: u16,
    copies: [u8; MOST_RECIPIENTS],
}

/// Where a delivery is known in logs: message and site.
pub type Delivery = (String, String);

/// A recipient that still waits, as the operator is shown it.
pub type Waiting = HashSet<String>;

/// What a trial came to so far.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Letters with at least one acknowledged recipient.
    pub messages: usize,
    pub recipients: usize,
    pub delivered: usize,
    pub queued: usize,
    pub notified: usize,
    /// More copies than one, of recipients; those that were marked in doubt before, and those that were not.
    pub duplicates_in_doubt: usize,
    pub duplicates_unmarked: Vec<String>,
    pub lost: Vec<String>,
    pub strange: Vec<String>,
}

impl Ledger {
    pub fn new(post: Post) -> Self {
        Self {
            post,
            book: Mutex::default(),
        }
    }

    pub fn post(&self) -> &Post {
        &self.post
    }

    /// A letter is about to be sent.
    pub fn offered(&self, number: u64) {
        self.book().letters.entry(number).or_default();
    }

    /// These places of a letter have got their 250.
    pub fn acknowledged(&self, number: u64, places: impl IntoIterator<Item = usize>, id: &str) {
        let mut book = self.book();
        let entry = book.letters.entry(number).or_default();
        entry.ids.insert(id.to_owned());
        for place in places {
            entry.acknowledged |= 1 << place;
        }
    }

    /// How many letters have got a 250.
    pub fn acknowledged_messages(&self) -> usize {
        let book = self.book();
        let entries = book.letters.values();
        entries.filter(|entry| entry.acknowledged != 0).count()
    }

    /// A site has a message. Gives the letter's number, unless it is no letter of this trial.
    pub fn delivered(&self, site: usize, recipients: &[String], content: &[u8]) -> Option<u64> {
        match self.recognised(site, recipients, content) {
            Ok((letter, places)) => {
                let mut book = self.book();
                let Some(entry) = book.letters.get_mut(&letter.number) else {
                    let strange = format!("letter {} arrived and was never sent", letter.number);
                    book.strange.push(strange);
                    return None;
                };
                if let Some(id) = received_id(content) {
                    entry.ids.insert(id);
                }
                for place in places {
                    entry.copies[place] = entry.copies[place].saturating_add(1);
                }
                Some(letter.number)
            }
            Err(strange) => {
                self.book().strange.push(strange);
                None
            }
        }
    }

    /// A DSN about these recipients has reached the smarthost.
    pub fn notified(&self, number: u64, addresses: &[String]) {
        let letter = self.post.letter(number);
        let mut book = self.book();
        for address in addresses {
            match letter.place(address) {
                Some(place) => book.letters.entry(number).or_default().notified |= 1 << place,
                None => {
                    let strange = format!("a DSN about letter {number} names {address}");
                    book.strange.push(strange);
                }
            }
        }
    }

    fn recognised(
        &self,
        site: usize,
        recipients: &[String],
        content: &[u8],
    ) -> Result<(Letter, Vec<usize>), String> {
        let head = &content[..content.len().min(4_096)];
        let number = letter::number(head)
            .ok_or_else(|| format!("something that is no letter arrived at site {site}"))?;
        let letter = self.post.letter(number);
        let expected = self.post.content(&letter);
        let ours = content.len().checked_sub(expected.len());
        let (added, rest) = content.split_at(ours.unwrap_or(content.len()));
        if rest != expected || !added.starts_with(b"Received: ") || !added.ends_with(b"\r\n") {
            return Err(format!(
                "letter {number} arrived at site {site} with another content"
            ));
        }
        let place = |address: &String| {
            let place = letter.place(address)?;
            (letter.recipients[place].site == site).then_some(place)
        };
        let places = recipients
            .iter()
            .map(|it| place(it).ok_or_else(|| format!("letter {number} for {it} at site {site}")))
            .collect::<Result<_, _>>()?;
        Ok((letter, places))
    }

    /// Rules on everything that was acknowledged so far, given what waits and which deliveries went out again marked
    /// as in doubt.
    pub fn judge(&self, waiting: &Waiting, in_doubt: &HashSet<Delivery>) -> Judgement {
        let book = self.book();
        let mut judgement = Judgement {
            strange: book.strange.clone(),
            ..Judgement::default()
        };
        for (number, entry) in &book.letters {
            judgement.messages += usize::from(entry.acknowledged != 0);
            let letter = self.post.letter(*number);
            for (place, recipient) in letter.recipients.iter().enumerate() {
                let marked = || {
                    let site = format!("s{}", recipient.site);
                    let mut ids = entry.ids.iter();
                    ids.any(|id| in_doubt.contains(&(id.clone(), site.clone())))
                };
                judgement.copies(entry, place, &recipient.address, marked);
                judgement.recipient(entry, place, &recipient.address, waiting);
            }
        }
        judgement
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In one line.
impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} recipients acknowledged, {} lost, {} strange, {} + {} duplicates",
            self.messages,
            self.recipients,
            self.lost.len(),
            self.strange.len(),
            self.duplicates_in_doubt,
            self.duplicates_unmarked.len(),
        )
    }
}

impl Judgement {
    fn copies(&mut self, entry: &Entry, place: usize, address: &str, marked: impl Fn() -> bool) {
        if entry.copies[place] < 2 {
            return;
        }
        if marked() {
            self.duplicates_in_doubt += 1;
        } else {
            let ids: Vec<&str> = entry.ids.iter().map(String::as_str).collect();
            let said = format!("{address} ×{} ({})", entry.copies[place], ids.join(", "));
            self.duplicates_unmarked.push(said);
        }
    }

    fn recipient(&mut self, entry: &Entry, place: usize, address: &str, waiting: &Waiting) {
        if entry.acknowledged & (1 << place) == 0 {
            return;
        }
        self.recipients += 1;
        let queued = waiting.contains(address);
        let notified = entry.notified & (1 << place) != 0;
        let delivered = entry.copies[place] > 0;
        self.delivered += usize::from(delivered);
        self.queued += usize::from(queued);
        self.notified += usize::from(notified);
        if !(delivered || queued || notified) {
            let ids: Vec<&str> = entry.ids.iter().map(String::as_str).collect();
            self.lost.push(format!("{address} ({})", ids.join(", ")));
        }
    }

    /// Whether nothing was lost and nothing came where it should not.
    pub fn holds(&self) -> bool {
        self.lost.is_empty() && self.strange.is_empty()
    }

    pub fn json(&self) -> Value {
        json!({
            "messages_acknowledged": self.messages,
            "recipients_acknowledged": self.recipients,
            "recipients_delivered": self.delivered,
            "recipients_queued": self.queued,
            "recipients_notified": self.notified,
            "duplicates_marked_in_doubt": self.duplicates_in_doubt,
            "duplicates_unmarked": self.duplicates_unmarked,
            "lost": self.lost,
            "strange": self.strange,
        })
    }
}

/// The ID in the field that the controller added.
fn received_id(content: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&content[..content.len().min(1_024)]).into_owned();
    let (_, rest) = head.split_once(" id ")?;
    let (id, _) = rest.split_once(';')?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: Post = Post {
        seed: 1,
        sites: 2,
        refused: 0,
    };

    fn arrived(number: u64) -> Vec<u8> {
        let mut content = b"Received: from x\r\n\tby y with ESMTP id the-id;\r\n\tnow\r\n".to_vec();
        content.extend(POST.content(&POST.letter(number)));
        content
    }

    /// A letter with one recipient, its address and its site.
    fn single() -> (u64, String, usize) {
        let letter = (0..)
            .map(|number| POST.letter(number))
            .find(|it| it.recipients.len() == 1);
        let letter = letter.unwrap();
        let recipient = &letter.recipients[0];
        (letter.number, recipient.address.clone(), recipient.site)
    }

    fn sent() -> (Ledger, u64, String, usize) {
        let ledger = Ledger::new(POST);
        let (number, address, site) = single();
        ledger.offered(number);
        ledger.acknowledged(number, [0], "the-id");
        (ledger, number, address, site)
    }

    #[test]
    fn what_was_acknowledged_and_is_nowhere_is_lost() {
        let (ledger, number, address, site) = sent();
        let none = HashSet::new();
        assert_eq!(ledger.judge(&none, &HashSet::new()).lost.len(), 1);
        let waits = HashSet::from([address.clone()]);
        assert!(ledger.judge(&waits, &HashSet::new()).holds());
        ledger.delivered(site, &[address], &arrived(number));
        assert!(ledger.judge(&none, &HashSet::new()).holds());
    }

    #[test]
    fn a_dsn_accounts_for_its_recipient() {
        let (ledger, number, address, _) = sent();
        ledger.notified(number, &[address]);
        assert!(ledger.judge(&HashSet::new(), &HashSet::new()).holds());
    }

    #[test]
    fn a_letter_at_another_site_or_with_another_byte_is_strange() {
        let (ledger, number, address, site) = sent();
        ledger.delivered(1 - site, std::slice::from_ref(&address), &arrived(number));
        let mut other = arrived(number);
        *other.last_mut().unwrap() ^= 1;
        ledger.delivered(site, &[address], &other);
        let judgement = ledger.judge(&HashSet::new(), &HashSet::new());
        assert_eq!(judgement.strange.len(), 2);
        assert_eq!(judgement.delivered, 0);
    }

    #[test]
    fn a_second_copy_is_excused_by_a_mark_on_its_delivery_only() {
        let (ledger, number, address, site) = sent();
        for _ in 0..2 {
            ledger.delivered(site, std::slice::from_ref(&address), &arrived(number));
        }
        let marked = |site: usize| HashSet::from([("the-id".to_owned(), format!("s{site}"))]);
        let none = HashSet::new();
        let unmarked =
            |doubts: HashSet<Delivery>| ledger.judge(&none, &doubts).duplicates_unmarked.len();
        assert_eq!(unmarked(HashSet::new()), 1);
        assert_eq!(unmarked(marked(1 - site)), 1);
        assert_eq!(unmarked(marked(site)), 0);
    }
}
