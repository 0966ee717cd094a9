//! Intake over real sockets: plain and with STARTTLS, small and large, its caps and its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dd_controller::intake::Settings;
use dd_controller::intake::accept::{AcceptError, Acceptor, Content, Spool, Submission};
use dd_controller::intake::listener::{Bound, Intake};
use dd_controller::intake::member::{Answering, AuthAnswer, EtrnAnswer, Gatekeeper, Shown};
use dd_controller::intake::policy::{Directory, Space, Usage};
use dd_controller::intake::refusals::Refusals;
use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use dd_service::sockets::Passed;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::world;

struct Registry;

impl Directory for Registry {
    fn site_for(&self, domain: &Domain) -> Option<Arc<Site>> {
        world::site_for(domain)
    }

    fn usage(&self, site: &SiteName) -> Usage {
        world::usage(site)
    }

    fn space(&self) -> Space {
        Space::Enough
    }
}

#[derive(Debug, PartialEq)]
enum Place {
    Memory,
    File,
}

type Kept = Arc<Mutex<Vec<(Place, Vec<u8>)>>>;

/// Keeps what it is given.
struct Keeper(Kept);

struct Pages(Vec<u8>);

impl Spool for Pages {
    async fn write(&mut self, chunk: Bytes) -> Result<(), AcceptError> {
        self.0.extend_from_slice(&chunk);
        Ok(())
    }
}

impl Acceptor for Keeper {
    type Spool = Pages;

    async fn accept(&self, submission: Submission<Pages>) -> Result<(), AcceptError> {
        let kept = match submission.content {
            Content::Inline(bytes) => (Place::Memory, bytes.to_vec()),
            Content::Spooled(pages) => (Place::File, pages.0),
        };
        self.0.lock().unwrap().push(kept);
        Ok(())
    }

    async fn spool(&self) -> Result<Pages, AcceptError> {
        Ok(Pages(Vec::new()))
    }
}

/// Hears what is asked for.
struct Gate(Arc<Mutex<Vec<String>>>);

impl Gatekeeper for Gate {
    fn etrn<'a>(&'a self, node: &'a str, _: &'a Shown) -> Answering<'a, EtrnAnswer> {
        self.0.lock().unwrap().push(node.to_owned());
        Box::pin(async { EtrnAnswer::Started })
    }

    fn sign_in<'a>(&'a self, _: &'a str, _: String, _: IpAddr) -> Answering<'a, AuthAnswer> {
        Box::pin(async { AuthAnswer::Wrong })
    }
}

/// Intake that runs.
struct Running {
    bound: Bound,
    kept: Kept,
    asked: Arc<Mutex<Vec<String>>>,
    refusals: Arc<Refusals>,
    stop: watch::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    /// How many were told to come again.
    fn busy(&self) -> u64 {
        let mut counts = self.refusals.counts();
        counts
            .find_map(|(reason, count)| (reason == "busy").then_some(count))
            .unwrap()
    }
}

async fn start(settings: Settings) -> Running {
    let intake = Intake::bind(settings, &mut Passed::default()).unwrap();
    let bound = intake.bound().clone();
    let refusals = intake.refusals();
    let kept = Kept::default();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (stop, stopped) = watch::channel(());
    let gate = Arc::new(Gate(asked.clone()));
    let served =
        tokio::spawn(intake.serve(Arc::new(Registry), Keeper(kept.clone()), gate, stopped));
    Running {
        bound,
        kept,
        asked,
        refusals,
        stop,
        served,
    }
}

struct Client<S>(BufStream<S>);

