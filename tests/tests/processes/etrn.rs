//! ETRN over SMTP: the truth for those who proved themselves, one answer for everybody else.

use std::net::{IpAddr, Ipv4Addr};

use dd_tests::measure::silent_line;
use dd_tests::secure::{Member, code, connect_from};
use dd_tests::site::{Script, Site};
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const PASSWORD: &str = "correct horse battery";
/// Never an address of a site, an agent or a listener.
const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// `AUTH PLAIN` with a user and a password.
fn plain(user: &str, password: &str) -> String {
    use base64::Engine as _;
    let text = format!("\0{user}\0{password}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    format!("AUTH PLAIN {encoded}")
}

fn member(world: &World, identity: Option<&dd_tests::ca::Identity>) -> Member {
    Member::connect(world.listeners().smtp, ASKER, &world.provider, identity)
}

#[test]
fn who_signed_in_is_told_the_truth_and_mail_goes_to_the_configured_host() {
    let world = World::start();
    let mut home = world.away("home", 3, PASSWORD);
    let _other = world.home("other", &[]);
    home.resume();
    let mut member = member(&world, None);
    assert_eq!(code(&member.say(&plain("home", "wrong password"))), 535);
    assert_eq!(code(&member.say(&plain("nobody", PASSWORD))), 535);
    assert_eq!(code(&member.say(&plain("home", PASSWORD))), 235);
    for node in [
        "other.example",
        "nowhere.example",
        "@other.example",
        "[127.0.0.1]",
    ] {
        assert_eq!(code(&member.say(&format!("ETRN {node}"))), 459, "{node}");
    }
    let reply = member.say("ETRN home.example");
    assert!(reply.starts_with("253 2.0.0 3 "), "{reply}");
    home.received(3);
    world.drained("home");
    for node in ["home.example", "#home", "home", "@example"] {
        let reply = member.say(&format!("ETRN {node}"));
        assert!(reply.starts_with("251 "), "{node}: {reply}");
    }
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    assert_eq!(code(&member.say("ETRN home.example")), 458);
}

#[test]
fn the_sites_own_certificate_proves_it_and_no_other() {
    let world = World::start();
    let mut home = world.away("home", 2, PASSWORD);
    home.resume();
    let stranger = dd_tests::ca::Ca::new("Members of the provider").identity(&["home.example"]);
    let neighbour = world.ca.identity(&["neighbour.example"]);
    let own = world.ca.identity(&["home.example"]);
    let mut member = member(&world, Some(&own));
    let reply = member.say("ETRN home.example");
    assert!(reply.starts_with("253 2.0.0 2 "), "{reply}");
    home.received(2);
    world.drained("home");
    assert_eq!(code(&member.say("ETRN home.example")), 251);
    for identity in [&stranger, &neighbour] {
        let mut member = self::member(&world, Some(identity));
        assert_eq!(code(&member.say("ETRN home.example")), 250);
    }
    // A node that is not its own is no concern of its certificate's.
    assert_eq!(code(&member.say("ETRN nowhere.example")), 250);
}

#[test]
fn a_listed_address_proves_a_static_ip_site_and_a_known_address_proves_nothing_else() {
    let world = World::start();
    let mut fixed = Site::start(Script::plain());
    let address = fixed.address();
    world.add_listed("fixed", address);
    fixed.stop();
    world.queue("fixed", 1);
    fixed.resume();
    let ask = |from: IpAddr, node: &str| {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut stream = BufReader::new(connect_from(from, world.listeners().smtp));
        let mut line = String::new();
        for say in ["EHLO fixed", &format!("ETRN {node}")] {
            stream.read_line(&mut line).expect("a greeting or a reply");
            while line.as_bytes().get(3) == Some(&b'-') {
                line.clear();
                stream.read_line(&mut line).expect("a reply");
            }
            line.clear();
            let say = format!("{say}\r\n");
            stream.get_mut().write_all(say.as_bytes()).expect("sent");
        }
        loop {
            line.clear();
            stream.read_line(&mut line).expect("a reply");
            if line.as_bytes().get(3) == Some(&b' ') && !line.ends_with("ETRN\r\n") {
                return line;
            }
        }
    };
    let reply = ask(address.ip(), "fixed.example");
    assert!(reply.starts_with("253 2.0.0 1 "), "{reply}");
    fixed.received(1);
    world.drained("fixed");
    assert!(ask(address.ip(), "fixed.example").starts_with("251 "));
    assert!(ask(ASKER, "fixed.example").starts_with("250 "));
    assert!(ask(address.ip(), "nowhere.example").starts_with("250 "));
}

#[test]
fn a_stranger_is_always_told_the_same_and_still_wakes_the_site() {
    let world = World::start();
    let mut home = world.away("home", 2, PASSWORD);
    home.resume();
    let mut client = world.smtp();
    let mut answers = Vec::new();
    for node in [
        "home.example",
        "nowhere.example",
        "#home",
        "#nobody",
        "@example",
    ] {
        let reply = client.say(&format!("ETRN {node}"));
        answers.push((reply.code, reply.text.replace(node, "NODE")));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    home.received(2);
}

#[test]
fn a_stranger_who_asks_without_end_keeps_no_member_out() {
    let world = World::start();
    let mut home = world.away("home", 1, PASSWORD);
    let mut stranger = world.smtp();
    for _ in 0..2000 {
        stranger.write(b"ETRN home.example\r\n");
    }
    for _ in 0..2000 {
        assert_eq!(stranger.reply().code, 250);
    }
    home.resume();
    let mut member = member(&world, None);
    assert_eq!(code(&member.say(&plain("home", PASSWORD))), 235);
    for _ in 0..10 {
        let code = code(&member.say("ETRN home.example"));
        assert!(matches!(code, 251 | 253), "{code}");
    }
    home.received(1);
    until("the queue to be empty", PATIENCE, || {
        member
            .say("ETRN home.example")
            .starts_with("251 ")
            .then_some(())
    });
}

#[test]
fn whatever_a_silent_connection_hangs_at_the_mail_is_at_the_new_address_when_the_member_asks() {
    let world = World::start();
    for phase in silent_line::PHASES {
        let _ = silent_line::at(&world, phase);
    }
}
