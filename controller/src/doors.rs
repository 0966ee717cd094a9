//! Everything the controller listens on, opened before anything is served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use dd_proto::pb;
use tokio::net::{TcpListener, UnixListener};

use crate::config::Config;
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
    /// What intake shows after STARTTLS.
    pub(crate) certificate: Option<Arc<tls::Certificate>>,
    /// The addresses that were bound.
    pub(crate) listeners: pb::Listeners,
    path: PathBuf,
}

impl Doors {
    /// # Errors
    /// One cannot be opened, or its certificate not be used.
    pub(crate) async fn bind(config: &Config) -> Result<Self, RunError> {
        let files = config.intake.tls.as_ref();
        let certificate = files.map(tls::Certificate::read).transpose()?;
        let intake = Intake::bind(settings(config, certificate.as_ref())?).await?;
        let (control, control_address) = listen(config.control.listen).await?;
        let path = config.socket();
        let socket = api::listener::bind_socket(&path)?;
        let metrics = match &config.metrics {
            Some(metrics) => Some(listen(metrics.listen).await?),
            None => None,
        };
        let texts = |bound: &[SocketAddr]| bound.iter().map(ToString::to_string).collect();
        let listeners = pb::Listeners {
            smtp: texts(&intake.bound().smtp),
            lmtp: texts(&intake.bound().lmtp),
            control: control_address.to_string(),
            web: String::new(),
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
            certificate,
            listeners,
            path,
        })
    }

    /// `smtp=… lmtp=… control=… metrics=… socket=…`, without what is off.
    pub(crate) fn listening(&self) -> String {
        let it = &self.listeners;
        let pairs = [
            ("smtp", it.smtp.join(",")),
            ("lmtp", it.lmtp.join(",")),
            ("control", it.control.clone()),
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
        tls: certificate.map(tls::Certificate::server).transpose()?,
    })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let error = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    Ok((listener, bound))
}
