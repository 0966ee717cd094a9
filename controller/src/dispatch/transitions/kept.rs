//! A 5yz of a home that is not trusted is kept; a home that refuses everybody is not set up; neither locks a home out.

use super::*;
use crate::dispatch::whom::Whom;
use crate::store::Waiting;
use dd_proto::report::Stage;

impl Core {
    /// A site that was down and is back: its first message is out.
    fn back(mail: u64) -> (Self, Vec<Waiting>) {
        let mut core = Self::idle();
        let mut waiting: Vec<Waiting> = (0..mail).map(|_| core.waiting()).collect();
        for one in &waiting {
            core.apply(Event::Arrived(one.clone()));
        }
        core.report(Outcome::Unreachable, Vec::new());
        core.all_written();
        core.advance(Duration::from_secs(70));
        core.beats();
        core.read(waiting.clone());
        core.proved();
        waiting.iter_mut().for_each(|one| one.attempts = 1);
        (core, waiting)
    }

    fn refuse(&mut self, waiting: &mut Waiting) {
        self.answer(waiting, Disposition::Failed);
        waiting.kept = true;
        waiting.not_before = Some(crate::dispatch::kept::PARKED);
    }

    fn answer(&mut self, waiting: &Waiting, disposition: Disposition) {
        self.answer_only(waiting, disposition);
        self.all_written();
    }

    fn leases(&self) -> Vec<Lease> {
        let out = |it: &&crate::dispatch::event::Assign| self.state.is_leased(&it.lease, self.now);
        self.assigned
            .iter()
            .filter(out)
            .map(|it| it.lease.clone())
            .collect()
    }

    fn refuse_lease(&mut self, lease: Lease, (code, enhanced, stage): Refusal) {
        let mut results = result(Disposition::Failed);
        results[0].reply.code = code;
        results[0].reply.enhanced = enhanced.to_owned();
        let mut told = report(lease, Outcome::Transacted, results);
        told.stage = stage;
        self.said(AgentEvent::Report(Box::new(told)));
    }

    fn answer_only(&mut self, waiting: &Waiting, disposition: Disposition) {
        let out = self
            .assigned
            .iter()
            .rev()
            .find(|it| it.lease.delivery == waiting.delivery);
        let lease = out.expect("it is out").lease.clone();
        let report = report(lease, Outcome::Transacted, result(disposition));
        self.said(AgentEvent::Report(Box::new(report)));
    }

    /// Answers reads of the head until there are none: this is parked, and nothing is due.
    fn reads_parked(&mut self, parked: &[Waiting]) {
        while let Some(of) = self.last_head.take() {
            let is_behind = |it: &&Waiting| of.after.is_some_and(|after| it.position > after);
            let found = parked.iter().filter(is_behind).cloned().collect();
            self.read_with(found, Some(crate::dispatch::kept::PARKED));
        }
    }

    fn refuse_until_it_waits(&mut self, parked: &[Waiting]) {
        for _ in 0..10 {
            if self.phase() == "waiting(refused)" {
                return;
            }
            if let Some(lease) = self.leases().pop() {
                self.refuse_lease(lease, NOT_SET_UP);
            }
            self.all_written();
            self.reads_parked(parked);
        }
        panic!("{}", self.phase());
    }

    fn out(&self, waiting: &Waiting) -> usize {
        let assigned = self.assigned.iter();
        assigned
            .filter(|it| it.lease.delivery == waiting.delivery)
            .count()
    }
}

/// What a reply is about decides how it is taken.
type Refusal = (u16, &'static str, Stage);

const NOT_SET_UP: Refusal = (554, "5.7.1", Stage::Rcpt);
const UNKNOWN: Refusal = (550, "5.1.1", Stage::Rcpt);
const BAD_SENDER: Refusal = (553, "5.1.8", Stage::Mail);

impl Core {
    /// A site that has accepted something since the start.
    fn trusted() -> Self {
        let mut core = Self::flowing();
        core.report(Outcome::Transacted, result(Disposition::Relayed));
        core.all_written();
        core
    }

    /// The newest is refused with this.
    fn refuse_with(&mut self, refusal: Refusal) {
        self.refuse_lease(self.lease(), refusal);
    }

    fn settles(&self) -> usize {
        let words = self.words();
        words.iter().filter(|word| *word == "Settle").count()
    }

    fn last_outcome(&self) -> &'static str {
        let view = self.state.site_view(&name(), self.clock()).unwrap();
        view.last_attempts[0].outcome
    }

    fn tells_contact(&self) -> usize {
        let words = self.words();
        words.iter().filter(|word| *word == "TellContact").count()
    }
}

