//! `make demo`: the main job on loopback, with the real programs, told as it happens.
//!
//! # Invariants
//! It ends with 0 only if everything it tells of has happened: each step waits for its outcome, and panics without it.

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use dd_tests::process::program;
use dd_tests::site::{Handshake, Script, Site};
use dd_tests::submit::message;
use dd_tests::world::{AUTHORITY, OUTBOUND, World};

/// Shows on loopback what this is for.
#[derive(Debug, Parser)]
struct Args {
    /// End when everything has been shown, instead of staying for mail of your own.
    #[arg(long)]
    once: bool,
}

/// With which the member signs in to the portal.
const PASSWORD: &str = "demo-password";

fn main() {
    let args = Args::parse();
    say("Starting a provider: a controller with its embedded store, and two agents.");
    let world = World::with_agents(2);
    introduce(&world);
    let mut home = world.home("home", &["--retry", "1h"]);
    world.set_password("home", PASSWORD);
    say(&format!(
        "A member's mail server is up at home.dyn.example:{port}. It is the site `home`: it takes mail for \
         home.example,\nand proves itself by a certificate of `{AUTHORITY}` for that name.\n",
        port = home.address().port()
    ));
    handed_over(&world, &home);
    let mut impostor = impostor_gets_nothing(&world, &mut home);
    real_one_returns(&world, &mut impostor, &mut home);
    say("All of it happened as told.");
    if !args.once {
        stay(&world, &home);
    }
}

fn introduce(world: &World) {
    let listeners = world.listeners();
    say(&format!(
        "  controller  takes mail by SMTP at {} and by LMTP at {}\n  agents      deliver from {} and {}\n  authority   \
         `{AUTHORITY}`, the demo's own, imported with `ddadm ca import`\n  portal      \
         {}, for the site `home` with the password `{PASSWORD}`\n",
        listeners.smtp,
        listeners.lmtp,
        OUTBOUND[0],
        OUTBOUND[1],
        world.url("/")
    ));
}

fn handed_over(world: &World, home: &Site) {
    say("1. Mail arrives for me@home.example.");
    let id = send(world, "hello");
    let got = home.received(1).remove(0);
    let seen = home.session_of(&got);
    assert_eq!(
        seen.handshake,
        Handshake::Done,
        "not handed over inside TLS"
    );
    world.drained("home");
    say(&format!(
        "   Accepted as {id}; handed over at once, inside TLS, by the agent on {}.\n",
        seen.peer
    ));
}

/// The address passes to a stranger, and mail comes.
fn impostor_gets_nothing(world: &World, home: &mut Site) -> Site {
    say(
        "2. The member's line drops, and a stranger gets the address. He has STARTTLS, but no certificate of ours.",
    );
    home.stop();
    let stranger = dd_tests::ca::Ca::new("Somebody else");
    let script = Script::with(&stranger.identity(&["home.example"]));
    let impostor = Site::start_at(home.address(), script);
    let id = send(world, "secret");
    say(&format!(
        "   Mail arrives for the member: accepted as {id}."
    ));
    let shown = world.site_is("home", "waiting");
    assert_eq!(shown["why"], "wrong-host", "{shown}");
    let seen = impostor.saw("the agent to hang up", |seen| seen.ended);
    assert!(seen.secured.is_empty(), "the stranger was told something");
    say(&format!(
        "   All that the stranger ever heard: {:?}, and then nothing. The mail waits:",
        String::from_utf8_lossy(&seen.clear)
    ));
    let ddadm = world.ddadm().run(&["site", "show", "home"]).done();
    say(&indented("ddadm site show home", &ddadm.stdout));
    impostor
}

fn real_one_returns(world: &World, impostor: &mut Site, home: &mut Site) {
    say("3. The member's server is back at its address, and asks for its mail.");
    impostor.stop();
    assert!(impostor.messages().is_empty(), "the stranger has mail");
    home.forget();
    home.resume();
    let etrn = world.ddadm().run(&["etrn", "home", "--wait", "30s"]).done();
    say(&indented("ddadm etrn home --wait", &etrn.stdout));
    let got = home.received(1).remove(0);
    assert!(
        String::from_utf8_lossy(&got.content).contains("Subject: secret"),
        "another message came"
    );
    world.drained("home");
    say("   Proved, and delivered.\n");
}

fn send(world: &World, subject: &str) -> String {
    world.smtp().send(
        "friend@elsewhere.example",
        "me@home.example",
        &message(subject),
    )
}

/// Shows mail as it comes, until Ctrl-C.
fn stay(world: &World, home: &Site) {
    let listeners = world.listeners();
    say(&format!(
        "\nEverything keeps running. Send a mail of your own:\n\n  swaks --server {smtp} --to me@home.example --from \
         you@elsewhere.example\n  printf 'Subject: mine\\r\\n\\r\\nHello.\\r\\n' | curl -sS smtp://{smtp} --mail-from \
         you@elsewhere.example --mail-rcpt me@home.example -T -\n\nLook around:\n\n  {ddadm} --socket {socket} \
         status\n  {portal}  (site `home`, password `{PASSWORD}`)\n  wget -q -O - --http-user=home \
         --http-password={PASSWORD} '{portal}etrn?wait=20'\n\nCtrl-C ends it.",
        smtp = listeners.smtp,
        ddadm = Path::display(&program("ddadm")),
        socket = listeners.socket.display(),
        portal = world.url("/"),
    ));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(show_mail(home));
}

async fn show_mail(home: &Site) {
    let mut shown = home.messages().len();
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return,
            _ = look.tick() => {
                let messages = home.messages();
                for message in &messages[shown..] {
                    say(&format!(
                        "At home: {} bytes from {} for {}",
                        message.content.len(),
                        message.mail,
                        message.recipients.join(", ")
                    ));
                }
                shown = messages.len();
            }
        }
    }
}

fn indented(command: &str, output: &str) -> String {
    let lines: Vec<String> = output.lines().map(|line| format!("     {line}")).collect();
    format!("   $ {command}\n{}", lines.join("\n"))
}

#[expect(
    clippy::print_stdout,
    reason = "telling is what the demo is for, and this is where it speaks"
)]
fn say(text: &str) {
    println!("{text}");
}
