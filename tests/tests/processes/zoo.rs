//! Some rows of the simulation's table of answers, with the real programs over TCP.
//!
//! Each site's retry interval is an hour: a good message that waited for it would not be there in time.

use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;
use dd_tests::zoo::fault::{Does, Fault};
use dd_tests::zoo::habits::{Habits, Place};
use dd_tests::zoo::served::Served;
use dd_tests::zoo::{Home, kinds};

/// Whether the site takes another message first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    First,
    Behind,
}

/// What is answered once to one message, at which command; and whether that is the end of it.
const ROWS: &[(Place, &str, Sent, bool)] = &[
    (Place::Mail, "450", Sent::First, false),
    (Place::Mail, "452", Sent::Behind, false),
    (Place::Mail, "500", Sent::Behind, true),
    (Place::Mail, "501", Sent::First, true),
    (Place::Mail, "550", Sent::First, true),
    (Place::Mail, "550", Sent::Behind, true),
    (Place::Mail, "551", Sent::Behind, true),
    (Place::Mail, "552", Sent::First, true),
    (Place::Mail, "553", Sent::First, true),
    (Place::Mail, "554", Sent::Behind, true),
    (Place::Mail, "555", Sent::First, true),
    (Place::Mail, "421", Sent::Behind, false),
    (Place::Rcpt, "450", Sent::First, false),
    (Place::Rcpt, "450", Sent::Behind, false),
    (Place::Rcpt, "550", Sent::First, true),
    (Place::Rcpt, "551", Sent::Behind, true),
    (Place::Rcpt, "552", Sent::First, false),
    (Place::Rcpt, "553", Sent::Behind, true),
    (Place::Rcpt, "554", Sent::First, true),
    (Place::Rcpt, "421", Sent::Behind, false),
    (Place::Rcpt, "close", Sent::Behind, false),
    (Place::Data, "451", Sent::First, false),
    (Place::Data, "550", Sent::Behind, true),
    (Place::Data, "554", Sent::First, true),
    (Place::Data, "close", Sent::Behind, false),
    (Place::Dot, "450", Sent::First, false),
    (Place::Dot, "452", Sent::Behind, false),
    (Place::Dot, "550", Sent::First, true),
    (Place::Dot, "552", Sent::Behind, true),
    (Place::Dot, "554", Sent::First, true),
    (Place::Dot, "421", Sent::Behind, false),
    (Place::Dot, "close", Sent::Behind, false),
];

#[test]
fn what_one_message_is_answered_delays_no_other() {
    let world = World::start();
    let homes: Vec<_> = (0..)
        .zip(ROWS)
        .map(|(n, row)| home(&world, n, row))
        .collect();
    let mut client = world.smtp();
    let mut send = |from: &str, to: &str, n: usize| {
        let (from, to) = (format!("{from}@b.example"), format!("{to}@row{n}.example"));
        client.send(&from, &to, &message(&from));
    };
    for (n, (_, _, sent, _)) in ROWS.iter().enumerate() {
        if *sent == Sent::Behind {
            send("opener", "user0", n);
        }
        send("bad", "user1", n);
        send("good", "user2", n);
    }
    for (n, (home, row)) in homes.iter().zip(ROWS).enumerate() {
        let copies = |from: &str, to: &str| {
            let (from, to) = (format!("{from}@b.example"), format!("{to}@row{n}.example"));
            home.home().copies(&from, &to)
        };
        until(&format!("the good message of {row:?}"), PATIENCE, || {
            (copies("good", "user2") == 1).then_some(())
        });
        let (_, _, sent, is_final) = row;
        if *is_final {
            world.drained(&format!("row{n}"));
            // What a home refuses before it has taken anything is kept, and offered again once it has.
            let offered_again = usize::from(*sent == Sent::First);
            assert_eq!(copies("bad", "user1"), offered_again, "{row:?}");
        }
        assert_eq!(copies("good", "user2"), 1, "{row:?}");
    }
}

fn home(world: &World, n: usize, (at, answer, _, _): &(Place, &str, Sent, bool)) -> Served {
    let mut home = Home::new(Habits {
        keywords: match n % 2 {
            0 => &["8BITMIME"],
            _ => &["8BITMIME", "PIPELINING"],
        },
        ..kinds::plain()
    });
    home.faults.push(Fault {
        at: *at,
        does: match *answer {
            "close" => Does::Closes,
            code => Does::Says(format!("{code} so it is")),
        },
        times: 1,
        sender: "bad",
    });
    let served = Served::start(home);
    let (name, domain) = (format!("row{n}"), format!("row{n}.example"));
    let host = served.address().to_string();
    let mut args = vec!["site", "add", &name, "--domain", &domain, "--host", &host];
    args.extend(["--proof", "port", "--retry", "1h", "--connections", "1"]);
    let _ = world.ddadm().run(&args).done();
    served
}
