//! What an agent tells twice, or too late, changes nothing: a journal that was settled long ago comes back.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use dd_tests::site::{Host, Received, Script, Site, Verdict};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

/// Answers the final dot when it is told to.
#[derive(Debug, Default)]
struct Patient {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrived: usize,
    answers: bool,
}

impl Host for Patient {
    fn rcpt(&self, _: &str) -> Option<String> {
        None
    }

    fn message(&self, _: Received) -> Verdict {
        let mut state = self.state.lock().unwrap();
        state.arrived += 1;
        let waiting = self.changed.wait_while(state, |state| !state.answers);
        drop(waiting.unwrap());
        Verdict::Takes
    }
}

impl Patient {
    fn arrived(&self) -> usize {
        self.state.lock().unwrap().arrived
    }

    fn answer(&self) {
        self.state.lock().unwrap().answers = true;
        self.changed.notify_all();
    }
}

/// A world in which one message was handed over and settled, with the agent's journal as it was on the way.
struct Told {
    world: World,
    host: Arc<Patient>,
    _home: Site,
    /// The dot is sent, no reply yet.
    doubt: Vec<u8>,
    /// The report is there, and not acknowledged.
    report: Vec<u8>,
}

impl Told {
    fn new() -> Self {
        let mut world = World::start();
        let host = Arc::new(Patient::default());
        let script = Script::with(&world.ca.identity(&["home.example"]));
        let home = Site::start(script.hosted(host.clone()));
        world.add_home("home", home.address(), &["--retry", "1s"]);
        world
            .smtp()
            .send("a@b.example", "me@home.example", &message("once"));
        until("the message at home", PATIENCE, || {
            (host.arrived() == 1).then_some(())
        });
        let journal = journal(&world);
        let doubt = fs::read(&journal).unwrap();
        world.controller().freeze();
        host.answer();
        until("the report in the journal", PATIENCE, || {
            (fs::read(&journal).unwrap().len() > doubt.len()).then_some(())
        });
        let report = fs::read(&journal).unwrap();
        world.controller().thaw();
        world.drained("home");
        Self {
            world,
            host,
            _home: home,
            doubt,
            report,
        }
    }

    /// The agent comes with this journal, and must change nothing by it.
    fn again(&mut self, old: &[u8]) {
        self.world.kill_agent("out1");
        fs::write(journal(&self.world), old).unwrap();
        self.world.start_agent("out1");
        self.world.attached("out1");
        // What comes now comes after the old news.
        let before = self.host.arrived();
        self.world
            .smtp()
            .send("a@b.example", "me@home.example", &message("new"));
        self.world.drained("home");
        assert_eq!(self.host.arrived(), before + 1, "something came again");
        assert!(self.world.controller().runs());
    }
}

#[test]
fn a_report_that_is_told_again_after_its_settlement_changes_nothing() {
    let mut told = Told::new();
    let report = told.report.clone();
    told.again(&report);
    told.again(&report);
}

#[test]
fn a_dot_that_is_told_again_after_its_settlement_sends_nothing_again() {
    let mut told = Told::new();
    let doubt = told.doubt.clone();
    told.again(&doubt);
}

#[test]
fn an_agent_with_leases_of_an_older_start_changes_nothing_that_is_settled() {
    let mut told = Told::new();
    for old in [told.report.clone(), told.doubt.clone()] {
        told.world.kill_controller();
        told.world.start_controller();
        told.again(&old);
    }
}

fn journal(world: &World) -> PathBuf {
    world.path().join("out1-state/journal")
}
