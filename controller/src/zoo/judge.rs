//! What has to hold of a history, whatever happened in it.
//!
//! # Invariants checked
//! - What a home would take is there within one interval of when it would, and within seconds while it is up. Mail that
//!   the home itself put off (greylisting) may wait once more as long as it has waited.
//! - What it will never take fails once, and the sender is told in the home's own words.
//! - Nothing is there twice that did not go out marked as in doubt.
//! - No home is called without end.
//! - Nothing bounces that the home would take, whatever it said for a while. Excepted are the first two messages that a
//!   home refuses with the same code and status since it took one, if nothing was known against it between, and more for
//!   one and the same recipient if it has taken mail for others: nobody can tell such answers from those about the mail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use dd_tests::zoo::fault::{Break, Does};
use dd_tests::zoo::habits::{BehindDot, Place, Reads};

use super::queue::Fate;
use super::story::Story;
use super::world::{INTERVAL, Letter, World};
use crate::store::Settled;

/// What a message may take while its home is up, and what each message that the home refuses may cost those behind it.
const SECONDS: Duration = Duration::from_secs(5);
const EACH: Duration = Duration::from_secs(1);
/// Longer than this the first attempt after a failure or a start does not wait.
const JITTER: Duration = Duration::from_secs(7);
/// How long it takes to see that a home loses what comes together with something else.
const LEARNS: Duration = Duration::from_secs(20);
/// What a session that ends over a message may cost those behind it; each that follows twice as much, up to the interval.
const STUMBLE: Duration = Duration::from_secs(2);
/// How long a message steps aside that breaks a session for the second time, and twice as long from then on.
const BROKE: Duration = Duration::from_secs(300);
const START: Duration = Duration::from_secs(45);
/// So many messages may bounce when a home that was trusted begins to refuse everything.
const NOT_YET_A_RUN: usize = 2;

/// Everything that is wrong, a sentence each.
pub(super) fn wrong(world: &World, story: &Story, letters: usize) -> Vec<String> {
    let fates = world.queue.fates();
    let (mut wrong, mut bounced) = (Vec::new(), BTreeMap::new());
    if world.is_called_too_often() {
        wrong.push("a home is called again and again".to_owned());
    }
    // Behind the story good mail goes on coming; the last of it may still wait.
    let of_story = &world.letters[..letters];
    for waiting in world.queue.left() {
        if !of_story.iter().any(|it| it.delivery == waiting.delivery) {
            continue;
        }
        let (delivery, last) = (&waiting.delivery, &waiting.last);
        let kept = if waiting.kept { "kept" } else { "waits" };
        wrong.push(format!("{delivery} {kept} at the end, last: {last}"));
    }
    for letter in &world.letters {
        for (number, to) in letter.to.iter().enumerate() {
            let of_it = |fate: &&Fate| {
                fate.delivery == letter.delivery
                    && usize::from(fate.number.0) == letter.first + number
            };
            let Some(fate) = fates.iter().find(of_it) else {
                continue;
            };
            let judged = Judged {
                world,
                story,
                letter,
                to,
                fate,
            };
            if let Some(took) = judged.begins_to_refuse() {
                let alike = (letter.home, took, judged.said_last());
                let run: &mut Bounced<'_> = bounced.entry(alike).or_default();
                run.senders.insert(&letter.from);
                run.recipients.insert(to);
                if run.is_none_yet(judged.took_for_others()) {
                    continue;
                }
            }
            if let Some(why) = judged.wrong() {
                let kind = story.homes[letter.home].0.name;
                let Letter { from, at, .. } = letter;
                wrong.push(format!("{kind}: {from} to {to}, arrived at {at:?}: {why}"));
            }
        }
    }
    wrong
}

/// What a home has refused alike that it would take, with nothing accepted between.
#[derive(Default)]
struct Bounced<'w> {
    senders: BTreeSet<&'w str>,
    recipients: BTreeSet<&'w str>,
}

impl Bounced<'_> {
    /// `took_for_others`: the home is known to have more than one mailbox.
    fn is_none_yet(&self, took_for_others: bool) -> bool {
        let may_be_the_mailbox = self.recipients.len() == 1 && took_for_others;
        self.senders.len() <= NOT_YET_A_RUN || may_be_the_mailbox
    }
}

struct Judged<'w> {
    world: &'w World,
    story: &'w Story,
    letter: &'w Letter,
    to: &'w str,
    fate: &'w Fate,
}