#[test]
fn a_refusal_after_an_absence_is_kept_and_not_sent_again_within_an_interval() {
    let (mut core, mut mail) = Core::back(1);
    let tries = core.out(&mail[0]);
    core.refuse(&mut mail[0]);
    assert_eq!(core.settles(), 0);
    assert_eq!(core.last_outcome(), "kept");
    core.read_with(Vec::new(), Some(crate::dispatch::kept::PARKED));
    assert_eq!(core.phase(), "waiting(refused)");
    assert_eq!(core.out(&mail[0]), tries, "not seconds later");
    core.advance(Duration::from_secs(70));
    core.beats();
    core.read(vec![mail[0].clone()]);
    assert_eq!(core.out(&mail[0]), tries + 1);
    core.proved();
    core.effects.clear();
    core.refuse_with(NOT_SET_UP);
    assert_eq!(core.settles(), 0, "nothing was accepted since");
}

#[test]
fn a_refusal_is_final_once_the_site_has_accepted_something() {
    let (mut core, mut mail) = Core::back(3);
    core.refuse(&mut mail[0]);
    core.answer(&mail[1], Disposition::Relayed);
    core.effects.clear();
    core.answer_only(&mail[2], Disposition::Failed);
    assert_eq!(core.settles(), 1);
    assert_eq!(core.last_outcome(), "failed");
    core.all_written();
    for _ in 0..3 {
        core.read_with(vec![mail[0].clone()], Some(crate::dispatch::kept::PARKED));
    }
    assert_eq!(
        core.lease().delivery,
        mail[0].delivery,
        "the kept one is sent again"
    );
    core.effects.clear();
    core.answer_only(&mail[0], Disposition::Failed);
    assert_eq!(core.settles(), 1);
}

#[test]
fn three_refused_and_nothing_accepted_are_the_homes_fault() {
    let (mut core, mut mail) = Core::back(4);
    for one in &mut mail[..2] {
        core.refuse(one);
    }
    assert_eq!(core.phase(), "flowing");
    core.answer_only(&mail[2], Disposition::Failed);
    assert_eq!(core.phase(), "waiting(refused)");
    assert_eq!(core.tells_contact(), 1, "{:?}", core.words());
    core.all_written();
    core.answer(&mail[3], Disposition::Failed);
    for one in &mut mail {
        one.kept = true;
        one.not_before = Some(crate::dispatch::kept::PARKED);
    }
    // Each probe carries what was not offered lately, one after the other, and stops at three.
    core.advance(Duration::from_secs(70));
    core.beats();
    core.read(mail.clone());
    core.proved();
    for one in &mail[..3] {
        assert_eq!(core.lease().delivery, one.delivery, "one at a time");
        core.answer(one, Disposition::Failed);
    }
    assert_eq!(core.phase(), "waiting(refused)");
    core.advance(Duration::from_secs(70));
    core.beats();
    // What is due has its turn; there is none.
    core.read_with(Vec::new(), Some(crate::dispatch::kept::PARKED));
    core.read(vec![mail[3].clone()]);
    assert_eq!(core.lease().delivery, mail[3].delivery, "another one");
    core.proved();
    core.effects.clear();
    core.answer(&mail[3], Disposition::Relayed);
    assert_eq!(core.phase(), "flowing", "it has been set up");
}

/// Refuses all that is out until the site waits. How often something bounced meanwhile, and the contact was written to.
fn refuse_all(core: &mut Core, refusal: Refusal, parked: &[Waiting]) -> (usize, usize) {
    let (mut settled, mut told) = (0, 0);
    for _ in 0..20 {
        match core.leases().first().cloned() {
            Some(lease) => core.refuse_lease(lease, refusal),
            None => core.reads_parked(parked),
        }
        settled += core.settles();
        told += core.tells_contact();
        core.all_written();
        if core.phase() == "waiting(refused)" && core.leases().is_empty() {
            return (settled, told);
        }
    }
    panic!("{}", core.phase());
}

/// At once where what it says is about itself; else when it has gone on for long.
#[test]
fn a_home_that_refuses_everything_from_the_beginning_keeps_all_and_its_contact_is_told_once() {
    const TO_DATA: Refusal = (554, "5.5.1", Stage::Data);
    const BEHIND_THE_DOT: Refusal = (550, "5.7.1", Stage::EndOfData);
    for (refusal, told_at_once) in [
        (NOT_SET_UP, 1),
        (TO_DATA, 1),
        (BAD_SENDER, 0),
        (BEHIND_THE_DOT, 0),
    ] {
        let mut core = Core::idle();
        let mut mail: Vec<Waiting> = (0..5).map(|_| core.waiting()).collect();
        for one in &mail {
            core.apply(Event::Arrived(one.clone()));
        }
        core.proved();
        park(&mut mail);
        let (mut settled, mut told) = refuse_all(&mut core, refusal, &mail);
        assert_eq!((settled, told), (0, told_at_once), "{refusal:?}");
        for _ in 0..100 {
            core.advance(Duration::from_secs(70));
            core.beats();
            core.reads_parked(&mail);
            core.proved();
            let (more_settled, more_told) = refuse_all(&mut core, refusal, &mail);
            settled += more_settled;
            told += more_told;
        }
        assert_eq!((settled, told), (0, 1), "{refusal:?}");
        let view = core.state.site_view(&name(), core.clock()).unwrap();
        assert!(view.refuses_all, "{refusal:?}");
    }
}

