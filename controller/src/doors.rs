//! Everything the controller listens on, opened before anything is served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dd_proto::pb;
use dd_service::sockets::Passed;
use tokio::net::{TcpListener, UnixListener};

use crate::config::{self, Config};
use crate::intake::Settings;
use crate::intake::listener::Intake;
use crate::{RunError, api, tls};

/// The open listeners.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) intake: Intake,
    pub(crate) control: TcpListener,
    pub(crate) socket: UnixListener,
    pub(crate) metrics: Option<TcpListener>,
    pub(crate) web: Option<WebDoor>,
    pub(crate) certificates: Certificates,
    /// The addresses that were bound.
    pub(crate) listeners: pb::Listeners,
    path: PathBuf,
}

/// Where the portal and the wake-up URLs are served.
#[derive(Debug)]
pub(crate) struct WebDoor {
    pub(crate) listener: TcpListener,
    /// None: plain HTTP, on loopback.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
}

/// What is shown to the world, and read again when asked.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    /// After STARTTLS.
    pub(crate) intake: Option<Arc<tls::Certificate>>,
    pub(crate) web: Option<Arc<tls::Certificate>>,
}

impl Certificates {
    fn read(config: &Config) -> Result<Self, RunError> {
        let read = |files: Option<&config::Tls>| files.map(tls::Certificate::read).transpose();
        let web = config.web.as_ref().and_then(|web| web.tls.as_ref());
        Ok(Self {
            intake: read(config.intake.tls.as_ref())?,
            web: read(web)?,
        })
    }

    /// From where the configuration says they are now.
    ///
    /// # Errors
    /// One cannot be used; it stays as it was.
    pub(crate) fn replace(&self, config: &Config) -> Result<(), RunError> {
        let web = config.web.as_ref().and_then(|web| web.tls.as_ref());
        for (certificate, files) in [(&self.intake, config.intake.tls.as_ref()), (&self.web, web)] {
            if let (Some(certificate), Some(files)) = (certificate, files) {
                certificate.replace(files)?;
            }
        }
        Ok(())
    }
}

impl Doors {
    /// # Errors
    /// One cannot be opened, or its certificate not be used, or a socket was `passed` that is not configured.
    pub(crate) async fn bind(config: &Config, mut passed: Passed) -> Result<Self, RunError> {
        let certificates = Certificates::read(config)?;
        let settings = settings(config, certificates.intake.as_ref())?;
        let intake = Intake::bind(settings, &mut passed).await?;
        let (control, control_address) = listen(config.control.listen, &mut passed).await?;
        let path = config.socket();
        let socket = api::listener::bind_socket(&path)?;
        let metrics = match &config.metrics {
            Some(metrics) => Some(listen(metrics.listen, &mut passed).await?),
            None => None,
        };
        let web = match &config.web {
            Some(web) => Some(listen(*web.listen.get_ref(), &mut passed).await?),
            None => None,
        };
        passed.all_taken()?;
        let tls = certificates.web.as_ref().map(tls::Certificate::server);
        let tls = tls.transpose()?;
        let texts = |bound: &[SocketAddr]| bound.iter().map(ToString::to_string).collect();
        let listeners = pb::Listeners {
            smtp: texts(&intake.bound().smtp),
            lmtp: texts(&intake.bound().lmtp),
            control: control_address.to_string(),
            web: web
                .as_ref()
                .map(|(_, at)| at.to_string())
                .unwrap_or_default(),
            metrics: metrics
                .as_ref()
                .map(|(_, at)| at.to_string())
                .unwrap_or_default(),
        };
        Ok(Self {
            intake,
            control,
            socket,
            metrics: metrics.map(|(listener, _)| listener),
            web: web.map(|(listener, _)| WebDoor { listener, tls }),
            certificates,
            listeners,
            path,
        })
    }

    /// `smtp=… lmtp=… control=… web=… metrics=… socket=…`, without what is off.
    pub(crate) fn listening(&self) -> String {
        let it = &self.listeners;
        let pairs = [
            ("smtp", it.smtp.join(",")),
            ("lmtp", it.lmtp.join(",")),
            ("control", it.control.clone()),
            ("web", it.web.clone()),
            ("metrics", it.metrics.clone()),
            ("socket", self.path.display().to_string()),
        ];
        let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
        let words: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        words.join(" ")
    }
}

fn settings(
    config: &Config,
    certificate: Option<&Arc<tls::Certificate>>,
) -> Result<Settings, RunError> {
    let intake = &config.intake;
    Ok(Settings {
        hostname: config.hostname.clone(),
        smtp: intake.smtp.clone(),
        lmtp: intake.lmtp.clone(),
        trusted: intake.trusted.clone(),
        max_message_bytes: intake.max_message_bytes,
        max_sessions: intake.max_sessions,
        max_sessions_per_client: intake.max_sessions_per_client,
        buffer_bytes: intake.buffer_bytes,
        stray_cr_lf: intake.stray_cr_lf,
        tls: certificate
            .map(tls::Certificate::asking_server)
            .transpose()?,
    })
}

async fn listen(
    address: SocketAddr,
    passed: &mut Passed,
) -> Result<(TcpListener, SocketAddr), RunError> {
    let error = |source| RunError::Listen { address, source };
    let listener = open(address, passed).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok((listener, bound))
}

/// The socket that was passed for this address, or a new one.
pub(crate) async fn open(address: SocketAddr, passed: &mut Passed) -> std::io::Result<TcpListener> {
    match passed.take(address) {
        Some(socket) => TcpListener::from_std(socket),
        None => TcpListener::bind(address).await,
    }
}
