//! How a message with many recipients is handed over in parts, where its sessions end before all are answered.
//!
//! A home may close at the twentieth unknown recipient, or break over one of them. What the others were answered stands;
//! the next attempt carries those that had no answer yet, and after each break half of them, until one is alone in
//! front of the end. That one steps aside by itself.
//!
//! # Invariants
//! - Every attempt leaves fewer recipients without an answer, or carries fewer.
//! - What is remembered is bounded. What is forgotten, after a start too, costs attempts and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use dd_proto::id::{MessageId, RecipientNumber};

/// Messages of a site that are remembered.
const MOST: usize = 1024;
/// So many sessions in a row may close behind a message's dot; then it is the message's doing.
const MOST_CLOSED: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: BTreeMap<MessageId, Part>,
    pub(super) deferrals: Deferrals,
}

/// How far a message has got in this round.
#[derive(Debug, Default)]
struct Part {
    /// They had an answer, and are still open.
    answered: BTreeSet<RecipientNumber>,
    /// One of them was deferred.
    deferred: bool,
    /// Each broke a session when it was alone; the one that did so last stands last.
    alone: Vec<RecipientNumber>,
    halvings: u32,
    /// Sessions that closed behind its dot, for what they had taken or refused before it.
    closed: u32,
}

/// What a round comes to once everybody has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// Some have not been asked: it goes on.
    Open,
    AllRefused,
    SomeDeferred,
    /// Those are left that break sessions, each by itself.
    OnlyBreaking,
}

/// What a break means for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaks {
    /// Others are to be had, or fewer.
    GoesOn,
    StepsAside,
}

impl Parts {
    fn part(&mut self, message: MessageId) -> &mut Part {
        if self.parts.len() >= MOST && !self.parts.contains_key(&message) {
            self.parts.pop_first();
        }
        self.parts.entry(message).or_default()
    }

    pub(super) fn forget(&mut self, message: MessageId) {
        self.parts.remove(&message);
    }

    /// Those of its open recipients that the next attempt carries.
    pub(super) fn carried(
        &self,
        message: MessageId,
        open: &[RecipientNumber],
    ) -> Vec<RecipientNumber> {
        let Some(part) = self.parts.get(&message) else {
            return open.to_vec();
        };
        let is_alone = |number: &RecipientNumber| part.alone.contains(number);
        let mut fresh: Vec<_> = open.to_vec();
        fresh.retain(|number| !part.answered.contains(number) && !is_alone(number));
        if fresh.is_empty() {
            fresh = open.to_vec();
            fresh.retain(|number| !is_alone(number));
        }
        if fresh.is_empty() {
            let alone = part.alone.iter().find(|number| open.contains(number));
            return alone.copied().into_iter().collect();
        }
        let share = fresh.len().div_ceil(1 << part.halvings.min(16));
        fresh.truncate(share);
        fresh
    }

    /// Whether the answer is the first that it has had in this round.
    pub(super) fn is_news(&self, message: MessageId, number: RecipientNumber) -> bool {
        let part = self.parts.get(&message);
        part.is_none_or(|part| !part.answered.contains(&number))
    }

    /// Those that were answered and are still open; `open` are all of the message.
    pub(super) fn answered(
        &mut self,
        message: MessageId,
        answered: impl Iterator<Item = (RecipientNumber, bool)>,
        open: &[RecipientNumber],
    ) -> Round {
        let part = self.part(message);
        for (number, deferred) in answered {
            part.answered.insert(number);
            part.deferred |= deferred;
        }
        let asked = |number| part.answered.contains(number) || part.alone.contains(number);
        if !open.iter().all(asked) {
            return Round::Open;
        }
        let only_breaking = part.answered.iter().all(|it| !open.contains(it));
        let round = match (part.alone.is_empty(), part.deferred) {
            (false, _) if only_breaking => Round::OnlyBreaking,
            (true, false) => Round::AllRefused,
            _ => Round::SomeDeferred,
        };
        part.answered.clear();
        part.deferred = false;
        // Those that broke alone have their turn again in the next round: the others may stay open for days.
        if round != Round::OnlyBreaking {
            self.forget(message);
        }
        round
    }

    /// A session closed behind its dot. Whether that may still be the session's doing.
    pub(super) fn closed(&mut self, message: MessageId) -> bool {
        let part = self.part(message);
        part.closed += 1;
        part.closed < MOST_CLOSED
    }

    /// An attempt that carried these ended without an answer to any.
    pub(super) fn broke(
        &mut self,
        message: MessageId,
        carried: &[RecipientNumber],
        open: &[RecipientNumber],
    ) -> Breaks {
        if open.len() < 2 {
            self.forget(message);
            return Breaks::StepsAside;
        }
        let part = self.part(message);
        match carried {
            [one] => {
                part.alone.retain(|it| it != one);
                part.alone.push(*one);
                part.halvings = 0;
            }
            _ => part.halvings += 1,
        }
        match open.iter().all(|number| part.alone.contains(number)) {
            true => Breaks::StepsAside,
            false => Breaks::GoesOn,
        }
    }
}