#[test]
fn after_a_start_nothing_is_known_of_a_home() {
    let mut core = Core::proving();
    core.report(Outcome::Transacted, result(Disposition::Failed));
    assert_eq!(core.settles(), 0, "{:?}", core.words());
}

#[test]
fn a_trusted_home_that_refuses_everybody_loses_little() {
    for refusal in [NOT_SET_UP, UNKNOWN, BAD_SENDER] {
        let mut core = Core::trusted();
        for _ in 0..30 {
            core.mail();
        }
        let mut settled = 0;
        for lease in core.leases() {
            core.effects.clear();
            core.refuse_lease(lease, refusal);
            settled += core.settles();
            core.all_written();
        }
        assert!(settled <= 3, "{refusal:?}: {settled}");
        if refusal == NOT_SET_UP {
            assert_eq!(core.phase(), "waiting(refused)");
        }
    }
}

#[test]
fn refusals_of_one_recipient_among_others_are_final() {
    let mut core = Core::trusted();
    for n in 0..10 {
        let waiting = core.waiting();
        let whom = Whom::made_up(1000 + n, 5);
        core.whom.insert(waiting.delivery.message, whom);
        core.apply(Event::Arrived(waiting));
        core.effects.clear();
        core.refuse_with(UNKNOWN);
        assert_eq!(core.settles(), 1, "{n}");
        core.all_written();
    }
}

#[test]
fn forty_unknown_recipients_do_not_keep_the_next_message_waiting() {
    let mut core = Core::proving();
    core.proved();
    for n in 0..40 {
        core.refuse_with(UNKNOWN);
        assert_eq!(core.phase(), "flowing", "{n}");
        core.mail();
    }
    let good = core.lease();
    assert_eq!(core.assigned.len(), 41);
    core.said(AgentEvent::Report(Box::new(report(
        good,
        Outcome::Transacted,
        result(Disposition::Relayed),
    ))));
    assert_eq!(core.phase(), "flowing");
}

#[test]
fn new_mail_is_offered_at_once_to_a_home_that_refused_only_recipients() {
    let mut core = Core::proving();
    core.proved();
    for _ in 0..3 {
        core.refuse_with(UNKNOWN);
        core.mail();
    }
    core.refuse_with(UNKNOWN);
    core.all_written();
    core.read_with(Vec::new(), Some(crate::dispatch::kept::PARKED));
    assert_eq!(core.phase(), "waiting(refused)");
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    core.advance(Duration::from_secs(1));
    core.read(vec![waiting.clone()]);
    assert_eq!(core.lease().delivery, waiting.delivery);
}

#[test]
fn a_release_offers_what_is_kept_at_once() {
    let (mut core, mut mail) = Core::back(1);
    core.refuse(&mut mail[0]);
    let parked = Some(crate::dispatch::kept::PARKED);
    core.read_with(Vec::new(), parked);
    assert_eq!(core.phase(), "waiting(refused)");
    let tries = core.out(&mail[0]);
    core.release();
    core.read_with(Vec::new(), parked);
    core.read(vec![mail[0].clone()]);
    assert_eq!(core.out(&mail[0]), tries + 1);
}

#[test]
fn other_refusals_between_do_not_make_a_home_trusted_that_says_the_same_to_everybody() {
    let mut core = Core::trusted();
    let mut settled = Vec::new();
    for n in 0..6 {
        core.mail();
        core.effects.clear();
        core.refuse_with(if n % 2 == 0 { NOT_SET_UP } else { BAD_SENDER });
        settled.push(core.settles());
        core.all_written();
    }
    // The third that is not relayed is not believed any more.
    assert_eq!(settled[..4], [1; 4]);
    assert_eq!(settled[4..], [0; 2]);
}

