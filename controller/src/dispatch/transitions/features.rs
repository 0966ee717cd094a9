//! What a site asks of the agents that carry its mail, and some do not know.

use dd_proto::feature::Feature;

use super::*;
use crate::dispatch::Hello;

impl Core {
    /// From now on its site asks for what only some agents know.
    fn asks_for_a_client_certificate(&mut self) {
        let mut record = site(0);
        record.version.0 += 1;
        record.way.client_certificate = Some("member-ca".parse().unwrap());
        let (site, waiting) = (Arc::new(record), 0);
        self.apply(Event::SiteChanged { site, waiting });
    }
}

#[test]
fn a_site_that_asks_for_what_an_agent_does_not_know_waits_for_one_that_does() {
    let mut core = Core::idle();
    core.asks_for_a_client_certificate();
    let waiting = core.waiting();
    core.apply(Event::Arrived(waiting.clone()));
    core.read(vec![waiting]);
    assert!(core.assigned.is_empty(), "{:?}", core.words());
    let why = "no agent works: out1 is too old for --client-certificate";
    assert_eq!(core.no_agent(), why);
    let hello = Hello {
        features: [Feature::ClientCertificate].into(),
        ..hello("out2")
    };
    core.apply(Event::Attached { id: OUT2, hello });
    assert_eq!(core.assigned.len(), 1, "{:?}", core.words());
    assert_eq!(core.carrier(), OUT2);
    assert_eq!(core.no_agent(), "");
}

#[test]
fn a_site_is_known_to_wait_where_all_agents_that_take_work_are_too_old_for_it() {
    let mut core = Core::idle();
    let unknown = |core: &Core| core.state.site_states(core.clock())[0].unknown_to_agents;
    assert_eq!(unknown(&core), None);
    core.asks_for_a_client_certificate();
    assert_eq!(unknown(&core), Some(Feature::ClientCertificate));
    // One that knows it, and is kept from work, carries nothing either.
    let hello = Hello {
        features: [Feature::ClientCertificate].into(),
        trouble: "no address".to_owned(),
        ..hello("out2")
    };
    core.apply(Event::Attached { id: OUT2, hello });
    assert_eq!(unknown(&core), Some(Feature::ClientCertificate));
    let trouble = String::new();
    core.says(OUT2, AgentEvent::Health { trouble });
    assert_eq!(unknown(&core), None);
    // Where nobody works, that is what has to be said.
    core.apply(Event::Detached(OUT2));
    core.apply(Event::Detached(OUT1));
    assert_eq!(unknown(&core), None);
}

#[test]
fn nothing_more_goes_to_an_agent_that_does_not_know_what_its_site_asks_for_now() {
    let mut core = Core::flowing();
    let sent = core.assigned.len();
    core.asks_for_a_client_certificate();
    core.mail();
    // What is out was given by the old plan; nothing goes to it by the new one.
    assert_eq!(core.assigned.len(), sent, "{:?}", core.words());
}