/// How often each message was put off by the site. Attempts that came to nothing for another reason do not count: a
/// message that was the probe of a dead home a hundred times waits no longer than the others when that is back and has it
/// wait once.
#[derive(Debug, Default)]
pub(super) struct Deferrals(BTreeMap<MessageId, u32>);

impl Deferrals {
    /// It is put off once more. Of those that are too many to be remembered all `attempts` count.
    pub(super) fn count(&mut self, message: MessageId, attempts: u32) -> u32 {
        if self.0.len() >= MOST && !self.0.contains_key(&message) {
            return attempts;
        }
        let times = self.0.entry(message).or_default();
        *times += 1;
        *times
    }

    pub(super) fn forget(&mut self, message: MessageId) {
        self.0.remove(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(of: std::ops::Range<u16>) -> Vec<RecipientNumber> {
        of.map(RecipientNumber).collect()
    }

    fn message() -> MessageId {
        MessageId::new(1, [0; 10])
    }

    /// A home that takes everybody and breaks over these. Returns who is left, and the attempts.
    fn hand_over(count: u16, breaks: &[u16]) -> (Vec<RecipientNumber>, u32) {
        let (mut parts, mut open) = (Parts::default(), numbers(0..count));
        let mut attempts = 0;
        loop {
            attempts += 1;
            let carried = parts.carried(message(), &open);
            if carried.iter().any(|it| breaks.contains(&it.0)) {
                if parts.broke(message(), &carried, &open) == Breaks::StepsAside {
                    return (open, attempts);
                }
            } else {
                open.retain(|it| !carried.contains(it));
                if open.is_empty() {
                    return (open, attempts);
                }
                let round = parts.answered(message(), std::iter::empty(), &open);
                if round != Round::Open {
                    return (open, attempts);
                }
            }
        }
    }

    #[test]
    fn all_but_those_that_break_a_session_are_handed_over_in_few_attempts() {
        for (count, breaks, most) in [
            (8, &[][..], 1),
            (8, &[4], 12),
            (1000, &[499], 32),
            (1000, &[0, 999], 40),
        ] {
            let (left, attempts) = hand_over(count, breaks);
            let left: Vec<_> = left.iter().map(|it| it.0).collect();
            assert_eq!(left, breaks, "{count}");
            assert!(attempts <= most, "{count}: {attempts}");
        }
    }

    #[test]
    fn one_that_broke_alone_is_asked_again_while_others_stay_open() {
        let (mut parts, open) = (Parts::default(), numbers(0..2));
        while parts.carried(message(), &open) != numbers(0..1) {
            let carried = parts.carried(message(), &open);
            assert_eq!(parts.broke(message(), &carried, &open), Breaks::GoesOn);
        }
        let _ = parts.broke(message(), &numbers(0..1), &open);
        assert_eq!(parts.carried(message(), &open), numbers(1..2));
        // A full mailbox may stay full for days.
        let deferred = [(RecipientNumber(1), true)].into_iter();
        assert_eq!(
            parts.answered(message(), deferred, &open),
            Round::SomeDeferred
        );
        assert_eq!(parts.carried(message(), &open), open);
    }

    #[test]
    fn a_message_behind_whose_dot_sessions_close_without_end_steps_aside_at_last() {
        let (mut parts, open) = (Parts::default(), numbers(0..1));
        for _ in 0..2 {
            let times = (0..100).take_while(|_| parts.closed(message())).count();
            assert_eq!(times + 1, MOST_CLOSED as usize);
            let deferred = [(RecipientNumber(0), true)].into_iter();
            let round = parts.answered(message(), deferred, &open);
            assert_eq!(round, Round::SomeDeferred);
        }
    }

    #[test]
    fn those_without_an_answer_come_first() {
        let (mut parts, open) = (Parts::default(), numbers(0..28));
        let answered = numbers(0..20).into_iter().map(|number| (number, false));
        let round = parts.answered(message(), answered, &open);
        assert_eq!(round, Round::Open);
        assert_eq!(parts.carried(message(), &open), numbers(20..28));
        let rest = numbers(20..28).into_iter().map(|number| (number, false));
        let round = parts.answered(message(), rest, &open);
        assert_eq!(round, Round::AllRefused);
        assert_eq!(parts.carried(message(), &open), open);
    }

    #[test]
    fn those_that_broke_alone_are_tried_by_turns() {
        let (mut parts, open) = (Parts::default(), numbers(0..2));
        for expected in [Breaks::GoesOn, Breaks::GoesOn, Breaks::StepsAside] {
            let carried = parts.carried(message(), &open);
            assert_eq!(parts.broke(message(), &carried, &open), expected);
        }
        let first = parts.carried(message(), &open);
        assert_eq!(first.len(), 1);
        parts.broke(message(), &first, &open);
        assert_ne!(parts.carried(message(), &open), first);
    }
}
