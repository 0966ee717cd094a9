//! The harness itself: what the other tests stand on does what they take for granted.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::sync::Arc;

use dd_tests::ca::Ca;
use dd_tests::dns::Dns;
use dd_tests::postfix::Postfix;
use dd_tests::site::{Act, At, Handshake, Script, Site};
use dd_tests::submit::{Client, Protocol, message};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

#[test]
fn a_site_records_what_comes_and_keeps_what_it_accepts() {
    let mut site = Site::start(Script::plain());
    let mut client = Client::connect(site.address(), Protocol::Smtp);
    client.expect("MAIL FROM:<a@b.example>", 250);
    client.expect("RCPT TO:<c@home.example>", 250);
    assert_eq!(client.data(b".dot\r\n\r\n..\r\n").code, 250);
    let messages = site.received(1);
    assert_eq!(messages[0].content, b".dot\r\n\r\n..\r\n");
    assert_eq!(messages[0].recipients, ["<c@home.example>"]);
    assert!(site.connections()[0].clear.ends_with(b"\r\n...\r\n.\r\n"));
    site.stop();
    assert!(TcpStream::connect(site.address()).is_err());
    site.resume();
    Client::connect(site.address(), Protocol::Smtp);
}

#[test]
fn a_script_answers_or_breaks_at_its_point() {
    let site = Site::start(Script::plain().says(At::Mail, "451 4.3.0 later"));
    let mut client = Client::connect(site.address(), Protocol::Smtp);
    client.expect("MAIL FROM:<a@b.example>", 451);
    for point in [At::Greeting, At::Body, At::Dot] {
        site.behave(Script::plain().but(point, Act::Break));
        let mut client = Client::raw(site.address());
        client.write(b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\n");
        while client.line().is_some() {}
    }
    assert_eq!(site.messages().len(), 0);
}

#[test]
fn a_site_tells_what_came_in_the_clear_from_what_came_inside_tls() {
    let ca = Ca::new("The same subject");
    let site = Site::start(Script::with(&ca.identity(&["home.example"])));
    let said = secured_ehlo(&site, &ca, "home.example").unwrap();
    assert!(said.starts_with("250-home.example"), "{said}");
    let seen = site.saw("the end", |seen| seen.ended);
    assert_eq!(seen.handshake, Handshake::Done);
    assert_eq!(seen.clear, b"EHLO x\r\nSTARTTLS\r\n");
    assert_eq!(seen.secured, b"EHLO y\r\n");

    // A client that checks refuses another name, and another key under the same subject.
    let other = Ca::new("The same subject");
    for (anchor, name) in [(&ca, "other.example"), (&other, "home.example")] {
        site.forget();
        assert!(secured_ehlo(&site, anchor, name).is_err());
        let seen = site.saw("the end", |seen| seen.ended);
        assert!(matches!(seen.handshake, Handshake::Failed(_)));
        assert_eq!(seen.secured, b"");
    }
}

/// EHLO, STARTTLS, a handshake that is checked, EHLO; what the server says to the last, or why there was no handshake.
fn secured_ehlo(site: &Site, anchor: &Ca, name: &'static str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(anchor.root_pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();

    let mut socket = TcpStream::connect(site.address()).unwrap();
    let mut buffer = [0; 4096];
    for line in ["", "EHLO x\r\n", "STARTTLS\r\n"] {
        socket.write_all(line.as_bytes()).unwrap();
        let _ = socket.read(&mut buffer).unwrap();
    }
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(b"EHLO y\r\n")?;
    let count = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

#[test]
fn a_name_means_what_the_map_says_now() {
    let dns = Dns::start();
    let asked = |kind: u8| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(b"\x04Home\x03dyn\x07example\x00");
        query.extend_from_slice(&[0, kind, 0, 1]);
        socket.send_to(&query, dns.address()).unwrap();
        let mut answer = [0; 512];
        let count = socket.recv(&mut answer).unwrap();
        (answer[3] & 15, answer[7], answer[..count].to_vec())
    };
    assert_eq!(asked(1).0, 3, "an unknown name does not exist");
    dns.set("home.dyn.example", &[IpAddr::from([127, 0, 0, 9])]);
    let (code, answers, bytes) = asked(1);
    assert_eq!((code, answers), (0, 1));
    assert!(bytes.ends_with(&[127, 0, 0, 9]));
    assert_eq!(asked(28).1, 0, "no address of the other family");
}

#[test]
fn postfix_feeds_by_lmtp_and_keeps_mail_at_home() {
    let directory = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let ca = Ca::new("test");
    let identity = ca.identity(&["home.example"]);
    let home = Postfix::home(directory.path(), "home.example", &identity);
    let mut client = Client::connect(home.address(), Protocol::Smtp);
    client.send("a@b.example", "me@home.example", &message("direct"));
    assert!(home.received(1)[0].contains("Subject: direct"));
    assert_eq!(client.say("RCPT TO:<x@other.example>").code, 503);

    // The feeder speaks LMTP to whoever listens; a plain conversation shows that it does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let feeder = Postfix::feeder(
        directory.path(),
        "home.example",
        listener.local_addr().unwrap(),
    );
    Client::connect(feeder.address(), Protocol::Smtp).send(
        "a@b.example",
        "me@home.example",
        &message("fed"),
    );
    let (mut socket, _) = listener.accept().unwrap();
    socket.write_all(b"220 lmtp\r\n").unwrap();
    let mut said = [0; 5];
    socket.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"LHLO ");
}
