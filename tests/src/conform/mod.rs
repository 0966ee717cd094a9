//! What every agent must pass, whoever wrote it: a world of its own for each case, with the sentence of
//! `docs/agent-protocol.md` that the case stands for.
//!
//! `dd-conform` runs them with any agent; the tests run them with ours and with the one in Python.
//!
//! # Not here
//! Cases that only our own agent has to pass: `tests/tests/`.

pub mod answers;
pub mod basics;
mod controllers;
mod desk;
pub mod recipes;
pub mod scripted;
pub mod sessions;
pub mod stranger;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::world::{OUTBOUND, World};
use stranger::Stranger;

/// A provider whose only agent is a stranger.
#[derive(Debug)]
pub struct Bench {
    // First, so that it ends before its world.
    pub agent: Stranger,
    pub world: World,
}

/// One thing that an agent has to do.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// The sentence of the protocol.
    pub sentence: &'static str,
    run: Run,
}

/// In which surroundings.
#[derive(Debug, Clone, Copy)]
enum Run {
    /// A whole provider.
    Provider(fn(&mut Bench)),
    /// A controller that does what the case tells it; the agent is started by this recipe.
    Scripted(fn(&str)),
}

/// What a case came to; why, where it failed.
pub type Verdict = Result<(), String>;

/// The name the cases give to the agent.
pub const NAME: &str = "stranger";

impl Bench {
    pub fn start(recipe: &str) -> Self {
        let world = World::with_agents(0);
        let agent = Stranger::start(&world, NAME, OUTBOUND[0], recipe);
        Self { agent, world }
    }

    pub fn kill(&mut self) {
        self.agent.kill();
    }

    pub fn start_again(&mut self) {
        self.agent.run();
        self.world.attached(NAME);
    }

    /// The controller has refused nothing of what the agent said.
    fn contradicted_nothing(&self) {
        let agents = self.world.json(&["agent", "list"]);
        let mut agents = agents.as_array().into_iter().flatten();
        let agent = agents.find(|agent| agent["name"] == NAME);
        let trouble = agent.and_then(|agent| agent["trouble"].as_str());
        let trouble = trouble.unwrap_or_default();
        assert!(!trouble.contains("was refused"), "{trouble}");
    }
}

macro_rules! cases {
    ($($run:ident { $($module:ident::$case:ident: $sentence:literal,)* })*) => {
        /// All of them.
        pub const CASES: &[Case] = &[$($(Case {
            name: stringify!($case),
            sentence: $sentence,
            run: Run::$run($module::$case),
        }),*),*];
    };
}

