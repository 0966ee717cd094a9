//! Mail that waits too long: late, and its sender is told; too late, and it expires.
//!
//! A walk over a site's queue finds it, a page at a time, so that nothing of it need be in memory. Mail that was never
//! put off stands in the order of its arrival: the walk reads from its front as far as it expires, then from where the
//! last walk ended as far as it is late. What was put off stands by its own time, and is read whole.
//!
//! # Invariants
//! - Nothing expires without an attempt at the site that failed since this start, while the clock is in doubt, or
//!   while the site is held; and time on hold does not count, nor towards being late.
//! - Few walks are under way at once, each with one page.
//!
//! # Not here
//! What the sender is told: whoever carries [`Effect::Warn`] and [`Effect::Settle`] out.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use dd_proto::id::MessageId;
use dd_proto::name::SiteName;
use dd_proto::report::{Disposition, RecipientResult, Reply, SaidBy, Told};
use dd_proto::smtp::status::Status;
use jiff::Timestamp;

use super::backoff::{later, until};
use super::event::{By, Effect, Evidence, Settle, Turn, Warn};
use super::hand::note;
use super::release::{Fate, Token};
use super::site::{Phase, SiteQueue};
use super::state::State;
use crate::store::{Head, Position, Settled, Settlement, Waiting};

/// Deliveries that one page shows.
pub(super) const PAGE: usize = 128;
/// Walks under way at once.
const WALKS: usize = 4;
/// A walk begins at most so often for one site.
const EASE: Duration = Duration::from_secs(1);
/// What was in hand is looked at again.
const IN_HAND: Duration = Duration::from_secs(30);

/// Walks of all sites.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// When a site's queue is to be walked; monotonic.
    times: BTreeSet<(Duration, SiteName)>,
    waiting: VecDeque<SiteName>,
    under_way: usize,
}

impl Walks {
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.times.first().map(|(at, _)| *at)
    }
}

/// What a site's queue knows of its own expiry.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    pub(super) attempts: Attempts,
    /// As it stands among the walks.
    at: Option<Duration>,
    /// All that was never put off and stands in front of it has been warned of.
    warned_to: Option<Position>,
    walk: Option<Walk>,
}

/// Whether an attempt at the site has failed since this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Attempts {
    #[default]
    NoneFailed,
    SomeFailed,
}

/// A walk that is under way.
#[derive(Debug)]
struct Walk {
    read: u64,
    stage: Stage,
    /// Left our hand since the page was asked for: it may not know what became of them.
    touched: BTreeSet<MessageId>,
    /// The earliest wall time at which something becomes late or expires.
    next: Option<Timestamp>,
    again: Again,
}

/// Whether another walk was due while this one was under way: it may have passed by what that one is to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Never put off: as far as it expires.
    Oldest,
    /// Never put off: from where the last walk ended, as far as it is late.
    Late,
    PutOff,
}

/// What the time says about a delivery.
enum Age {
    Young(Timestamp),
    Late,
    Over,
}

impl Expiry {
    pub(super) fn touched(&mut self, message: MessageId) {
        if let Some(walk) = &mut self.walk {
            walk.touched.insert(message);
        }
    }
}

impl State {
    /// An attempt at the site has failed: from now on its mail may expire.
    pub(super) fn attempt_failed(&mut self, name: &SiteName, turn: &Turn<'_>) {
        if let Some(queue) = self.sites.get_mut(name)
            && queue.expiry.attempts == Attempts::NoneFailed
        {
            queue.expiry.attempts = Attempts::SomeFailed;
            self.walk_at(name, turn.now.monotonic + EASE);
        }
    }

    /// Mail has come, and will be late at some time.
    pub(super) fn will_be_late(&mut self, name: &SiteName, turn: &Turn<'_>) {
        if let Some(queue) = self.sites.get(name) {
            let schedule = &queue.site.schedule;
            let wait = schedule.delay_warning.min(schedule.lifetime);
            self.walk_at(name, turn.now.monotonic.saturating_add(wait));
        }
    }