/// Each message is for an unknown recipient too.
#[test]
fn what_unknown_recipients_are_told_does_not_hide_what_the_others_are() {
    let mut core = Core::trusted();
    let mut settled = Vec::new();
    for _ in 0..4 {
        let mut waiting = core.waiting();
        waiting.open.push(dd_proto::id::RecipientNumber(1));
        core.apply(Event::Arrived(waiting));
        core.effects.clear();
        let mut results = result(Disposition::Failed);
        results[0].reply.enhanced = "5.1.1".to_owned();
        let mut other = result(Disposition::Failed).remove(0);
        other.number = dd_proto::id::RecipientNumber(1);
        other.reply.code = 552;
        results.push(other);
        let mut told = report(core.lease(), Outcome::Transacted, results);
        told.stage = Stage::EndOfData;
        core.said(AgentEvent::Report(Box::new(told)));
        settled.push(core.settles());
        core.all_written();
    }
    assert_eq!(settled, [1, 1, 0, 0]);
}

#[test]
fn what_is_parked_does_not_wait_for_one_that_was_put_off_for_longer() {
    let (mut core, mut mail) = Core::back(2);
    core.refuse(&mut mail[0]);
    core.answer(&mail[1], Disposition::Deferred);
    let hours = wall(core.now + Duration::from_secs(7200));
    mail[1].not_before = Some(hours);
    core.read_with(Vec::new(), Some(hours));
    assert_eq!(core.phase(), "waiting(deferred)");
    let tries = core.out(&mail[0]);
    core.advance(Duration::from_secs(70));
    core.beats();
    core.read_with(Vec::new(), Some(hours));
    core.read(vec![mail[0].clone()]);
    assert_eq!(core.out(&mail[0]), tries + 1, "{}", core.phase());
}

#[test]
fn an_unknown_recipient_does_not_make_a_home_misconfigured_that_was_so_before() {
    let mut core = Core::proving();
    core.proved();
    for _ in 0..3 {
        core.mail();
    }
    for lease in core.leases().into_iter().take(3) {
        core.refuse_lease(lease, NOT_SET_UP);
    }
    assert_eq!(core.tells_contact(), 1);
    for lease in core.leases() {
        core.refuse_lease(lease, NOT_SET_UP);
    }
    core.all_written();
    // An operator has taken away what was kept.
    core.advance(Duration::from_secs(70));
    core.beats();
    for _ in 0..4 {
        core.read_with(Vec::new(), None);
    }
    assert_eq!(core.phase(), "idle");
    core.mail();
    core.proved();
    core.refuse_with(UNKNOWN);
    assert_eq!(core.tells_contact(), 0);
    core.all_written();
    core.read_with(Vec::new(), Some(crate::dispatch::kept::PARKED));
    assert_eq!(core.phase(), "waiting(refused)");
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    core.advance(Duration::from_secs(1));
    core.read(vec![waiting.clone()]);
    assert_eq!(core.lease().delivery, waiting.delivery, "offered at once");
}

#[test]
fn the_turn_of_what_is_parked_goes_on_in_front_when_nothing_stands_behind() {
    let (mut core, mut mail) = Core::back(3);
    park(&mut mail);
    core.refuse_until_it_waits(&mail);
    for n in 1..5 {
        let tries = core.assigned.len();
        core.advance(Duration::from_secs(70));
        core.beats();
        core.reads_parked(&mail);
        let phase = core.phase();
        assert!(core.assigned.len() > tries, "no probe: {n} {phase}");
        core.proved();
        core.refuse_until_it_waits(&mail);
    }
}

fn park(mail: &mut [Waiting]) {
    let parked = crate::dispatch::kept::PARKED;
    for (n, one) in (1..).zip(mail) {
        one.kept = true;
        one.not_before = Some(parked);
        let at = u64::try_from(parked.as_millisecond()).unwrap();
        one.position = crate::store::Position::made_up(at, n);
    }
}

/// The last is to nobody; the others would be taken.
#[test]
fn a_probe_that_begins_with_the_last_of_what_is_parked_goes_on_with_the_first_once() {
    let (mut core, mut mail) = Core::back(4);
    park(&mut mail);
    core.refuse_until_it_waits(&mail);
    for lease in core.leases() {
        core.refuse_lease(lease, NOT_SET_UP);
    }
    core.all_written();
    core.advance(Duration::from_secs(70));
    core.beats();
    core.reads_parked(&mail);
    core.proved();
    core.refuse_until_it_waits(&mail);
    core.advance(Duration::from_secs(70));
    core.beats();
    core.reads_parked(&mail);
    let last = core.leases().pop().expect("a probe");
    assert_eq!(last.delivery, mail[3].delivery);
    core.proved();
    let tries = core.assigned.len();
    core.refuse_lease(last, UNKNOWN);
    core.all_written();
    core.reads_parked(&mail);
    for one in &mail[..3] {
        let lease = core.leases().pop().expect("it goes on in front");
        assert_eq!(lease.delivery, one.delivery);
        core.refuse_lease(lease, UNKNOWN);
        core.all_written();
        core.reads_parked(&mail);
    }
    assert_eq!(core.assigned.len(), tries + 3, "each once");
    assert_eq!(core.phase(), "waiting(refused)");
}
