//! The provider's own authority: what it issues proves a site, what it revokes does not, and nothing stops while it
//! rolls over.

#![expect(clippy::print_stdout, reason = "the figures of a run")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use dd_tests::ca::{Ca, Identity};
use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

const OWN: &str = "own-ca";

/// A world with an authority of its own and the site `home`, which nobody serves yet.
fn world(site: &Site) -> World {
    let world = World::start();
    let _ = world
        .ddadm()
        .run(&["ca", "create", OWN, "--permit", "example"])
        .done();
    world.dns.set("home.dyn.example", &[site.address().ip()]);
    let host = format!("home.dyn.example:{}", site.address().port());
    let mut args = vec!["site", "add", "home", "--domain", "home.example"];
    args.extend(["--host", &host, "--proof", "certificate"]);
    args.extend(["--authority", OWN, "--cert-name", "home.example"]);
    args.extend(["--retry", "1h", "--connections", "2"]);
    let _ = world.ddadm().run(&args).done();
    world
}

/// Issues a certificate with a new key, and says which.
fn issue(world: &World) -> (Identity, Value) {
    let out = world.path().join("out");
    let out = out.to_str().unwrap();
    let issued = world.json(&["cert", "issue", "home", "--out", out]);
    let read = |name: &str| fs::read_to_string(Path::new(out).join(name)).unwrap();
    (
        Identity::from_pem(&read("home.pem"), &read("home.key")),
        issued,
    )
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_issued_proves_the_site_and_no_key_leaves_its_folder() {
    let site = Site::start(Script::plain());
    let world = world(&site);
    let (identity, issued) = issue(&world);
    site.behave(Script::with(&identity));
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("proved"));
    site.received(1);
    let listed = world.json(&["cert", "list", "home"]);
    assert_eq!(listed[0]["serial"], issued["serial"], "{listed}");
    assert_eq!(listed[0]["name"], "home.example", "{listed}");

    let folder = world.path().join("controller-state/authorities");
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join(OWN)), 0o700);
    let keys: Vec<PathBuf> = fs::read_dir(folder.join(OWN))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(mode(&keys[0]), 0o600);
    assert_eq!(mode(&world.path().join("out/home.key")), 0o600);
    let export = world.ddadm().run(&["registry", "export"]).done().stdout;
    assert!(export.contains("own = true"), "{export}");
    assert!(!export.contains("PRIVATE"), "{export}");
}

fn arrived(site: &Site, count: usize) {
    until(&format!("{count} messages"), PATIENCE, || {
        (site.messages().len() >= count).then_some(())
    });
}

/// Stops the load, also where a test fails on the way.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Mail comes in all the while `work` lasts.
fn under_load<T>(world: &World, work: impl FnOnce() -> T) -> (u64, T) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut smtp = world.smtp();
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                smtp.send("a@b.example", "me@home.example", &message("load"));
                sent += 1;
            }
            sent
        });
        let stopping = Stop(&stop);
        let done = work();
        drop(stopping);
        (sending.join().unwrap(), done)
    })
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long it took is told, and decides nothing"
)]
fn a_revoked_certificate_gets_no_more_mail_although_its_session_is_open() {
    let site = Site::start(Script::plain());
    let world = world(&site);
    let (identity, issued) = issue(&world);
    site.behave(Script::with(&identity));
    let serial = issued["serial"].as_str().unwrap();
    let (sent, (received, took)) = under_load(&world, || {
        arrived(&site, 50);
        let began = Instant::now();
        let _ = world.ddadm().run(&["cert", "revoke", serial]).done();
        let shown = world.site_is("home", "waiting");
        let took = began.elapsed();
        assert_eq!(shown["why"], "wrong-host", "{shown}");
        let detail = shown["last_attempts"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("revoked"), "{shown}");
        (site.messages().len(), took)
    });
    println!("revoked to refused: {took:?}, {sent} sent, {received} received");
    // The transaction in hand ends first; then there are no more.
    let received = until("what was in hand to end", PATIENCE, || {
        let waiting = world.show("home")["queued"]["messages"].clone();
        let at_home = site.messages().len().max(received);
        (waiting == sent - at_home as u64).then_some(at_home)
    });
    let _ = world.ddadm().run(&["etrn", "home", "--wait", "20s"]);
    assert_eq!(site.messages().len(), received, "{}", world.show("home"));

    let (renewed, _) = issue(&world);
    site.behave(Script::with(&renewed));
    let _ = world.ddadm().run(&["etrn", "home", "--wait", "60s"]).done();
    world.drained("home");
    assert_eq!(site.messages().len() as u64, sent);
    let lists = world.json(&["ca", "show", OWN]);
    assert_eq!(lists["revocation_lists"][0]["revoked"], 1, "{lists}");
}

