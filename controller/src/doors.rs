//! Everything the controller listens on, opened before anything is served.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use dd_proto::pb;
use dd_service::sockets::Passed;
use tokio::net::UnixListener;

use crate::config::{self, Config};
use crate::intake::Settings;
use crate::intake::listener::Intake;
use crate::limit::{DoorSeats, Seats};
use crate::listen::Listeners;
use crate::web::listener as web;
use crate::{RunError, api, tls};

/// The open listeners.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) intake: Intake,
    pub(crate) control: Listeners,
    pub(crate) socket: UnixListener,
    pub(crate) metrics: Option<Listeners>,
    pub(crate) web: Option<web::Door>,
    pub(crate) certificates: Certificates,
    pub(crate) bound: Bound,
    pub(crate) seats: DoorSeats,
    path: PathBuf,
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
    pub(crate) fn bind(config: &Config, mut passed: Passed) -> Result<Self, RunError> {
        let certificates = Certificates::read(config)?;
        let settings = settings(config, certificates.intake.as_ref())?;
        let intake = Intake::bind(settings, &mut passed)?;
        let control = Listeners::bind(&config.control.listen, &mut passed)?;
        let metrics = match &config.metrics {
            Some(metrics) => Some(Listeners::bind(&metrics.listen, &mut passed)?),
            None => None,
        };
        let seats = DoorSeats {
            intake: intake.seats(),
            web: Seats::new("web", web::ROOMS),
            control: Seats::new("control", api::listener::ROOMS),
        };
        let web = match &config.web {
            Some(web) => Some(web_door(web, &certificates, &seats.web, &mut passed)?),
            None => None,
        };
        passed.all_taken()?;
        let path = config.socket();
        let socket = api::listener::bind_socket(&path)?;
        let bound = |of: Option<&Listeners>| of.map_or(&[][..], Listeners::bound).to_vec();
        let bound = Bound {
            smtp: intake.bound().smtp.clone(),
            lmtp: intake.bound().lmtp.clone(),
            control: bound(Some(&control)),
            web: bound(web.as_ref().map(|it| &it.listeners)),
            metrics: bound(metrics.as_ref()),
        };
        Ok(Self {
            intake,
            control,
            socket,
            metrics,
            web,
            certificates,
            bound,
            seats,
            path,
        })
    }

    /// `smtp=… lmtp=… control=… web=… metrics=… socket=…`, without what is off.
    pub(crate) fn listening(&self) -> String {
        let listeners = self.bound.pairs();
        let mut words: Vec<_> = listeners
            .iter()
            .filter(|(_, addresses)| !addresses.is_empty())
            .map(|(key, addresses)| format!("{key}={}", texts(addresses).join(",")))
            .collect();
        words.push(format!("socket={}", self.path.display()));
        words.join(" ")
    }
}

/// The addresses that were bound, in the order of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) smtp: Vec<SocketAddr>,
    pub(crate) lmtp: Vec<SocketAddr>,
    pub(crate) control: Vec<SocketAddr>,
    pub(crate) web: Vec<SocketAddr>,
    pub(crate) metrics: Vec<SocketAddr>,
}

impl Bound {
    /// Where the controller is reached, each address once. Loopback counts for the control port only, where agents of the
    /// same machine meet it: a test of homes on loopback has doors beside them.
    pub(crate) fn reached_at(&self) -> Vec<IpAddr> {
        let doors = self.pairs().into_iter().flat_map(|(door, at)| {
            let counts = move |ip: &IpAddr| door == "control" || !ip.is_loopback();
            at.iter().map(SocketAddr::ip).filter(counts)
        });
        let mut all: Vec<IpAddr> = doors.collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn pairs(&self) -> [(&'static str, &[SocketAddr]); 5] {
        [
            ("smtp", &self.smtp),
            ("lmtp", &self.lmtp),
            ("control", &self.control),
            ("web", &self.web),
            ("metrics", &self.metrics),
        ]
    }

    /// As `ddadm status` is told.
    pub(crate) fn shown(&self) -> pb::Listeners {
        let first = |addresses: &[SocketAddr]| {
            let first = addresses.first().map(ToString::to_string);
            first.unwrap_or_default()
        };
        pb::Listeners {
            smtp: texts(&self.smtp),
            lmtp: texts(&self.lmtp),
            control: first(&self.control),
            web: first(&self.web),
            metrics: first(&self.metrics),
            all_control: texts(&self.control),
            all_web: texts(&self.web),
            all_metrics: texts(&self.metrics),
        }
    }
}

fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

fn web_door(
    web: &config::Web,
    certificates: &Certificates,
    seats: &Seats,
    passed: &mut Passed,
) -> Result<web::Door, RunError> {
    let tls = certificates.web.as_ref().map(tls::Certificate::server);
    Ok(web::Door {
        listeners: Listeners::bind(&web.listen.get_ref().0, passed)?,
        tls: tls.transpose()?,
        proxies: web.proxy_protocol.clone(),
        seats: seats.clone(),
    })
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
        authserv_ids: intake
            .authserv_ids
            .iter()
            .map(|it| it.to_lowercase())
            .collect(),
        tls: certificate
            .map(tls::Certificate::asking_server)
            .transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_reached_at_each_of_its_doors() {
        let at = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        let bound = Bound {
            smtp: at("192.0.2.1:25"),
            lmtp: at("127.0.0.1:24"),
            control: at("127.0.0.2:7443"),
            web: at("[2001:db8::1]:8443"),
            metrics: [
                at("192.0.2.2:9464"),
                at("127.0.0.1:9464"),
                at("192.0.2.1:9464"),
            ]
            .concat(),
        };
        let shown: Vec<String> = bound.reached_at().iter().map(IpAddr::to_string).collect();
        assert_eq!(
            shown,
            ["127.0.0.2", "192.0.2.1", "192.0.2.2", "2001:db8::1"]
        );
    }
}
