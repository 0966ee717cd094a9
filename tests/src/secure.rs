//! A member that speaks SMTP to the controller inside TLS, with a certificate of its own or without.

use std::io::{BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::ca::{Ca, Identity};
use crate::wait::PATIENCE;
use crate::world::MAIL_NAME;

/// A session behind STARTTLS and a second EHLO.
#[derive(Debug)]
pub struct Member(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Member {
    /// Connects from `from`, checks the server against `provider`, and presents `identity` if there is one.
    ///
    /// # Panics
    /// The server does not do what it should.
    pub fn connect(
        server: SocketAddr,
        from: IpAddr,
        provider: &Ca,
        identity: Option<&Identity>,
    ) -> Self {
        let mut plain = BufReader::new(connect_from(from, server));
        assert_eq!(code(&reply(&mut plain)), 220);
        for (line, expected) in [("EHLO home.example", 250), ("STARTTLS", 220)] {
            say(&mut plain, line);
            assert_eq!(code(&reply(&mut plain)), expected, "{line}");
        }
        let name = ServerName::try_from(MAIL_NAME).expect("it is a name");
        let connection = ClientConnection::new(Arc::new(config(provider, identity)), name);
        let connection = connection.expect("the configuration is whole");
        let mut member = Self(BufReader::new(StreamOwned::new(
            connection,
            plain.into_inner(),
        )));
        assert_eq!(code(&member.say("EHLO home.example")), 250);
        member
    }

    /// Says a line and returns the whole reply.
    pub fn say(&mut self, line: &str) -> String {
        let stream = self.0.get_mut();
        stream
            .write_all(format!("{line}\r\n").as_bytes())
            .expect("the server reads");
        reply(&mut self.0)
    }
}

/// A connection whose other end sees it come from `from`.
///
/// # Panics
/// Nobody listens.
pub fn connect_from(from: IpAddr, server: SocketAddr) -> TcpStream {
    let stream = try_connect_from(from, server);
    let stream = stream.unwrap_or_else(|error| panic!("{server} cannot be reached: {error}"));
    let set = stream.set_read_timeout(Some(PATIENCE));
    set.expect("a socket takes a timeout");
    stream
}

/// The same for somebody who may be turned away.
///
/// # Errors
/// It is not connected.
pub fn try_connect_from(from: IpAddr, server: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    connect(&socket, &server)?;
    Ok(socket.into())
}

/// A client that shows no certificate, and offers these protocols.
///
/// # Panics
/// `root` is no certificate in PEM.
pub fn anonymous(root: &str, protocols: &[&[u8]]) -> ClientConfig {
    let mut config = builder(root).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

fn config(provider: &Ca, identity: Option<&Identity>) -> ClientConfig {
    match identity {
        None => anonymous(provider.root_pem(), &[]),
        Some(identity) => builder(provider.root_pem())
            .with_client_auth_cert(identity.chain(), identity.key())
            .expect("a certificate of our own with its key"),
    }
}

fn builder(root: &str) -> rustls::ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(root.as_bytes());
    roots
        .add(root.expect("it is PEM"))
        .expect("it is a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider serves TLS 1.2 and 1.3")
        .with_root_certificates(roots)
}

fn say(stream: &mut BufReader<TcpStream>, line: &str) {
    let written = stream.get_mut().write_all(format!("{line}\r\n").as_bytes());
    written.expect("the server reads");
}

fn reply(stream: &mut impl std::io::BufRead) -> String {
    let mut reply = String::new();
    loop {
        let mut line = String::new();
        let count = stream.read_line(&mut line).expect("the server answers");
        assert!(count > 0, "the server hung up after `{reply}`");
        reply.push_str(&line);
        if line.as_bytes().get(3) != Some(&b'-') {
            return reply.trim_end().to_owned();
        }
    }
}

/// Of a whole reply.
///
/// # Panics
/// It is none.
pub fn code(reply: &str) -> u16 {
    let code = reply.get(..3).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no reply: `{reply}`"))
}
