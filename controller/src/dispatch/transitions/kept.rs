//! A 5yz after an absence is kept, sent once more, and is the home's fault if there are too many.

use super::*;
use crate::store::Waiting;

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
        let out = self
            .assigned
            .iter()
            .rev()
            .find(|it| it.lease.delivery == waiting.delivery);
        let lease = out.expect("it is out").lease.clone();
        let report = report(lease, Outcome::Transacted, result(disposition));
        self.said(AgentEvent::Report(report));
        let naming = self
            .effects
            .iter()
            .rev()
            .any(|it| matches!(it, Effect::Name(..)));
        self.all_written();
        if naming {
            self.apply(Event::Named {
                delivery: waiting.delivery.clone(),
                recipients: vec![waiting.delivery.to_string()],
                reply: "550 no".to_owned(),
            });
        }
    }

    fn out(&self, waiting: &Waiting) -> usize {
        let assigned = self.assigned.iter();
        assigned
            .filter(|it| it.lease.delivery == waiting.delivery)
            .count()
    }
}

#[test]
fn a_refusal_after_an_absence_is_kept_and_sent_once_more_when_nothing_else_waits() {
    let (mut core, mut mail) = Core::back(1);
    let tries = core.out(&mail[0]);
    core.refuse(&mut mail[0]);
    assert!(!core.words().contains(&"Settle".to_owned()));
    // Nothing else is left: the parked one has its turn.
    core.read(vec![mail[0].clone()]);
    assert_eq!(core.out(&mail[0]), tries + 1);
    let lease = core.lease();
    core.effects.clear();
    core.said(AgentEvent::Report(report(
        lease,
        Outcome::Transacted,
        result(Disposition::Failed),
    )));
    assert!(
        core.words().contains(&"Settle".to_owned()),
        "{:?}",
        core.words()
    );
}

#[test]
fn a_refusal_is_final_once_the_site_has_accepted_something() {
    let (mut core, mut mail) = Core::back(3);
    core.refuse(&mut mail[0]);
    core.answer(&mail[1], Disposition::Relayed);
    let lease = core
        .assigned
        .iter()
        .find(|it| it.lease.delivery == mail[2].delivery);
    let lease = lease.unwrap().lease.clone();
    core.effects.clear();
    core.said(AgentEvent::Report(report(
        lease,
        Outcome::Transacted,
        result(Disposition::Failed),
    )));
    assert!(core.words().contains(&"Settle".to_owned()));
    core.all_written();
    core.read(vec![mail[0].clone()]);
    assert_eq!(
        core.lease().delivery,
        mail[0].delivery,
        "the kept one is sent once more"
    );
}

#[test]
fn three_refused_and_nothing_accepted_are_the_homes_fault() {
    let (mut core, mut mail) = Core::back(4);
    for one in &mut mail[..2] {
        core.refuse(one);
    }
    assert_eq!(core.phase(), "flowing");
    core.refuse(&mut mail[2]);
    assert_eq!(core.phase(), "waiting(refused)");
    assert!(
        core.words().contains(&"TellContact".to_owned()),
        "{:?}",
        core.words()
    );
    // What was out besides comes back; the probe then carries the oldest parked mail and nothing else.
    core.refuse(&mut mail[3]);
    let tries = core.out(&mail[0]);
    core.advance(Duration::from_secs(70));
    core.beats();

    core.read(mail.clone());
    assert_eq!(core.out(&mail[0]), tries + 1);
    core.proved();
    core.mail();
    assert_eq!(
        core.lease().delivery,
        mail[0].delivery,
        "nothing goes out beside the probe"
    );
    core.refuse(&mut mail[0]);
    assert_eq!(core.phase(), "waiting(refused)", "kept again");
    core.advance(Duration::from_secs(70));
    core.beats();

    core.read(mail.clone());
    core.proved();
    core.answer(&mail[0], Disposition::Relayed);
    assert_eq!(core.phase(), "flowing", "it has been set up");
}

#[test]
fn a_site_that_was_never_away_fails_mail_at_once() {
    let mut core = Core::proving();
    core.report(Outcome::Transacted, result(Disposition::Failed));
    assert!(core.words().contains(&"Settle".to_owned()));
}