impl Judged<'_> {
    fn wrong(&self) -> Option<String> {
        let home = self.world.homes[self.letter.home].home();
        let never = home.never(&self.letter.from, self.to);
        let copies = home.copies(&self.letter.from, self.to);
        drop(home);
        match (never, self.fate.settled) {
            (Some(_), Settled::Failed) => self.in_its_own_words(),
            (None, Settled::Relayed) => self.once(copies).or_else(|| self.in_time()),
            (Some(_), settled) => Some(format!("{settled:?}, and the home will never take it")),
            (None, settled) => Some(format!(
                "{settled:?} at {:?}, and the home would take it; told: {}",
                self.fate.at,
                self.told().unwrap_or_default()
            )),
        }
    }

    /// A bounce of what the home would take, said by a home that had taken mail since the start, and of which nothing bad
    /// was known since: when it took something last.
    fn begins_to_refuse(&self) -> Option<Duration> {
        let home = self.world.homes[self.letter.home].home();
        let never = home.never(&self.letter.from, self.to);
        if never.is_some() || self.fate.settled != Settled::Failed {
            return None;
        }
        let before = |at: &Duration| *at < self.fate.at;
        let took = home.mailbox.iter().map(|it| it.at).filter(before).max()?;
        let started = self.started()?;
        let failed = self.world.outbound.failed_between(
            &self.letter.delivery.site,
            self.world.began + took,
            self.world.began + self.fate.at,
        );
        (took > started && !failed).then_some(took)
    }

    /// Before it was settled, the last time at which nothing was known of the home.
    fn started(&self) -> Option<Duration> {
        let moves = self.world.moves.iter();
        let moves = moves.filter(|(home, _)| *home == self.letter.home);
        let starts = self.world.starts.iter().chain(moves.map(|(_, at)| at));
        starts.copied().filter(|at| *at < self.fate.at).max()
    }

    /// Whether the home had taken mail for another recipient since.
    fn took_for_others(&self) -> bool {
        let home = self.world.homes[self.letter.home].home();
        let since = self.started().unwrap_or_default()..self.fate.at;
        let mut taken = home.mailbox.iter().filter(|it| since.contains(&it.at));
        taken.any(|it| it.to != *self.to)
    }

    /// Code and status of what the home said against it at last: what has the same is alike.
    fn said_last(&self) -> String {
        let home = self.world.homes[self.letter.home].home();
        let said = [self.to, "*"].into_iter().find_map(|to| {
            let pair = (self.letter.from.clone(), to.to_owned());
            home.refusals.get(&pair)?.last().cloned()
        });
        let said = said.unwrap_or_default();
        let is_code = |word: &&str| word.chars().all(|it| it.is_ascii_digit() || it == '.');
        let codes: Vec<_> = said.split([' ', '-']).take(2).filter(is_code).collect();
        codes.join(" ")
    }

    fn told(&self) -> Option<String> {
        let told = self.fate.told.as_ref()?;
        let diagnostics = told
            .lines()
            .skip_while(|it| !it.starts_with("Diagnostic-Code"));
        Some(diagnostics.take(3).collect::<Vec<_>>().join(" "))
    }

    fn in_its_own_words(&self) -> Option<String> {
        let Some(told) = &self.fate.told else {
            return Some("failed, and its sender was not told".to_owned());
        };
        let told: String = told.split_whitespace().collect();
        let home = self.world.homes[self.letter.home].home();
        let said = [self.to, "*"].into_iter().filter_map(|to| {
            let pair = (self.letter.from.clone(), to.to_owned());
            home.refusals.get(&pair)
        });
        let mut said = said
            .flatten()
            .map(|it| it.split_whitespace().collect::<String>());
        match said.any(|said| told.contains(&said)) {
            true => None,
            false => Some(format!(
                "failed, and not in the words of the home: {:?}",
                self.told()
            )),
        }
    }

    fn once(&self, copies: usize) -> Option<String> {
        let marked = &self.world.outbound.marked;
        let marked = marked.lock().unwrap_or_else(PoisonError::into_inner);
        let marked = marked.get(&self.letter.delivery).copied().unwrap_or(0);
        match copies {
            0 => Some("settled as relayed, and the home never had it".to_owned()),
            copies if copies > 1 + marked => Some(format!(
                "{copies} copies, and it went out {marked} times marked as in doubt"
            )),
            _ => None,
        }
    }

    fn in_time(&self) -> Option<String> {
        let home = self.world.homes[self.letter.home].home();
        let taken = home.mailbox.iter();
        let mut taken = taken.filter(|it| it.from == self.letter.from && it.to == *self.to);
        let taken = taken.next().map(|it| it.at)?;
        drop(home);
        let (since, due) = self.due(taken)?;
        let late =
            format!("there at {taken:?}, due at {due:?}, for the home takes it since {since:?}");
        (taken > due).then_some(late)
    }

    /// From when on the home took it without a pause, and when it therefore had to be there; None: at no certain time.
    fn due(&self, taken: Duration) -> Option<(Duration, Duration)> {
        let (ready, put_off) = {
            let home = self.world.homes[self.letter.home].home();
            let ready = home.ready(&self.letter.from, self.to);
            let deferred = |said: &String| said.starts_with('4');
            let put_off = self
                .letter
                .to
                .iter()
                .map(String::as_str)
                .chain(["*"])
                .any(|to| {
                    let pair = (self.letter.from.clone(), to.to_owned());
                    home.refusals
                        .get(&pair)
                        .is_some_and(|it| it.iter().any(deferred))
                });
            (ready.unwrap_or_default(), put_off)
        };
        for (from, until) in self.windows() {
            let since = from.max(self.letter.at).max(ready);
            if since >= until {
                continue;
            }
            let noticed = from + INTERVAL + JITTER + self.after_a_start(from);
            let mut due = noticed.max(since) + SECONDS + self.costs(since, taken);
            if put_off {
                due += (since - self.letter.at).max(INTERVAL) + JITTER;
            }
            if due < until {
                return Some((since, due));
            }
        }
        None
    }

    /// What the home cost with hang-ups and the like.
    fn odd(&self, breaks: &[Break], since: Duration, taken: Duration) -> Duration {
        let before = breaks.iter().filter(|it| it.at <= taken);
        let (mut cost, mut own, mut stumbles) = (Duration::ZERO, 0, 0);
        for it in before {
            if it.from == self.letter.from {
                own += 1;
                if own > 1 {
                    cost += BROKE * (1 << (own - 2).min(6));
                }
                if matches!(&it.does, Does::Says(reply) if reply.starts_with('4')) {
                    // It waits as long again as it has waited.
                    cost += it.at.saturating_sub(self.letter.at).max(INTERVAL) + JITTER;
                }
            }
            let silent = silence(it);
            if it.at + silent + INTERVAL * 2 >= since {
                let others = STUMBLE * (1 << stumbles.min(6));
                // And a second at least between two sessions.
                cost += silent + STUMBLE + costs_all(it).unwrap_or(others).min(INTERVAL + JITTER);
                stumbles += 1;
            }
        }
        cost
    }

    /// When something began anew that mail passes through.
    fn starts(&self) -> Vec<Duration> {
        let World {
            starts,
            agent_starts,
            moves,
            ..
        } = self.world;
        let moves = moves.iter().filter(|(home, _)| *home == self.letter.home);
        let moves = moves.map(|(_, at)| at);
        let mut all: Vec<_> = starts.iter().chain(agent_starts).chain(moves).collect();
        all.sort();
        all.into_iter().copied().collect()
    }

    /// When the home took mail, and a controller and an agent ran.
    fn windows(&self) -> Vec<(Duration, Duration)> {
        let mut windows = Vec::new();
        for (mut from, until) in self.story.takes(self.letter.home) {
            for start in self.starts() {
                if start > from && start < until {
                    windows.push((from, start));
                    from = start;
                }
            }
            windows.push((from, until));
        }
        windows
    }

    fn after_a_start(&self, from: Duration) -> Duration {
        match self.starts().contains(&from) {
            true => START,
            false => Duration::ZERO,
        }
    }

    /// What the home itself made us wait, and what other mail that it refuses may cost.
    fn costs(&self, since: Duration, taken: Duration) -> Duration {
        let home = self.world.homes[self.letter.home].home();
        let waits = home.waits.iter();
        let waits = waits.filter(|(at, time)| *at < taken && *at + *time > since);
        let waits: Duration = waits.map(|(_, time)| *time).sum();
        let letters = self.world.letters.iter();
        let others = letters.filter(|it| it.home == self.letter.home && it.at <= taken);
        let refused = others.filter(|it| it.to.iter().any(|to| home.never(&it.from, to).is_some()));
        let habits = home.habits;
        let loses = habits.reads != Reads::All || habits.behind_dot == BehindDot::Lost;
        let learns = if loses { LEARNS } else { Duration::ZERO };
        let odd = self.odd(&home.breaks, since, taken);
        learns + waits + odd + EACH * u32::try_from(refused.count()).unwrap()
    }
}

/// How long the agent waits for what never comes.
fn silence(it: &Break) -> Duration {
    let seconds = match (&it.does, it.place) {
        (Does::IsMute, Place::Ehlo) => 60,
        (Does::IsMute, Place::Data) => 120,
        (Does::IsMute, Place::Dot) => 600,
        (Does::IsMute, _) => 300,
        _ => 0,
    };
    Duration::from_secs(seconds)
}

/// What greeting and EHLO say is the site's, and so may be what says that no mail is taken.
fn costs_all(it: &Break) -> Option<Duration> {
    let out_of_place = matches!(&it.does, Does::Says(reply) if reply.starts_with("503"));
    let is_the_sites = matches!(it.place, Place::Greeting | Place::Ehlo) || out_of_place;
    is_the_sites.then_some(INTERVAL + JITTER)
}
