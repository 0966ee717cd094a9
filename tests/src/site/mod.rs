//! A home mail server that does what a test tells it, and remembers every byte.
//!
//! It is written for this purpose, with threads and without any of our own SMTP code, so that what it says about the
//! agent is a second opinion. Real MTAs are in [`crate::postfix`].
//!
//! # Invariants
//! - What arrived is recorded before it is understood: [`Seen`] has every byte, whatever became of it.
//! - Nothing waits here: tests look at the record through [`Site::connections`] and [`Site::messages`].

mod dialogue;
mod script;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

pub use self::script::{Act, At, Gate, Host, Script, Verdict};
use crate::ca::Identity;
use crate::loopback;
use crate::wait::{PATIENCE, until};

/// A scripted mail server. It stops when this is dropped.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// What one connection brought.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which connection since the start of the site.
    pub number: usize,
    pub peer: IpAddr,
    /// Every byte that came in the clear.
    pub clear: Vec<u8>,
    pub handshake: Handshake,
    /// The certificate that the client showed, DER; only a site that asks for one sees it.
    pub shown: Option<Vec<u8>>,
    /// Every byte that came inside TLS.
    pub secured: Vec<u8>,
    pub ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handshake {
    /// STARTTLS was not given.
    NotAsked,
    Done,
    /// It was begun and came to nothing; what the client said, as rustls puts it.
    Failed(String),
}

/// A message that was answered with 250.
#[derive(Debug, Clone)]
pub struct Received {
    /// The connection it came on.
    pub number: usize,
    /// The argument of MAIL, with its parameters.
    pub mail: String,
    /// The arguments of RCPT.
    pub recipients: Vec<String>,
    /// Without dot-stuffing and the final dot.
    pub content: Vec<u8>,
}

/// What the threads of a site share.
#[derive(Debug, Default)]
struct Shared {
    script: Mutex<Script>,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// Connections there ever were, those that were forgotten included.
    opened: usize,
    connections: Vec<Seen>,
    messages: Vec<Received>,
}

/// A listener and the connections it accepted.
#[derive(Debug)]
struct Running {
    listener: TcpListener,
    sockets: Sockets,
}

/// The open connections by their numbers.
type Sockets = Arc<Mutex<HashMap<usize, TcpStream>>>;

impl Site {
    /// Starts on a fresh loopback address.
    pub fn start(script: Script) -> Self {
        Self::start_at(SocketAddr::from((loopback::fresh(), 0)), script)
    }

    /// Starts on `address`; port 0 chooses one.
    ///
    /// # Panics
    /// The address cannot be bound.
    pub fn start_at(address: SocketAddr, script: Script) -> Self {
        let mut site = Self {
            address,
            shared: Arc::default(),
            running: None,
        };
        site.behave(script);
        site.resume();
        site
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted from now on follow `script`.
    pub fn behave(&self, script: Script) {
        *locked(&self.shared.script) = script;
    }

    /// Listens (again) on the address.
    ///
    /// # Panics
    /// The address cannot be bound.
    pub fn resume(&mut self) {
        let listener = TcpListener::bind(self.address)
            .unwrap_or_else(|error| panic!("{} cannot be bound: {error}", self.address));
        self.address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let running = Running {
            sockets: Arc::default(),
            listener: listener.try_clone().expect("a socket can be cloned"),
        };
        let (shared, sockets) = (Arc::clone(&self.shared), Arc::clone(&running.sockets));
        thread::spawn(move || accept(&listener, &shared, &sockets));
        self.running = Some(running);
    }

    /// Stops listening and cuts every connection: connects are refused from here on.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        // `shutdown` on a listening socket ends the accept() that holds it.
        let _ = rustix::net::shutdown(&running.listener, rustix::net::Shutdown::Both);
        drop(running.listener);
        for (_, socket) in locked(&running.sockets).drain() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        until("the listener to be gone", PATIENCE, || {
            TcpStream::connect(self.address).err()
        });
    }

    /// What came so far, oldest connection first.
    pub fn connections(&self) -> Vec<Seen> {
        locked(&self.shared.record).connections.clone()
    }

    /// What was accepted so far.
    pub fn messages(&self) -> Vec<Received> {
        locked(&self.shared.record).messages.clone()
    }

