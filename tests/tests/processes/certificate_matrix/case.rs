//! One case, the table of them, and who is asked.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use dd_agent::live;
use dd_agent::proof::{Seen, Terms};
use dd_agent::session::{AskTls, Opening};
use dd_agent::tls::Tls;
use dd_proto::site::{Certified, Host, HostName, Proof};
use rustls_pki_types::CertificateRevocationListDer;

use super::authority::{Ca, Change, Der, NAME, Shown, pem};

/// What Postfix says to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Postfix {
    Same,
    /// It says otherwise; why is in docs/verification.md.
    Differs,
    /// It cannot be asked: it knows no revocation lists.
    CannotSay,
}

pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) shown: Shown,
    pub(crate) anchors: Vec<Der>,
    pub(crate) lists: Vec<CertificateRevocationListDer<'static>>,
    pub(crate) name: &'static str,
    /// `ok`, or the word of the refusal.
    pub(crate) verdict: &'static str,
    pub(crate) postfix: Postfix,
}

pub(crate) struct Table {
    pub(crate) ca: Ca,
    pub(crate) cases: Vec<Case>,
}

impl Table {
    pub(crate) fn add(
        &mut self,
        what: &'static str,
        shown: Shown,
        verdict: &'static str,
    ) -> &mut Case {
        let anchors = vec![self.ca.der.clone()];
        self.cases.push(Case {
            what,
            shown,
            anchors,
            lists: Vec::new(),
            name: NAME,
            verdict,
            postfix: Postfix::Same,
        });
        self.cases.last_mut().unwrap()
    }

    pub(crate) fn leaf(
        &mut self,
        what: &'static str,
        names: &[&str],
        change: Change,
        verdict: &'static str,
    ) -> &mut Case {
        let shown = self.ca.leaf(names, change);
        self.add(what, shown, verdict)
    }
}

/// What the agent's own session makes of whoever answers at `address`.
pub(crate) async fn verdict(tls: &Tls, case: &Case, address: SocketAddr) -> String {
    let terms = Arc::new(Terms {
        proof: Proof::Certificate(Certified {
            authority: "members".parse().unwrap(),
            name: case.name.parse().unwrap(),
        }),
        anchors: case.anchors.clone(),
        revocation_lists: case.lists.clone(),
    });
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let host = Host {
        name: HostName::Address(address.ip()),
        port: address.port().try_into().unwrap(),
    };
    let seen = Seen::new(host, address, "127.0.0.1".parse().unwrap());
    let opening = Opening::new(
        terms.clone(),
        "agent.example".into(),
        AskTls::WhereOffered,
        seen,
    );
    match live::open(stream, opening, tls, &terms, &None).await {
        Ok(live) => {
            live.quit().await;
            "ok".to_owned()
        }
        Err(unproved) => {
            let refusal = unproved.failure.refusal.expect("a refusal");
            assert!(refusal.to_string().len() > 20, "{}: {refusal}", case.what);
            refusal.reason().to_owned()
        }
    }
}

/// Whether Postfix takes the same certificate for verified.
pub(crate) fn postfix_verifies(directory: &Path, case: &Case, address: SocketAddr) -> bool {
    let anchors = directory.join("anchors.pem");
    let all: String = case.anchors.iter().map(|der| pem(der)).collect();
    std::fs::write(&anchors, all).unwrap();
    let output = Command::new("/usr/sbin/posttls-finger")
        .env("MAIL_CONFIG", directory)
        .args(["-c", "-t", "10", "-T", "10", "-l", "secure", "-F"])
        .arg(&anchors)
        .arg(format!("[{}]:{}", address.ip(), address.port()))
        .arg(case.name)
        .output()
        .expect("`make deps` installs Postfix");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("fatal"), "{}: {said}", case.what);
    said.contains("Verified TLS connection")
}