    /// Walks at that time, or earlier if that was meant already.
    pub(super) fn walk_at(&mut self, name: &SiteName, at: Duration) {
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if let Some(before) = queue.expiry.at {
            if before <= at {
                return;
            }
            self.walks.times.remove(&(before, name.clone()));
        }
        queue.expiry.at = Some(at);
        self.walks.times.insert((at, name.clone()));
    }

    pub(super) fn walks_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic;
        while self.walks.times.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.walks.times.pop_first() else {
                break;
            };
            if let Some(queue) = self.sites.get_mut(&name) {
                queue.expiry.at = None;
                // One that is idle has nothing, and one that is held is looked at when it is not any more.
                let may = !matches!(queue.phase, Phase::Idle | Phase::Held(_));
                match &mut queue.expiry.walk {
                    Some(walk) => walk.again = Again::Yes,
                    None if may => self.walks.waiting.push_back(name),
                    None => {}
                }
            }
        }
        while self.walks.under_way < WALKS
            && let Some(name) = self.walks.waiting.pop_front()
        {
            self.begin_walk(&name, turn);
        }
    }

    fn begin_walk(&mut self, name: &SiteName, turn: &mut Turn<'_>) {
        let read = self.number();
        let Some(queue) = self.sites.get_mut(name) else {
            return;
        };
        if queue.expiry.walk.is_some() {
            return;
        }
        queue.expiry.walk = Some(Walk {
            read,
            stage: Stage::Oldest,
            touched: BTreeSet::new(),
            next: None,
            again: Again::No,
        });
        self.walks.under_way += 1;
        read_page(name, read, None, turn);
    }

    /// A page of the queue has come.
    pub(super) fn walked(
        &mut self,
        name: &SiteName,
        read: u64,
        head: Option<Head>,
        turn: &mut Turn<'_>,
    ) {
        let queue = self.sites.get_mut(name);
        let walk = queue.and_then(|queue| queue.expiry.walk.take_if(|walk| walk.read == read));
        let Some(mut walk) = walk else {
            // The site is another one by now.
            self.walks.under_way = self.walks.under_way.saturating_sub(1);
            return;
        };
        let Some(head) = head else {
            return self.walk_ends(name, Some(turn.now.monotonic + IN_HAND), walk.again, turn);
        };
        let mut after = head.due.last().map(|waiting| waiting.position);
        let mut stage_ends = !head.more;
        for waiting in head.due {
            if walk.stage != Stage::PutOff && waiting.not_before.is_some() {
                stage_ends = true;
                break;
            }
            let position = waiting.position;
            if self.look_at_age(&mut walk, waiting, turn) == Goes::ToNextStage {
                (stage_ends, after) = (true, Some(position));
                break;
            }
        }
        if stage_ends {
            let Some(next) = self.next_stage(name, &mut walk) else {
                let at = walk.next.map(|at| until(turn.now.wall, at).max(EASE));
                let at = at.map(|wait| turn.now.monotonic.saturating_add(wait));
                return self.walk_ends(name, at, walk.again, turn);
            };
            after = next;
        }
        walk.read = self.number();
        walk.touched.clear();
        read_page(name, walk.read, after, turn);
        if let Some(queue) = self.sites.get_mut(name) {
            queue.expiry.walk = Some(walk);
        }
    }

    /// Where the next stage begins; None: that was the last.
    #[expect(clippy::option_option, reason = "a stage may begin at the front")]
    fn next_stage(&self, name: &SiteName, walk: &mut Walk) -> Option<Option<Position>> {
        match walk.stage {
            Stage::Oldest => {
                walk.stage = Stage::Late;
                Some(self.sites.get(name)?.expiry.warned_to)
            }
            Stage::Late => {
                walk.stage = Stage::PutOff;
                let first = later(Timestamp::UNIX_EPOCH, Duration::from_millis(1));
                Some(Some(Position::before(first)))
            }
            Stage::PutOff => None,
        }
    }

    fn walk_ends(
        &mut self,
        name: &SiteName,
        next: Option<Duration>,
        again: Again,
        turn: &mut Turn<'_>,
    ) {
        self.walks.under_way = self.walks.under_way.saturating_sub(1);
        if again == Again::Yes {
            self.walk_at(name, turn.now.monotonic + EASE);
        }
        if let Some(at) = next {
            self.walk_at(name, at);
        }
        self.walks_due(turn);
    }

    fn look_at_age(&mut self, walk: &mut Walk, waiting: Waiting, turn: &mut Turn<'_>) -> Goes {
        let soon = later(turn.now.wall, IN_HAND);
        let earlier = |at: Timestamp| Some(walk.next.map_or(at, |next| next.min(at)));
        let Some(queue) = self.sites.get(&waiting.delivery.site) else {
            return Goes::On;
        };
        if let Phase::Held(_) = queue.phase {
            return Goes::ToNextStage;
        }
        let untrusted = self.clock.alarm(queue.site.schedule.lifetime).is_some();
        let may_expire = queue.expiry.attempts == Attempts::SomeFailed && !untrusted;
        let busy =
            self.is_in_hand(&waiting.delivery) || walk.touched.contains(&waiting.delivery.message);
        let warn = walk.stage != Stage::Oldest && !waiting.warned && !untrusted;
        let from = self.clock.counts_from(waiting.arrived);
        let over = over_at(queue, from);
        match age(queue, from, turn.now.wall) {
            Age::Over if may_expire && busy => walk.next = earlier(soon),
            Age::Over if may_expire => self.expire(&waiting, turn),
            Age::Over if walk.stage == Stage::Oldest => return Goes::ToNextStage,
            Age::Late if walk.stage == Stage::Oldest => {
                walk.next = earlier(over);
                return Goes::ToNextStage;
            }
            Age::Over | Age::Late if warn && busy => {
                // The walk goes on behind it, so the next one begins in front of it again.
                walk.next = earlier(soon);
                self.walk_begins_anew(&waiting.delivery.site);
            }
            age @ (Age::Over | Age::Late) => {
                if let Age::Late = age {
                    walk.next = earlier(over);
                }
                self.warned_to(walk.stage, &waiting);
                if warn {
                    self.warn(waiting, turn);
                }
            }
            Age::Young(until) => {
                walk.next = earlier(until);
                if walk.stage != Stage::PutOff {
                    return Goes::ToNextStage;
                }
            }
        }
        Goes::On
    }

    fn warned_to(&mut self, stage: Stage, waiting: &Waiting) {
        if let Some(queue) = self.sites.get_mut(&waiting.delivery.site)
            && stage == Stage::Late
        {
            queue.expiry.warned_to = Some(waiting.position);
        }
    }

    /// What was put off comes back to where mail stands by its arrival, or was passed by.
    pub(super) fn walk_begins_anew(&mut self, name: &SiteName) {
        if let Some(queue) = self.sites.get_mut(name) {
            queue.expiry.warned_to = None;
        }
    }

    fn expire(&mut self, waiting: &Waiting, turn: &mut Turn<'_>) {
        self.count(waiting, Fate::Failed);
        let results = last_heard(waiting);
        self.close(waiting, Settled::Expired, By::Lifetime, results, None, turn);
    }

    /// Settles a delivery that is not in hand.
    pub(super) fn close(
        &mut self,
        waiting: &Waiting,
        settled: Settled,
        by: By,
        results: Vec<RecipientResult>,
        token: Option<Token>,
        turn: &mut Turn<'_>,
    ) {
        let delivery = waiting.delivery.clone();
        if let Some(queue) = self.sites.get_mut(&delivery.site) {
            queue.shown(waiting);
            queue.drop_from_head(delivery.message);
        }
        let recipients = waiting.open.iter().map(|number| (*number, settled));
        let settle = Settle {
            settlement: Settlement {
                delivery: delivery.clone(),
                recipients: recipients.collect(),
            },
            evidence: Evidence {
                by,
                results,
                waited: until(waiting.arrived, turn.now.wall),
            },
            token,
        };
        self.write(&delivery, Effect::Settle(settle), turn);
    }

    fn warn(&mut self, mut waiting: Waiting, turn: &mut Turn<'_>) {
        let delivery = waiting.delivery.clone();
        let Some(queue) = self.sites.get_mut(&delivery.site) else {
            return;
        };
        queue.shown(&waiting);
        queue.drop_from_head(delivery.message);
        let until_wall = over_at(queue, self.clock.counts_from(waiting.arrived));
        waiting.warned = true;
        let warn = Warn {
            note: note(&waiting),
            results: last_heard(&waiting),
            waited: until(waiting.arrived, turn.now.wall),
            until: until_wall,
        };
        self.write(&delivery, Effect::Warn(warn), turn);
        self.goes_back(waiting, turn.now.wall);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    ToNextStage,
}