#[test]
fn mail_flows_without_a_deferral_while_the_authority_rolls_over() {
    let site = Site::start(Script::plain());
    let mut world = world(&site);
    let (identity, _) = issue(&world);
    site.behave(Script::with(&identity));
    let (sent, ()) = under_load(&world, || {
        arrived(&site, 30);
        let rolled = world.json(&["ca", "rollover", OWN]);
        assert_eq!(rolled["certificates"].as_array().unwrap().len(), 2);
        assert_eq!(rolled["revocation_lists"].as_array().unwrap().len(), 2);
        // The old certificate still serves.
        let so_far = site.messages().len();
        arrived(&site, so_far + 30);
        world
            .ddadm()
            .run(&["ca", "rollover", OWN, "--finish"])
            .refused(1, "home");
        let (renewed, _) = issue(&world);
        site.behave(Script::with(&renewed));
        // A session that is open shows no other certificate; a changed record ends it, and the next one does.
        let another = ["site", "set", "home", "--connections", "2"];
        let _ = world.ddadm().run(&another).done();
        let so_far = site.messages().len();
        arrived(&site, so_far + 30);
        let _ = world
            .ddadm()
            .run(&["ca", "rollover", OWN, "--finish"])
            .done();
        let so_far = site.messages().len();
        arrived(&site, so_far + 30);
    });
    until("all mail to arrive", PATIENCE, || {
        (site.messages().len() as u64 == sent).then_some(())
    });
    world.drained("home");
    let failed = world.agent("out1").lines("attempt ended");
    assert_eq!(failed, Vec::<String>::new());
    until("all to be logged as settled", PATIENCE, || {
        let settled = world.controller().lines("mail: settled");
        (settled.len() as u64 == sent).then_some(())
    });
    println!("{sent} messages over a roll-over, none deferred");
    let shown = world.json(&["ca", "show", OWN]);
    assert_eq!(
        shown["certificates"].as_array().unwrap().len(),
        1,
        "{shown}"
    );
}

