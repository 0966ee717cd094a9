//! What the provider has on record for the site: the first thing a member compares with the router.

use dd_proto::site::{Proof, Site};

use super::words::Words;

/// As it stands; only the provider changes it, but for the contact.
#[derive(Debug)]
pub(super) struct Record {
    /// Each with its port, in order of preference.
    pub(super) hosts: Vec<String>,
    pub(super) domains: Vec<String>,
    pub(super) proof: &'static str,
    pub(super) authority: Option<String>,
    /// That a certificate has to carry.
    pub(super) name: Option<String>,
    /// Addresses or fingerprints, one of which counts.
    pub(super) listed: Vec<String>,
    /// Who is written to.
    pub(super) contact: Option<String>,
}

impl Record {
    pub(super) fn of(site: &Site, w: &'static Words) -> Self {
        let proof = &site.proof;
        Self {
            hosts: site.hosts.iter().map(ToString::to_string).collect(),
            domains: site.domains.iter().map(ToString::to_string).collect(),
            proof: w.proof(proof.kind()),
            authority: proof.certified().map(|it| it.authority.to_string()),
            name: proof.certificate_name().map(ToString::to_string),
            listed: match proof {
                Proof::StaticIp { addresses, .. } => {
                    addresses.iter().map(ToString::to_string).collect()
                }
                Proof::Fingerprint { listed } => listed.iter().map(ToString::to_string).collect(),
                Proof::Certificate(_) | Proof::Public { .. } | Proof::Port | Proof::Configured => {
                    Vec::new()
                }
            },
            contact: site.contact.as_ref().map(ToString::to_string),
        }
    }
}

impl Words {
    /// For the word operators use.
    pub(super) fn proof(&self, kind: &str) -> &'static str {
        match kind {
            "static-ip" => self.p_static_ip,
            "certificate" => self.p_certificate,
            "fingerprint" => self.p_fingerprint,
            "public" => self.p_public,
            "port" => self.p_port,
            _ => self.p_other,
        }
    }
}