cases! {
    Provider {
        basics::delivers_to_a_site_that_proves_itself:
            "When a session has proved itself the agent sends `Proved`, before the first MAIL",
        basics::tells_a_wrong_host_nothing:
            "Not one byte of an envelope leaves before the proof is given",
        basics::does_not_fall_back_to_plaintext:
            "An assignment with `tls_expected` says that the site has shown TLS before",
        basics::survives_a_kill:
            "Before the final dot: `DotSent` in the journal",
        basics::reports_what_the_site_said:
            "2yz to the dot is relayed, 4yz deferred, 5yz failed, with the site's own reply",
        basics::sends_no_dot_on_an_expired_lease:
            "No final dot is sent on an expired lease",
        basics::tells_a_report_again_that_was_not_acknowledged:
            "An entry leaves the journal when `Acknowledged` names its lease, and not before",
        answers::is_told_421_at_every_step:
            "4yz to greeting or EHLO of a proved host; 421, unless it answers the dot: `OUTCOME_BUSY`",
        answers::puts_off_what_552_refuses_at_rcpt:
            "552 to RCPT is deferred (RFC 5321 §4.5.3.1.10)",
        answers::names_each_recipient_with_its_own_answer:
            "`recipients`: what each recipient was answered",
        answers::hands_eight_bits_to_a_host_that_offers_no_extension:
            "A header in UTF-8 and 8-bit content go as they are",
        answers::takes_silence_behind_the_dot_for_doubt:
            "It broke behind the dot, without an answer: `OUTCOME_IN_DOUBT`",
        sessions::waits_where_a_further_session_is_turned_away:
            "Where a further session does not come about, the assignment waits for one that lives",
        sessions::tries_the_next_host_when_the_first_is_wrong:
            "Hosts are tried in order, and only one that proves itself gets mail",
        sessions::asks_for_addresses_anew_after_a_release:
            "`fresh`: DNS is asked anew, and no session opened before is used",
        sessions::ends_a_transaction_in_hand_when_a_site_is_closed:
            "`CloseSite` ends a site's sessions after the transaction in hand, and takes the plan back",
        sessions::takes_a_new_plan_for_a_changed_site:
            "A `RoutePlan` comes before the first assignment that names its version",
        sessions::looks_without_mail:
            "No lease is involved, and no MAIL is sent",
        basics::goes_on_while_the_controllers_clock_jumps:
            "Leases and beats are durations, and no time of the controller's is compared with the agent's",
    }
    Scripted {
        controllers::works_while_its_certificate_is_renewed:
            "`Enrollment.Renew` is called beside everything else: no beat and no assignment waits for it",
        controllers::tells_what_is_not_acknowledged_once_on_each_stream:
            "What is not acknowledged is told on each stream once, from the journal, and keeps nothing else waiting",
        controllers::gives_back_work_of_a_plan_it_does_not_have:
            "An assignment of another version is given back with `REASON_STALE_PLAN`, untried",
        controllers::works_on_behind_an_assignment_that_it_cannot_read:
            "An assignment that cannot be read is reported with `OUTCOME_AGENT_TROUBLE`, and ends no stream",
        controllers::works_on_behind_orders_that_it_cannot_read:
            "An order whose names or leases cannot be read costs only itself",
        controllers::leaves_a_site_alone_whose_proof_it_does_not_know:
            "A plan that cannot be read ends no stream either, such as one with a kind of proof that is newer than the agent",
        controllers::passes_over_orders_that_it_does_not_know:
            "Whoever meets a field, an event or an order that he does not know passes it over",
        controllers::gives_back_what_crosses_its_draining:
            "An assignment that crosses it comes back with `REASON_CLOSING`",
        controllers::gives_back_what_crosses_its_draining_late:
            "An agent that has nothing in hand still reads for a second",
        controllers::sends_no_part_of_a_content_that_was_cut_off:
            "A content that does not come whole gets no dot",
        controllers::sends_no_dot_when_beats_are_not_answered:
            "Every answered `Beat` renews all leases that have not expired",
        controllers::drops_what_welcome_does_not_name:
            "Whatever else is in hand is dropped before its dot",
        controllers::connects_only_where_it_is_permitted:
            "A host on a network that is forbidden is never connected to",
        controllers::ends_a_chain_of_84_certificates_with_a_verdict:
            "However long a chain is, the host has proved itself or it has not",
        controllers::takes_no_harm_from_certificates_beside_the_chain:
            "What else a host presents beside its chain changes nothing",
    }
}

impl Case {
    /// Runs it, in a world of its own.
    pub fn run(&self, recipe: &str) -> Verdict {
        let whole = AssertUnwindSafe(|| match self.run {
            Run::Provider(run) => {
                let mut bench = Bench::start(recipe);
                run(&mut bench);
                bench.contradicted_nothing();
            }
            Run::Scripted(run) => run(recipe),
        });
        catch_unwind(whole).map_err(|panic| said(&*panic))
    }
}

/// Runs cases, several at once, and tells each verdict as it is known. Returns how many failed.
pub fn run_all(
    cases: &[&Case],
    recipe: &str,
    at_once: usize,
    tell: impl Fn(&Case, &Verdict) + Sync,
) -> usize {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let telling = Mutex::new(());
    thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, cases.len().max(1)) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = case.run(recipe);
                    if verdict.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    let _one_at_a_time = telling.lock();
                    tell(case, &verdict);
                }
            });
        }
    });
    failed.into_inner()
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
    text.unwrap_or_else(|| "it panicked without a word".to_owned())
}