fn read_page(name: &SiteName, read: u64, after: Option<Position>, turn: &mut Turn<'_>) {
    turn.effect(Effect::Walk {
        site: name.clone(),
        read,
        after,
    });
}

/// When a lifetime is over that began at `from`.
fn over_at(queue: &SiteQueue, from: Timestamp) -> Timestamp {
    queue.site.life_ends(from, queue.site.schedule.lifetime)
}

fn age(queue: &SiteQueue, from: Timestamp, wall: Timestamp) -> Age {
    let late = queue
        .site
        .life_ends(from, queue.site.schedule.delay_warning);
    let over = over_at(queue, from);
    if over <= wall {
        Age::Over
    } else if late <= wall {
        Age::Late
    } else {
        Age::Young(late.min(over))
    }
}

/// The last reply stands for each open recipient; what was no reply has code 0.
pub(super) fn last_heard(waiting: &Waiting) -> Vec<RecipientResult> {
    let reply = shown(&waiting.last);
    let open = waiting.open.iter().map(|number| RecipientResult {
        number: *number,
        disposition: Disposition::Failed,
        reply: reply.clone(),
        told: Told::NotPassedOn,
        by: SaidBy::TheSite,
    });
    open.collect()
}

/// A reply as it was shown, taken apart again.
fn shown(last: &str) -> Reply {
    let (code, rest) = last.split_at_checked(3).unwrap_or_default();
    let code = code.parse().ok().filter(|code| (200..600).contains(code));
    let Some(code) = code.filter(|_| rest.is_empty() || rest.starts_with(' ')) else {
        // No reply of the site; one that a proof was withheld for begins with its status.
        let status = last.split_once(' ');
        let status = status.filter(|(first, _)| first.parse::<Status>().is_ok());
        let (enhanced, text) = status.unwrap_or(("", last));
        return Reply {
            code: 0,
            enhanced: enhanced.to_owned(),
            text: text.to_owned(),
        };
    };
    let rest = rest.trim_start();
    let first = rest.split(' ').next().unwrap_or_default();
    let enhanced = Some(first).filter(|it| it.parse::<Status>().is_ok());
    let enhanced = enhanced.unwrap_or_default();
    Reply {
        code,
        enhanced: enhanced.to_owned(),
        text: rest[enhanced.len()..].trim_start().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_last_is_taken_apart_again() {
        for (last, code, enhanced, text) in [
            ("450 4.2.1 later", 450, "4.2.1", "later"),
            ("450 later", 450, "", "later"),
            (
                "4.7.5 the certificate has expired",
                0,
                "4.7.5",
                "the certificate has expired",
            ),
            (
                "192.0.2.1:25 does not answer",
                0,
                "",
                "192.0.2.1:25 does not answer",
            ),
            ("", 0, "", ""),
        ] {
            let reply = shown(last);
            assert_eq!(
                (reply.code, reply.enhanced.as_str(), reply.text.as_str()),
                (code, enhanced, text)
            );
        }
    }
}
