//! What came of a release, in words: for scripts one word, for people one sentence.

use dd_proto::name::SiteName;
use serde::Serialize;

use crate::dispatch::Released;

/// As JSON; the same fields and words as `ddadm etrn --output json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub site: String,
    pub result: &'static str,
    pub waiting: u64,
    pub relayed: u64,
    pub deferred: u64,
    pub failed: u64,
    pub detail: Option<String>,
}

impl Outcome {
    pub fn of(site: &SiteName, released: Released) -> Self {
        let mut it = Self {
            site: site.to_string(),
            result: "released",
            waiting: 0,
            relayed: 0,
            deferred: 0,
            failed: 0,
            detail: None,
        };
        match released {
            Released::Done { waiting } => it.waiting = waiting,
            Released::NothingWaiting => it.result = "nothing-waiting",
            Released::Worked {
                waiting,
                relayed,
                deferred,
                failed,
            } => {
                it.result = "done";
                it.counted(waiting, relayed, deferred, failed);
            }
            Released::Pending {
                waiting,
                relayed,
                deferred,
                failed,
            } => {
                it.result = "pending";
                it.counted(waiting, relayed, deferred, failed);
            }
            Released::NotReached { waiting, detail } => it.because("not-reached", waiting, detail),
            Released::NotProved { waiting, detail } => it.because("wrong-host", waiting, detail),
            Released::Refused { waiting, detail } => it.because("refused", waiting, detail),
            Released::Held { waiting, by } => it.because("held", waiting, format!("held by {by}")),
        }
        it
    }

    fn counted(&mut self, waiting: u64, relayed: u64, deferred: u64, failed: u64) {
        self.waiting = waiting;
        self.relayed = relayed;
        self.deferred = deferred;
        self.failed = failed;
    }

    fn because(&mut self, result: &'static str, waiting: u64, detail: String) {
        self.result = result;
        self.waiting = waiting;
        self.detail = Some(detail).filter(|detail| !detail.is_empty());
    }

    /// `sitename: released, 3 waiting`; one line, whatever the far end said.
    pub fn sentence(&self) -> String {
        let what = match self.result {
            "released" => format!("released, {} waiting", self.waiting),
            "nothing-waiting" => "nothing waiting".to_owned(),
            "done" => self.counts(),
            "pending" => format!("still at work, {}", self.counts()),
            "not-reached" => "not reached".to_owned(),
            "wrong-host" => "wrong host".to_owned(),
            "held" => "not released".to_owned(),
            other => other.to_owned(),
        };
        let line = match &self.detail {
            Some(detail) => format!("{}: {what}: {detail}", self.site),
            None => format!("{}: {what}", self.site),
        };
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }

    fn counts(&self) -> String {
        let mut said = format!("{} relayed", self.relayed);
        for (number, what) in [(self.deferred, "deferred"), (self.failed, "failed")] {
            if number > 0 {
                said.push_str(&format!(", {number} {what}"));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_it_is_one_line() {
        let held = Released::Held {
            waiting: 2,
            by: "anna".to_owned(),
        };
        let hostile = Released::NotProved {
            waiting: 1,
            detail: "the host said\r\n\x1b[2J<b>".to_owned(),
        };
        let worked = |deferred, failed| Released::Worked {
            waiting: 3,
            relayed: 2,
            deferred,
            failed,
        };
        for (released, line) in [
            (Released::Done { waiting: 3 }, "home: released, 3 waiting"),
            (Released::NothingWaiting, "home: nothing waiting"),
            (worked(0, 0), "home: 2 relayed"),
            (worked(1, 2), "home: 2 relayed, 1 deferred, 2 failed"),
            (held, "home: not released: held by anna"),
            (hostile, "home: wrong host: the host said   [2J<b>"),
        ] {
            let outcome = Outcome::of(&"home".parse().unwrap(), released);
            assert_eq!(outcome.sentence(), line);
        }
    }
}
