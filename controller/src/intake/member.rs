//! What intake asks of the rest for those who are more than feeders: members who sign in, and who ask for their mail.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use dd_proto::name::SiteName;
use rustls_pki_types::CertificateDer;

/// Everything a client has shown of itself so far; what of it proves anything is for the [`Gatekeeper`] to say.
#[derive(Debug, Clone)]
pub struct Shown {
    pub client: IpAddr,
    /// By AUTH.
    pub signed_in: Option<SiteName>,
    /// Whatever it presented in the TLS handshake, whose key it holds.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// What a client is told about the node it asked for: RFC 1985 §5.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtrnAnswer {
    /// The same for everybody who has not proved to be the node, whether or not there is one.
    Started,
    NothingWaiting,
    /// So many wait; None where that is not known yet.
    Pending(Option<u64>),
    /// And why.
    CannotNow(String),
    NotAllowed,
}

/// What a client that signs in is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthAnswer {
    As(SiteName),
    Wrong,
    /// Nothing was compared.
    NotNow,
}

/// A boxed future: the trait has to be one that objects can be made of.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers members.
pub trait Gatekeeper: Send + Sync + 'static {
    fn etrn<'a>(&'a self, node: &'a str, shown: &'a Shown) -> Answering<'a, EtrnAnswer>;

    fn sign_in<'a>(
        &'a self,
        user: &'a str,
        password: String,
        client: IpAddr,
    ) -> Answering<'a, AuthAnswer>;
}
