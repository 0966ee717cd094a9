//! What the addresses of a site gave that were tried in vain, as one answer.
//!
//! Outcome and evidence are of the most telling one; the words are of all.

use dd_proto::report::{Observed, Outcome, Reply};

use crate::session::outcome::Verdict;

/// So many are told in words, and so much of each.
const MAX_TOLD: usize = 8;
const MAX_WORDS: usize = 300;

/// No address of the site gave a proved session.
#[derive(Debug, Clone)]
pub struct Missed {
    pub outcome: Outcome,
    pub detail: String,
    pub observed: Observed,
    pub reply: Option<Reply>,
}

/// From the least telling to the most: of two alike the first is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Telling {
    Unreachable,
    /// Somebody answered.
    NotProved,
    /// The site itself turned us away.
    Proved,
    /// Nothing about the site: another agent may fare better.
    OwnTrouble,
}

/// Collects them.
#[derive(Debug, Default)]
pub struct Tried {
    told: Option<(Telling, Missed)>,
    words: Vec<String>,
    more: usize,
}

impl Tried {
    pub fn add(&mut self, verdict: Verdict, missed: Missed) {
        let words: String = missed.detail.chars().take(MAX_WORDS).collect();
        let words = match missed.observed.peer.as_str() {
            // The sentence of a connection that was not made names its end itself.
            "" => words,
            peer => format!("{peer}: {words}"),
        };
        match self.words.len() < MAX_TOLD {
            true => self.words.push(words),
            false => self.more += 1,
        }
        let telling = telling(verdict);
        if self
            .told
            .as_ref()
            .is_none_or(|(before, _)| telling > *before)
        {
            self.told = Some((telling, missed));
        }
    }

    /// Whether trying further addresses is of no use.
    pub fn is_own_trouble(&self) -> bool {
        matches!(self.told, Some((Telling::OwnTrouble, _)))
    }

    /// # Panics
    /// Nothing was tried.
    pub fn told(self) -> Missed {
        let (_, mut missed) = self.told.expect("a plan has at least one host");
        if self.words.len() > 1 {
            missed.detail = self.words.join("; ");
        }
        if self.more > 0 {
            missed.detail.push_str(&format!("; and {} more", self.more));
        }
        missed
    }
}

fn telling(verdict: Verdict) -> Telling {
    match verdict {
        Verdict::Ends(Outcome::AgentTrouble) => Telling::OwnTrouble,
        Verdict::Ends(_) => Telling::Proved,
        Verdict::NextHost(Outcome::Unreachable) => Telling::Unreachable,
        Verdict::NextHost(_) | Verdict::WithoutTls | Verdict::Recipients(_) => Telling::NotProved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed(outcome: Outcome, peer: &str, detail: &str) -> Missed {
        Missed {
            outcome,
            detail: detail.to_owned(),
            observed: Observed {
                peer: peer.to_owned(),
                ..Observed::default()
            },
            reply: None,
        }
    }

    #[test]
    fn the_most_telling_is_told_with_the_words_of_all() {
        use Outcome as O;
        let mut tried = Tried::default();
        let gone = missed(O::Unreachable, "", "192.0.2.1:25 does not answer");
        tried.add(Verdict::NextHost(O::Unreachable), gone.clone());
        let stranger = missed(O::WrongHost, "192.0.2.2:25", "no STARTTLS");
        tried.add(Verdict::NextHost(O::WrongHost), stranger);
        let busy = missed(O::Busy, "192.0.2.3:25", "421");
        tried.add(Verdict::Ends(O::Busy), busy);
        tried.add(Verdict::NextHost(O::Unreachable), gone.clone());
        let told = tried.told();
        assert_eq!(
            (told.outcome, &*told.observed.peer),
            (O::Busy, "192.0.2.3:25")
        );
        assert_eq!(
            told.detail,
            "192.0.2.1:25 does not answer; 192.0.2.2:25: no STARTTLS; 192.0.2.3:25: 421; 192.0.2.1:25 does not answer"
        );

        let mut alone = Tried::default();
        alone.add(
            Verdict::NextHost(O::WrongHost),
            missed(O::WrongHost, "192.0.2.2:25", "no TLS"),
        );
        assert_eq!(alone.told().detail, "no TLS");
    }

    #[test]
    fn the_words_are_bounded() {
        let mut tried = Tried::default();
        for _ in 0..100 {
            let long = missed(Outcome::WrongHost, "192.0.2.2:25", &"x".repeat(5000));
            tried.add(Verdict::NextHost(Outcome::WrongHost), long);
        }
        let told = tried.told();
        assert!(told.detail.len() < 3000 && told.detail.ends_with("; and 92 more"));
    }
}
