//! How agents behave at the door, for those who look after them: what was refused of what they say, and whose name two
//! processes bear.
//!
//! # Invariants
//! Nothing here decides anything. What an agent causes costs a line in ten seconds, however often it does it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dd_proto::name::AgentName;
use jiff::{SignedDuration, Timestamp};

/// A line of one agent's at most so often.
const QUIET: SignedDuration = SignedDuration::from_secs(10);
/// So many streams taken over within this time, and two processes fight for them: one that lost its connection comes once.
const FIGHT: usize = 3;
const WITHIN: SignedDuration = SignedDuration::from_mins(1);
/// So long after the last of them it is an alarm.
const ALARM: SignedDuration = SignedDuration::from_mins(10);

/// What is known of every agent's conduct since the start.
#[derive(Debug, Clone, Default)]
pub struct Conduct(Arc<Mutex<BTreeMap<AgentName, Seen>>>);

#[derive(Debug, Default)]
struct Seen {
    contradictions: u64,
    /// The last of them.
    contradiction: String,
    /// When a living stream was taken over, newest last.
    taken_over: VecDeque<Timestamp>,
    /// Where two processes fought for the stream: when last, and from where.
    fought: Option<(Timestamp, String, String)>,
    line: Option<Timestamp>,
    unsaid: u64,
}

/// Whether something about an agent is said in the log now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    /// With how many before that were not.
    Now(u64),
    NotNow,
}

impl Conduct {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentName, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent has said what contradicts itself.
    pub(super) fn contradicted(&self, agent: &AgentName, what: &str, now: Timestamp) -> Say {
        let mut agents = self.lock();
        let seen = agents.entry(agent.clone()).or_default();
        seen.contradictions += 1;
        seen.contradiction = what.chars().take(400).collect();
        seen.say(now)
    }

    /// Whether a line about this agent is due.
    pub(super) fn say(&self, agent: &AgentName, now: Timestamp) -> Say {
        self.lock().entry(agent.clone()).or_default().say(now)
    }

    /// A stream that lived was taken over by another process, or by the same one anew.
    pub(super) fn taken_over(&self, agent: &AgentName, from: &str, by: &str, now: Timestamp) {
        let mut agents = self.lock();
        let seen = agents.entry(agent.clone()).or_default();
        seen.taken_over.push_back(now);
        while seen.taken_over.len() > FIGHT {
            seen.taken_over.pop_front();
        }
        let first = seen.taken_over.front();
        if seen.taken_over.len() == FIGHT
            && first.is_some_and(|at| now.duration_since(*at) < WITHIN)
        {
            seen.fought = Some((now, from.to_owned(), by.to_owned()));
        }
    }

    /// For `agent list`: empty where nothing is known against it.
    pub(super) fn trouble(&self, agent: &AgentName) -> String {
        let agents = self.lock();
        let Some(seen) = agents.get(agent).filter(|seen| seen.contradictions > 0) else {
            return String::new();
        };
        let times = match seen.contradictions {
            1 => "once".to_owned(),
            more => format!("{more} times"),
        };
        format!(
            "what it says was refused {times} since the start: {}",
            seen.contradiction
        )
    }

    /// Agents whose stream two processes fight for.
    pub(super) fn alarms(&self, now: Timestamp) -> Vec<String> {
        let agents = self.lock();
        let fights = agents.iter().filter_map(|(agent, seen)| {
            let (at, from, by) = seen.fought.as_ref()?;
            (now.duration_since(*at) < ALARM).then(|| {
                format!(
                    "two processes attach as {agent} in turn, the last from {by} and {from}: one has a copy of its state directory; end it, and give it a name of its own with `ddadm agent add`"
                )
            })
        });
        fights.collect()
    }

    /// What was refused, by agent.
    pub(crate) fn contradictions(&self) -> Vec<(String, u64)> {
        let agents = self.lock();
        let counts = agents
            .iter()
            .map(|(name, it)| (name.to_string(), it.contradictions));
        counts.collect()
    }

    pub(super) fn forget(&self, agent: &AgentName) {
        self.lock().remove(agent);
    }
}

impl Seen {
    fn say(&mut self, now: Timestamp) -> Say {
        if self.line.is_some_and(|at| now.duration_since(at) < QUIET) {
            self.unsaid += 1;
            return Say::NotNow;
        }
        self.line = Some(now);
        Say::Now(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn two_processes_that_take_the_stream_from_each_other_are_an_alarm_and_one_that_comes_back_is_none()
     {
        let (conduct, one) = (Conduct::default(), "out1".parse().unwrap());
        let (here, there) = ("192.0.2.1:5000", "192.0.2.2:5000");
        // A line that is lost now and then, and whose end nobody saw.
        for minute in 0..5 {
            conduct.taken_over(&one, here, here, at(60 * minute));
        }
        assert_eq!(conduct.alarms(at(300)), [""; 0]);
        for second in 400..403 {
            conduct.taken_over(&one, here, there, at(second));
        }
        let alarms = conduct.alarms(at(403));
        assert!(alarms[0].contains("attach as out1"), "{alarms:?}");
        assert!(alarms[0].contains(there), "{alarms:?}");
        assert_eq!(conduct.alarms(at(402 + 600)), [""; 0]);
    }

    #[test]
    fn what_is_refused_of_an_agent_is_counted_and_said_once_in_ten_seconds() {
        let (conduct, one) = (Conduct::default(), "out1".parse().unwrap());
        assert_eq!(conduct.trouble(&one), "");
        assert_eq!(conduct.contradicted(&one, "first", at(0)), Say::Now(0));
        for _ in 0..5 {
            assert_eq!(conduct.contradicted(&one, "next", at(9)), Say::NotNow);
        }
        assert_eq!(conduct.contradicted(&one, "last", at(10)), Say::Now(5));
        let trouble = conduct.trouble(&one);
        assert!(
            trouble.contains("7 times") && trouble.ends_with("last"),
            "{trouble}"
        );
        assert_eq!(conduct.contradictions(), [("out1".to_owned(), 7)]);
        conduct.forget(&one);
        assert_eq!(conduct.trouble(&one), "");
    }
}