    /// How many messages were accepted so far.
    pub fn count(&self) -> usize {
        locked(&self.shared.record).messages.len()
    }

    /// Forgets what came so far.
    pub fn forget(&self) {
        let mut record = locked(&self.shared.record);
        record.connections.clear();
        record.messages.clear();
    }

    /// Waits until `count` messages are here, and returns all of them.
    ///
    /// # Panics
    /// They do not come, or more do.
    pub fn received(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} messages at {}", self.address);
        until(&what, PATIENCE, || {
            (locked(&self.shared.record).messages.len() >= count).then_some(())
        });
        let messages = self.messages();
        assert_eq!(messages.len(), count, "too many messages");
        messages
    }

    /// The connection a message came on.
    ///
    /// # Panics
    /// It has been forgotten.
    pub fn session_of(&self, message: &Received) -> Seen {
        self.connections()
            .into_iter()
            .find(|seen| seen.number == message.number)
            .expect("the record has the connections of its messages")
    }

    /// How many messages of each subject were accepted.
    pub fn copies(&self) -> HashMap<String, usize> {
        let mut copies = HashMap::new();
        for message in &locked(&self.shared.record).messages {
            let content = String::from_utf8_lossy(&message.content);
            let subject = content
                .lines()
                .find_map(|line| line.strip_prefix("Subject: "));
            *copies
                .entry(subject.unwrap_or_default().to_owned())
                .or_default() += 1;
        }
        copies
    }

    /// Waits until some connection since the last [`forget`](Self::forget) is as `wanted`.
    pub fn saw(&self, what: &str, mut wanted: impl FnMut(&Seen) -> bool) -> Seen {
        until(what, PATIENCE, || {
            let record = locked(&self.shared.record);
            record.connections.iter().find(|seen| wanted(seen)).cloned()
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, sockets: &Sockets) {
    while let Ok((socket, peer)) = listener.accept() {
        let Ok(copy) = socket.try_clone() else {
            return;
        };
        // What goes out shall not wait for the acknowledgement of what went before.
        let _ = socket.set_nodelay(true);
        let script = locked(&shared.script).clone();
        let number = shared.opened(peer.ip(), &script);
        locked(sockets).insert(number, copy);
        let (shared, sockets) = (Arc::clone(shared), Arc::clone(sockets));
        thread::spawn(move || {
            // The peer's hanging up is no error of this server's; the record says what came.
            let _ = dialogue::serve(socket, &script, &shared, number);
            shared.with(number, |seen| seen.ended = true);
            locked(&sockets).remove(&number);
        });
    }
}

impl Shared {
    fn opened(&self, peer: IpAddr, script: &Script) -> usize {
        let mut record = locked(&self.record);
        let number = record.opened;
        record.opened += 1;
        if script.host.is_some() {
            return number;
        }
        record.connections.push(Seen {
            number,
            peer,
            clear: Vec::new(),
            handshake: Handshake::NotAsked,
            shown: None,
            secured: Vec::new(),
            ended: false,
        });
        number
    }

    /// Changes what is recorded of a connection; nothing where the record has been forgotten meanwhile.
    fn with(&self, number: usize, change: impl FnOnce(&mut Seen)) {
        let mut record = locked(&self.record);
        let seen = record.connections.iter_mut();
        if let Some(seen) = seen.rev().find(|seen| seen.number == number) {
            change(seen);
        }
    }

    fn accepted(&self, message: Received) {
        locked(&self.record).messages.push(message);
    }
}

/// Whether `needle` stands somewhere in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tls(identity: &Identity) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(identity.chain(), identity.key())
        })
        .map_err(io::Error::other)
        .expect("a certificate of our own with its key");
    Arc::new(config)
}

/// The same, and asks clients for a certificate of this authority (PEM); one that shows none is served too.
fn asking(identity: &Identity, authority: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("a certificate");
    roots.add(authority).expect("an authority");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .expect("there is an authority");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(identity.chain(), identity.key())
        })
        .map_err(io::Error::other)
        .expect("a certificate of our own with its key");
    Arc::new(config)
}

/// The same without a look at the certificate.
fn presenting(identity: &Identity) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(identity.key());
    let certified = CertifiedKey::new(identity.chain(), key.expect("a key"));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider serves TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(certified))));
    Arc::new(config)
}

/// One certificate for whoever asks.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
