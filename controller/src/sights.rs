//! What agents saw of sites that had proved themselves, on its way into the registry; and what is new about it, in the
//! log and to whoever watches.
//!
//! An agent's stream waits for none of it: what finds no place here is seen again with the site's next session.
//!
//! # Not here
//! What is news, and what is remembered: [`crate::registry::shown`].

use std::sync::Arc;

use dd_proto::name::{AgentName, SiteName};
use dd_proto::report::Observed;
use dd_proto::site::Site;
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use crate::registry::shown::{News, Sight, key_is_no_proof};
use crate::registry::{Change, Editor, Registry};

/// Sights that wait for the disk.
const BEHIND: usize = 1024;

/// Where agents' streams leave what they saw.
#[derive(Debug, Clone)]
pub struct Sights {
    registry: Registry,
    news: mpsc::Sender<(SiteName, Sight)>,
}

/// The other end.
#[derive(Debug)]
pub struct Learning {
    news: mpsc::Receiver<(SiteName, Sight)>,
    editor: Editor,
    /// Rung when a certificate is new, for it may end soon.
    learnt: Arc<Notify>,
}

impl Sights {
    pub fn new(registry: Registry, editor: Editor, learnt: Arc<Notify>) -> (Self, Learning) {
        let (sender, news) = mpsc::channel(BEHIND);
        let learning = Learning {
            news,
            editor,
            learnt,
        };
        let sights = Self {
            registry,
            news: sender,
        };
        (sights, learning)
    }

    /// A session has proved itself.
    pub fn saw(&self, agent: &AgentName, site: &SiteName, observed: &Observed, now: Timestamp) {
        let sight = Sight::new(agent, observed, now);
        if self.registry.is_news(site, &sight) {
            // Full: the next session shows it again.
            let _ = self.news.try_send((site.clone(), sight));
        }
    }
}

impl Learning {
    /// Runs until nobody can tell anything any more.
    pub async fn serve(mut self, registry: Registry) {
        while let Some((name, sight)) = self.news.recv().await {
            let (site, seen) = (name.clone(), sight.clone());
            let saw = move |change: Change| async move { change.saw(&site, &seen).await };
            match self.editor.change(saw).await {
                Ok(Some(news)) => {
                    if let Some(site) = registry.site(&name) {
                        tell(&site, &sight, &news);
                    }
                    self.learnt.notify_one();
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(site = %name, %error, "what the site showed cannot be remembered");
                }
            }
        }
    }
}

/// One line for each news. Where the key is no part of the proof a change of it is a warning: mail goes on, and somebody
/// should know.
fn tell(site: &Site, sight: &Sight, news: &News) {
    macro_rules! line {
        ($level:ident, $before:expr, $what:literal) => {
            tracing::$level!(
                target: "site",
                site = %site.name,
                host = sight.host,
                address = sight.address,
                agent = %sight.agent,
                tls = sight.tls_version,
                sha256 = sight.certificate.as_ref().map(|it| it.sha256.as_str()),
                key = sight.key(),
                before = $before,
                until = sight.certificate.as_ref().map(|it| it.not_after.to_string()),
                $what
            )
        };
    }
    let unproved_key = key_is_no_proof(&site.proof);
    match news {
        News::Again => {}
        News::First => line!(info, "", "the host shows this for the first time"),
        News::Renewed => line!(info, "", "the host shows another certificate for its key"),
        News::OtherKey { before } if before.is_empty() => {
            line!(info, "", "the host shows TLS, as it did not before");
        }
        News::OtherKey { before } if unproved_key => {
            line!(
                warn,
                before.as_str(),
                "the host shows another key than before, and its proof does not rest on it: find out whether the site has changed it"
            );
        }
        News::OtherKey { before } => {
            line!(info, before.as_str(), "the host shows another key");
        }
        News::Back if unproved_key => {
            line!(
                warn,
                "",
                "the host shows an earlier certificate again, and its proof does not rest on it: find out why"
            );
        }
        News::Back => line!(info, "", "the host shows an earlier certificate again"),
        News::WithoutTls => line!(
            error,
            "",
            "the agent goes on without TLS though the site has shown it before: it does not keep to the agent protocol"
        ),
    }
}