fn request(world: &World, name: &str, names: &[&str]) -> String {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let mut der = params.serialize_request(&key).unwrap().der().to_vec();
    if name == "forged" {
        *der.last_mut().unwrap() ^= 1;
    }
    let path = world.path().join(format!("{name}.csr"));
    fs::write(&path, der).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_request_for_anything_but_the_sites_own_name_is_refused() {
    let site = Site::start(Script::plain());
    let world = world(&site);
    let out = world.path().join("csr-out");
    let out = out.to_str().unwrap();
    let issue = |csr: &str| {
        world
            .ddadm()
            .run(&["cert", "issue", "home", "--csr", csr, "--out", out])
    };
    issue(&request(&world, "others", &["neighbour.example"]))
        .refused(1, "only the site's own name");
    issue(&request(&world, "forged", &["home.example"])).refused(1, "not signed by its own key");
    let text = world.path().join("text.csr");
    fs::write(&text, "nothing").unwrap();
    issue(text.to_str().unwrap()).refused(1, "holds no certificate request");
    let _ = issue(&request(&world, "good", &["home.example"])).done();
    assert!(!Path::new(out).join("home.key").exists());
    assert!(Path::new(out).join("home.pem").exists());
    let listed = world.json(&["cert", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn an_authority_is_what_it_was_made_to_be() {
    let site = Site::start(Script::plain());
    let world = world(&site);
    let run = |args: &[&str]| world.ddadm().run(args);
    run(&["ca", "create", OWN]).refused(1, "there is an authority");
    run(&["ca", "rollover", "member-ca"]).refused(1, "was imported");
    run(&["ca", "rollover", "nobody"]).refused(4, "nobody");
    run(&["ca", "rollover", OWN, "--finish"]).refused(1, "not being rolled over");
    run(&["cert", "revoke", "4a01"]).refused(4, "4a01");
    let out = world.path().join("none");
    let out = out.to_str().unwrap();
    // A site of an imported authority, and one outside of what is permitted.
    world.add_home("other", site.address(), &[]);
    run(&["cert", "issue", "other", "--out", out]).refused(1, "was imported");
    let mut args = vec![
        "site", "add", "far", "--domain", "far.test", "--host", "far.test",
    ];
    args.extend([
        "--proof",
        "certificate",
        "--authority",
        OWN,
        "--cert-name",
        "far.test",
    ]);
    run(&args).refused(1, "may not certify");
    // Nobody replaces what is ours, and a list that is of nobody's is not taken in.
    let stranger = world.path().join("stranger.pem");
    fs::write(&stranger, Ca::new("stranger").root_pem()).unwrap();
    let stranger = stranger.to_str().unwrap();
    run(&["ca", "import", OWN, "--certificate", stranger]).refused(1, "is our own");
    let crl = world.path().join("own.crl");
    fs::write(&crl, run(&["ca", "crl", OWN]).done().stdout).unwrap();
    let crl = crl.to_str().unwrap();
    run(&["ca", "crl", "member-ca", "--import", crl]).refused(1, "none of the authority's");
}

#[test]
fn what_was_issued_and_revoked_is_known_after_a_kill() {
    let site = Site::start(Script::plain());
    let mut world = world(&site);
    let (_, first) = issue(&world);
    let serial = first["serial"].as_str().unwrap().to_owned();
    let _ = world.ddadm().run(&["cert", "revoke", &serial]).done();
    world.kill_controller();
    world.start_controller();
    let listed = world.json(&["cert", "list"]);
    assert!(listed[0]["revoked"].is_string(), "{listed}");
    let (identity, _) = issue(&world);
    site.behave(Script::with(&identity));
    world.attached("out1");
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("after"));
    site.received(1);
}

#[test]
fn a_removed_sites_certificates_are_revoked_with_it() {
    let site = Site::start(Script::plain());
    let world = world(&site);
    let (_, first) = issue(&world);
    let (_, second) = issue(&world);
    let revoked =
        |of: &str| world.json(&["ca", "show", of])["revocation_lists"][0]["revoked"].clone();
    assert_eq!(revoked(OWN), 0);
    let _ = world.ddadm().run(&["site", "remove", "home"]).done();
    assert_eq!(revoked(OWN), 2);
    let listed = world.json(&["cert", "list"]);
    for issued in listed.as_array().unwrap() {
        assert!(issued["revoked"].is_string(), "{listed}");
        assert!([&first["serial"], &second["serial"]].contains(&&issued["serial"]));
    }
}

#[test]
fn of_two_lists_on_one_line_the_second_is_tried_too() {
    let world = World::start();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/pki/tests/data");
    let ca = format!("{data}/ca.pem");
    let list = |name: &str| fs::read_to_string(format!("{data}/list-{name}.pem")).unwrap();
    let glued = world.path().join("glued.pem");
    fs::write(&glued, format!("{}{}", list("good").trim_end(), list("v1"))).unwrap();
    let run = |crl: &str| {
        let import = ["ca", "import", "tools", "--certificate", &ca, "--crl", crl];
        world.ddadm().run(&import)
    };
    run(glued.to_str().unwrap()).refused(1, "revocation list 2 cannot be used: it is of version 1");
    let _ = run(&format!("{data}/list-good.pem")).done();
}
