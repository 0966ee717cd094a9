//! A client that asks for more than it reads.

use std::sync::Arc;

use dd_controller::intake::lmtp::Protocol;
use dd_controller::intake::policy::{Directory, Space, Usage};
use dd_controller::intake::session::{MAX_UNWRITTEN, Output, Session, Surroundings};
use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::world;

struct Nothing;

impl Directory for Nothing {
    fn site_for(&self, _: &Domain) -> Option<Arc<Site>> {
        None
    }

    fn usage(&self, _: &SiteName) -> Usage {
        Usage::default()
    }

    fn space(&self) -> Space {
        Space::Enough
    }
}

fn session() -> Session {
    let around = Arc::new(Surroundings {
        settings: Arc::new(world::settings()),
        directory: Arc::new(Nothing),
        refusals: Arc::default(),
        quotas: Arc::default(),
    });
    let client = "192.0.2.1".parse().unwrap();
    let entropy = StdRng::seed_from_u64(1);
    Session::new(
        around,
        Protocol::Smtp,
        client,
        entropy,
        Timestamp::UNIX_EPOCH,
    )
}

/// What there is to write, all in one.
fn to_write(session: &mut Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(output) = session.next_output() {
        if let Output::Write(part) = output {
            bytes.extend_from_slice(&part);
        }
    }
    bytes
}

#[test]
fn replies_that_are_not_read_hold_up_the_commands_behind_them() {
    const COMMANDS: usize = 5000;
    let mut session = session();
    session.receive(&b"HELP\r\n".repeat(COMMANDS), Timestamp::UNIX_EPOCH);
    let mut replies = 0;
    loop {
        let unread = to_write(&mut session);
        assert!(unread.len() < MAX_UNWRITTEN + 200, "{}", unread.len());
        replies += unread.windows(2).filter(|two| two == b"\r\n").count();
        if !session.written() {
            break;
        }
    }
    assert_eq!(replies, COMMANDS + 1, "and the greeting");
}