impl Client<TcpStream> {
    async fn connect(address: SocketAddr) -> Self {
        Self(BufStream::new(TcpStream::connect(address).await.unwrap()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The last line of the next reply.
    async fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn expect(&mut self, line: &str, reply: &str) {
        self.say(format!("{line}\r\n")).await;
        let seen = self.reply().await;
        assert!(seen.starts_with(reply), "{line}: {seen}");
    }

    async fn transaction(&mut self, content: &[u8], reply: &str) {
        self.expect("MAIL FROM:<a@b.example>", "250 2.1.0").await;
        self.expect("RCPT TO:<anna@home.example>", "250 2.1.5")
            .await;
        self.expect("DATA", "354").await;
        self.say(content).await;
        self.expect("\r\n.", reply).await;
    }
}

#[tokio::test]
async fn a_message_is_taken_in_clear_and_over_tls() {
    let (server, client) = world::tls_pair();
    let mut settings = world::settings();
    settings.tls = Some(server);
    let running = start(settings).await;
    let mut plain = Client::connect(running.bound.smtp[0]).await;
    plain.expect("EHLO feeder", "220").await;
    assert!(plain.reply().await.starts_with("250 "));
    plain.transaction(b"in clear", "250 2.0.0 queued as").await;
    plain.expect("STARTTLS", "220 2.0.0").await;
    let name = "mail.example.net".try_into().unwrap();
    let stream = TlsConnector::from(client)
        .connect(name, plain.0.into_inner())
        .await
        .unwrap();
    let mut secured = Client(BufStream::new(stream));
    secured.expect("MAIL FROM:<>", "503").await;
    secured.expect("EHLO feeder", "250").await;
    secured
        .transaction(b"encrypted", "250 2.0.0 queued as")
        .await;
    secured.expect("ETRN #home", "250 2.0.0 OK, queuing").await;
    secured.expect("ETRN #home", "250 2.0.0 OK, queuing").await;
    secured.expect("QUIT", "221").await;
    let kept = running.kept.lock().unwrap();
    for (index, (with, text)) in [("ESMTP id", "in clear"), ("ESMTPS id", "encrypted")]
        .iter()
        .enumerate()
    {
        let content = String::from_utf8(kept[index].1.clone()).unwrap();
        assert!(
            content.starts_with("Received: from feeder ([127.0.0.1])\r\n"),
            "{content}"
        );
        assert!(
            content.contains(with) && content.ends_with(&format!("{text}\r\n")),
            "{content}"
        );
    }
    assert_eq!(*running.asked.lock().unwrap(), ["#home", "#home"]);
}

#[tokio::test]
async fn a_large_message_goes_to_a_file_and_arrives_whole() {
    let mut settings = world::settings();
    settings.buffer_bytes = 64 * 1024;
    let running = start(settings).await;
    let mut client = Client::connect(running.bound.lmtp[0]).await;
    assert!(
        client
            .reply()
            .await
            .starts_with("220 mail.example.net LMTP")
    );
    client.expect("LHLO feeder", "250").await;
    let line = b"0123456789012345678901234567890123456789\r\n";
    let content = line.repeat(20_000);
    client
        .transaction(&content[..content.len() - 2], "250 2.0.0 queued as")
        .await;
    client.transaction(b"small", "250 2.0.0 queued as").await;
    let kept = running.kept.lock().unwrap();
    assert_eq!((&kept[0].0, &kept[1].0), (&Place::File, &Place::Memory));
    assert!(kept[0].1.ends_with(&content));
}

#[tokio::test]
async fn a_client_has_only_so_many_sessions() {
    let running = start(world::settings()).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(running.bound.smtp[0]).await;
        assert!(client.reply().await.starts_with("220 "));
        clients.push(client);
    }
    let (log, _guard) = super::intake_log::Log::listening();
    let mut fourth = Client::connect(running.bound.smtp[0]).await;
    assert!(fourth.reply().await.starts_with("421 4.3.2 "));
    let lines = log.refusals();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("client=127.0.0.1"), "{lines:?}");
    assert!(lines[0].contains("reply=\"421 4.3.2 "), "{lines:?}");
    assert_eq!(running.busy(), 1);
}

#[tokio::test]
async fn a_stranger_who_has_to_make_room_leaves_a_line_and_is_counted() {
    let mut settings = world::settings();
    settings.trusted.clear();
    settings.max_sessions_per_client = 1;
    let running = start(settings).await;
    let mut first = Client::connect(running.bound.smtp[0]).await;
    assert!(first.reply().await.starts_with("220 "));
    first.expect("EHLO first.example", "250").await;
    let (log, _guard) = super::intake_log::Log::listening();
    let mut second = Client::connect(running.bound.smtp[0]).await;
    assert!(second.reply().await.starts_with("220 "));
    assert!(first.reply().await.starts_with("421 4.3.2 "));
    let lines = log.refusals();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("helo=\"first.example\""), "{lines:?}");
    assert_eq!(running.busy(), 1);
}

#[tokio::test]
async fn intake_that_is_off_ends_nothing() {
    let mut settings = world::settings();
    (settings.smtp, settings.lmtp) = (Vec::new(), Vec::new());
    let running = start(settings).await;
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!running.served.is_finished());
    running.stop.send(()).unwrap();
    running.served.await.unwrap();
}

#[tokio::test]
async fn at_the_end_idle_sessions_are_told_and_a_message_in_hand_is_taken() {
    let running = start(world::settings()).await;
    let mut idle = Client::connect(running.bound.smtp[0]).await;
    idle.expect("EHLO feeder", "220").await;
    assert!(idle.reply().await.starts_with("250 "));
    let mut busy = Client::connect(running.bound.smtp[0]).await;
    busy.expect("EHLO feeder", "220").await;
    assert!(busy.reply().await.starts_with("250 "));
    busy.expect("MAIL FROM:<a@b.example>", "250").await;
    busy.expect("RCPT TO:<anna@home.example>", "250").await;
    busy.expect("DATA", "354").await;
    running.stop.send(()).unwrap();
    assert!(idle.reply().await.starts_with("421 4.3.2 "));
    busy.expect("x\r\n.", "250 2.0.0 queued as").await;
    assert!(busy.reply().await.starts_with("421 4.3.2 "));
    running.served.await.unwrap();
}
