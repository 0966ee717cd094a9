//! What strangers may cost: whatever they do at the doors, those who are known are served, and memory is bounded.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use dd_tests::http::curl;
use dd_tests::secure::connect_from;
use dd_tests::strangers::{self, h2};
use dd_tests::submit::message;
use dd_tests::wait::PATIENCE;
use dd_tests::world::World;

const PASSWORD: &str = "correct horse battery";
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn all_are_served(world: &mut World, number: usize) {
    let text = message(&format!("number-{number}"));
    world.smtp().send("a@b.example", "me@home.example", &text);
    world.lmtp().send("a@b.example", "me@home.example", &text);
    let credentials = ["--user=home", &format!("--password={PASSWORD}")].map(str::to_owned);
    let output = Command::new("wget")
        .args(["-q", "-T", "60", "-O", "-", "--auth-no-challenge"])
        .args(credentials)
        .arg(world.url("/etrn?wait=30"))
        .output()
        .expect("wget can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.starts_with("home: "),
        "{output:?}"
    );
    world.kill_agent("out1");
    world.start_agent("out1");
    world.attached("out1");
    let metrics = format!("http://{}/healthz", world.listeners().metrics);
    assert_eq!(curl(&[&metrics]).body, "ok\n");
}

#[test]
fn a_thousand_idle_connections_leave_feeder_member_and_agent_served() {
    let mut world = strangers::world();
    let home = world.home("home", &["--retry", "1s"]);
    world.set_password("home", PASSWORD);
    let one = |_: u16| STRANGER;
    let many = |n: u16| {
        let [high, low] = n.to_be_bytes();
        Ipv4Addr::new(127, 10 + high, low, 1)
    };
    let spreads: [fn(u16) -> Ipv4Addr; 2] = [one, many];
    for (round, from) in spreads.into_iter().enumerate() {
        let doors = world.listeners();
        let doors = [
            doors.smtp,
            doors.lmtp,
            doors.web,
            doors.control,
            doors.metrics,
        ];
        let mut idle = Vec::new();
        for n in 0..1000 {
            idle.extend(doors.map(|door| connect_from(IpAddr::V4(from(n)), door)));
        }
        all_are_served(&mut world, round);
        drop(idle);
    }
    home.received(4);
}

#[test]
fn strangers_calls_are_short_and_small_and_their_answers_wait_in_no_memory() {
    const EACH: usize = 40;
    let mut world = strangers::world();
    let before = world.controller().memory();
    let mut strangers: Vec<h2::Secured> = Vec::new();
    for _ in 0..EACH {
        let mut stream = h2::connect(&world, IpAddr::V4(STRANGER));
        h2::say(&mut stream, h2::unfinished(16_000, 8_000).into_iter());
        strangers.push(stream);
        let mut stream = h2::connect(&world, IpAddr::V4(STRANGER));
        h2::say(&mut stream, h2::unfinished(1_000_000, 900_000).into_iter());
        strangers.push(stream);
        // Refused at once, again and again; what is said of it is not read.
        let mut stream = h2::connect(&world, IpAddr::V4(STRANGER));
        h2::say(&mut stream, h2::refused(3_000));
        strangers.push(stream);
    }
    world.kill_agent("out1");
    world.start_agent("out1");
    world.attached("out1");
    let grown = world.controller().peak_memory().saturating_sub(before);
    let bound = 3 * EACH as u64 * (256 << 10);
    assert!(grown < bound, "{} KiB of {} KiB", grown >> 10, bound >> 10);
    for stream in &mut strangers {
        let socket = stream.get_mut();
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a timeout");
        let mut bytes = [0; 4096];
        let ended = loop {
            match socket.read(&mut bytes) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        assert!(ended, "half a minute is enough to join");
    }
    let _ = world.controller().log_line("call denied");
    let said = world.controller().lines("call denied").len();
    assert!(said < 120, "{said} lines of as many thousand calls");
}

#[test]
fn a_connection_to_the_web_has_a_hundred_answers_and_the_last_one_says_so() {
    let world = strangers::world();
    let mut stream = connect_from(IpAddr::V4(STRANGER), world.listeners().web);
    let mut closes = Vec::new();
    for _ in 0..100 {
        let request = b"HEAD /outbound.txt HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let count = stream.read(&mut byte).expect("the server answers");
            assert_eq!(count, 1, "{} answers came", closes.len());
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        closes.push(head.contains("connection: close"));
    }
    let last = closes.pop();
    assert!(last == Some(true) && !closes.contains(&true), "{closes:?}");
    assert_eq!(stream.read(&mut [0; 100]).expect("an end"), 0);
}

#[test]
fn replies_that_strangers_do_not_read_take_no_memory_at_intake() {
    let mut world = strangers::world();
    let smtp = world.listeners().smtp;
    let before = world.controller().memory();
    let mut strangers = Vec::new();
    for n in 1..=40 {
        let from = Ipv4Addr::new(127, 20, n, 1);
        let mut stream = connect_from(IpAddr::V4(from), smtp);
        let patience = Some(Duration::from_millis(200));
        stream
            .set_write_timeout(patience)
            .expect("a socket takes a timeout");
        for _ in 0..10 {
            // Until the sockets' buffers are full.
            if stream.write_all(&b"HELP\r\n".repeat(2_000)).is_err() {
                break;
            }
        }
        strangers.push(stream);
    }
    let grown = world.controller().peak_memory().saturating_sub(before);
    assert!(grown < 40 * (256 << 10), "{} KiB", grown >> 10);
    let home = world.home("home", &[]);
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("one"));
    home.received(1);
}
