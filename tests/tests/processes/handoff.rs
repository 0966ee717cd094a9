//! Mail arrives and the right site has it at once, whichever way it proves itself and whichever way the mail came.

use dd_tests::site::{Handshake, Script, Site};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::{OUTBOUND, World};

#[test]
fn a_site_proved_by_certificate_has_the_mail_inside_tls_from_the_agents_own_address() {
    let world = World::start();
    let home = world.home("home", &[]);
    let id = world
        .smtp()
        .send("a@elsewhere.example", "me@home.example", &message("one"));
    assert!(!id.is_empty());
    let got = home.received(1).remove(0);
    assert!(got.mail.starts_with("<a@elsewhere.example>"));
    assert_eq!(got.recipients, ["<me@home.example>"]);
    let text = String::from_utf8_lossy(&got.content);
    assert!(text.starts_with("Received: "), "{text}");
    assert!(
        text.ends_with("Subject: one\r\nMessage-ID: <one@elsewhere.example>\r\n\r\nHello.\r\n")
    );

    let seen = home.session_of(&got);
    assert_eq!(seen.peer, OUTBOUND[0]);
    assert_eq!(seen.handshake, Handshake::Done);
    assert_eq!(seen.clear, b"EHLO out1.provider.example\r\nSTARTTLS\r\n");

    let shown = world.drained("home");
    assert_eq!(shown["last_attempts"][0]["outcome"], "relayed");
    assert_eq!(shown["last_attempts"][0]["agent"], "out1");
}

#[test]
fn both_log_lines_of_a_messages_life_hold_the_id_its_feeder_was_told() {
    let mut world = World::start();
    let home = world.home("home", &[]);
    let id = world
        .smtp()
        .send("a@elsewhere.example", "me@home.example", &message("logged"));
    home.received(1);
    world.drained("home");
    for word in ["accepted", "settled"] {
        let what = format!("a line with {word} and {id}");
        until(&what, PATIENCE, || {
            let lines = world.controller().lines(&id);
            lines.iter().find(|line| line.contains(word)).cloned()
        });
    }
}

#[test]
fn a_listed_address_is_proof_and_needs_no_tls() {
    let world = World::start();
    let home = Site::start(Script::plain());
    let address = home.address().to_string();
    let _ = world
        .ddadm()
        .run(&[
            "site",
            "add",
            "static",
            "--domain",
            "static.example",
            "--host",
            &address,
            "--proof",
            "static-ip",
        ])
        .done();
    world
        .smtp()
        .send("", "me@static.example", &message("static"));
    assert!(home.received(1)[0].mail.starts_with("<>"));
}

#[test]
fn an_agreed_port_is_proof_and_tls_is_used_where_it_is_offered() {
    let world = World::start();
    // Any certificate will do: the proof is the port, TLS only keeps readers out.
    let home = Site::start(Script::with(&world.ca.identity(&["whatever.example"])));
    let address = home.address().ip();
    world.dns.set("port.dyn.example", &[address]);
    let port = home.address().port().to_string();
    let _ = world
        .ddadm()
        .run(&[
            "site",
            "add",
            "port",
            "--domain",
            "port.example",
            "--host",
            "port.dyn.example",
            "--port",
            &port,
            "--proof",
            "port",
        ])
        .done();
    world
        .smtp()
        .send("a@b.example", "me@port.example", &message("port"));
    let got = home.received(1).remove(0);
    assert_eq!(home.session_of(&got).handshake, Handshake::Done);
}

#[test]
fn mail_for_an_unknown_domain_is_refused_and_an_untold_recipient_is_not() {
    let world = World::start();
    let _home = world.home("home", &["--recipient", "me@home.example"]);
    let mut client = world.smtp();
    client.expect("MAIL FROM:<a@b.example>", 250);
    let refused = client.expect("RCPT TO:<me@nowhere.example>", 550);
    assert!(refused.text.starts_with("5.1.2"), "{}", refused.text);
    let refused = client.expect("RCPT TO:<other@home.example>", 550);
    assert!(refused.text.starts_with("5.1.1"), "{}", refused.text);
    client.expect("RCPT TO:<me@home.example>", 250);
}

#[test]
fn lmtp_answers_for_each_recipient_that_was_taken() {
    let world = World::start();
    let home = world.home("home", &[]);
    let mut client = world.lmtp();
    client.expect("MAIL FROM:<a@b.example>", 250);
    client.expect("RCPT TO:<one@home.example>", 250);
    client.expect("RCPT TO:<me@nowhere.example>", 550);
    client.expect("RCPT TO:<two@home.example>", 250);
    let first = client.data(&message("lmtp"));
    let second = client.reply();
    assert_eq!((first.code, second.code), (250, 250));
    assert_eq!(first.id(), second.id());
    let mut recipients = home.received(1).remove(0).recipients;
    recipients.sort();
    assert_eq!(recipients, ["<one@home.example>", "<two@home.example>"]);
}

#[test]
fn what_is_no_mail_is_refused_and_the_session_goes_on() {
    let world = World::start();
    let home = world.home("home", &[]);
    let mut client = world.smtp();
    for bare in [
        &b"a\rb\r\n"[..],
        b"a\nb\r\n",
        b"a\0b\r\n",
        b"a\r\n.\r\r\nb\r\n",
    ] {
        client.expect("MAIL FROM:<a@b.example>", 250);
        client.expect("RCPT TO:<me@home.example>", 250);
        let reply = client.data(bare);
        assert_eq!(reply.code, 550, "{bare:?}: {}", reply.text);
        assert!(reply.text.starts_with("5.6.0"), "{}", reply.text);
    }
    for (line, code) in [
        ("STARTTLS x", 501),
        ("RCPT TO:<me@home.example>", 503),
        ("WHAT", 500),
    ] {
        client.expect(line, code);
    }
    let endless = "x".repeat(20_000);
    assert_eq!(client.say(&endless).code, 500);
    client.send("a@b.example", "\"a b\"@home.example", b"");
    assert_eq!(home.received(1)[0].recipients, ["<\"a b\"@home.example>"]);
}
