//! What an agent saw at one step of a check, in the language of the page.
//!
//! The agent's own sentences are English. What they say is taken from what was observed; where it is not, the sentence
//! itself is left to be unfolded.

use dd_proto::pb::check_step::Result as Step;
use dd_proto::pb::{CheckStep, HostCheck};
use dd_proto::report::{Observed, PeerCertificate};
use dd_proto::units::is_endless;
use jiff::Timestamp;

use super::advice::{Found, advice};
use super::language::Language;

/// What stands behind the name of a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// In the language of the page, or what the server itself said.
    pub(super) text: String,
    /// In the agent's words.
    pub(super) verbatim: Option<String>,
}

impl Told {
    fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            verbatim: None,
        }
    }
}

/// One look at one address, and whose page it is on.
#[derive(Debug)]
pub(super) struct Look<'a> {
    host: &'a HostCheck,
    observed: Option<Observed>,
    language: Language,
    now: Timestamp,
}

impl<'a> Look<'a> {
    pub(super) fn new(host: &'a HostCheck, language: Language, now: Timestamp) -> Self {
        let observed = host.observed.clone();
        Self {
            host,
            observed: observed.and_then(|it| it.try_into().ok()),
            language,
            now,
        }
    }

    /// What came of it.
    pub(super) fn sentence(&self) -> Told {
        match self.host.proved {
            true => Told::plain(self.language.words().c_is_site),
            false => self.trouble(&self.host.sentence),
        }
    }

    pub(super) fn step(&self, step: &CheckStep) -> Told {
        let w = self.language.words();
        if step.result() == Step::Bad {
            // The sentence above is about this step already.
            let known = step.detail == self.host.sentence;
            return match known {
                true => Told::plain(w.c_see_above),
                false => self.trouble(&step.detail),
            };
        }
        let text = match step.name.as_str() {
            "resolve" => addresses(&step.detail).to_owned(),
            "connect" => self.ends(),
            "starttls" => return self.secured(step),
            "chain" => self.issuer(step.result()),
            "name" => self.names(),
            "expiry" => self.expiry(),
            "proof" => w.proof(&step.detail).to_owned(),
            "size" => self.size(&step.detail),
            // The greeting is the server's own.
            _ => step.detail.clone(),
        };
        Told::plain(text)
    }

    /// What to do, and the agent's sentence.
    fn trouble(&self, detail: &str) -> Told {
        let refusal = self.observed.as_ref().and_then(|it| it.refusal.as_ref());
        let found = Found {
            why: match refusal {
                Some(_) => "wrong-host",
                None if self.proof_stood() => refusal_of_the_site(detail),
                None => "down",
            },
            reason: refusal.map_or("", |it| it.reason.as_str()),
            detail,
            hosts: &[self.host.host.as_str()],
        };
        Told {
            text: advice(&found, self.language).unwrap_or_default(),
            verbatim: Some(detail.to_owned()).filter(|it| !it.is_empty()),
        }
    }

    /// It is the site, whatever it said then.
    fn proof_stood(&self) -> bool {
        let mut steps = self.host.steps.iter();
        steps.any(|it| it.name == "proof" && it.result() == Step::Good)
    }

    fn ends(&self) -> String {
        let Some(seen) = &self.observed else {
            return String::new();
        };
        match seen.local.is_empty() {
            true => seen.peer.clone(),
            false => format!(
                "{} {} {}",
                seen.peer,
                self.language.words().c_from,
                seen.local
            ),
        }
    }

    fn secured(&self, step: &CheckStep) -> Told {
        let w = self.language.words();
        let seen = self.observed.as_ref();
        match seen.filter(|it| !it.tls_version.is_empty()) {
            Some(seen) => Told::plain(format!("{} {}", seen.tls_version, seen.tls_cipher)),
            None if step.result() == Step::Good => Told::plain(w.c_presented),
            None if step.detail == "not offered" => Told::plain(w.c_not_offered),
            None => Told {
                text: w.c_without_tls.to_owned(),
                verbatim: Some(step.detail.clone()),
            },
        }
    }

    fn certificate(&self) -> Option<&PeerCertificate> {
        self.observed.as_ref()?.certificate.as_ref()
    }

    fn issuer(&self, result: Step) -> String {
        let w = self.language.words();
        let issuer = self.certificate().map_or("", |it| it.issuer.as_str());
        match result {
            Step::Good => format!("{} {issuer}", w.c_issued_by),
            _ => format!("{} {issuer}, {}", w.c_issued_by, w.c_unchecked),
        }
    }

    fn names(&self) -> String {
        match self.certificate() {
            Some(it) if it.names.is_empty() => {
                format!("{} {}", self.language.words().c_no_name, it.subject)
            }
            Some(it) => it.names.join(", "),
            None => String::new(),
        }
    }

    fn expiry(&self) -> String {
        let w = self.language.words();
        let Some(end) = self.certificate().map(|it| it.not_after) else {
            return String::new();
        };
        let day = self.language.date(end);
        match end.duration_since(self.now).as_hours() {
            _ if is_endless(end) => format!("{} {}", w.valid_until, w.no_end),
            ..0 => format!("{} {day}", w.expired_since),
            _ => format!(
                "{} {day}, {}",
                w.valid_until,
                self.language.relative(end, self.now)
            ),
        }
    }

    fn size(&self, detail: &str) -> String {
        let w = self.language.words();
        match self.host.max_message_bytes {
            0 if detail == "without a limit" => w.c_no_limit.to_owned(),
            0 => w.c_limit_unsaid.to_owned(),
            bytes => format!("{} {}", w.c_at_most, self.language.size(bytes)),
        }
    }
}

/// A site that is proved and takes no session has said why; a 4yz is for now.
fn refusal_of_the_site(detail: &str) -> &'static str {
    match detail.contains("`4") {
        true => "busy",
        false => "refused",
    }
}

/// Notes stand behind them.
fn addresses(detail: &str) -> &str {
    detail.split(';').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, result: Step, detail: &str) -> CheckStep {
        CheckStep {
            name: name.to_owned(),
            result: result.into(),
            detail: detail.to_owned(),
        }
    }

    fn certificate(names: &[&str]) -> PeerCertificate {
        PeerCertificate {
            subject: "CN=home".to_owned(),
            issuer: "CN=members G1".to_owned(),
            names: names.iter().map(|it| (*it).to_owned()).collect(),
            sha256: "00".repeat(32),
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2027-11-30T03:14:23Z".parse().unwrap(),
            chain_length: 1,
            spki_sha256: "00".repeat(32),
        }
    }

    fn host(tls: &str, certificate: Option<PeerCertificate>) -> HostCheck {
        let observed = Observed {
            host: "home.example:25".to_owned(),
            peer: "192.0.2.7:25".to_owned(),
            local: "192.0.2.10".to_owned(),
            tls_version: tls.to_owned(),
            proof: "certificate".to_owned(),
            certificate,
            ..Observed::default()
        };
        HostCheck {
            host: "home.example:25".to_owned(),
            observed: Some(observed.into()),
            max_message_bytes: 50_000_000,
            ..HostCheck::default()
        }
    }

    /// The agent's own words on the left.
    #[test]
    fn every_step_is_told_in_german_and_nothing_of_the_agents_english_is_left() {
        use Step::{Good, Noted};
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        let (proved, failed) = (
            host("TLSv1.3", Some(certificate(&["home.example"]))),
            host("", Some(certificate(&[]))),
        );
        for (host, name, result, detail, german) in [
            (
                &proved,
                "resolve",
                Good,
                "192.0.2.7; the first 16 are looked at",
                "192.0.2.7",
            ),
            (
                &proved,
                "connect",
                Good,
                "192.0.2.7:25 from 192.0.2.10",
                "192.0.2.7:25 von 192.0.2.10",
            ),
            (&proved, "banner", Good, "220 home ESMTP", "220 home ESMTP"),
            (&proved, "starttls", Good, "TLSv1.3 X", "TLSv1.3 "),
            (
                &failed,
                "starttls",
                Good,
                "a certificate is presented",
                "ein Zertifikat wird gezeigt",
            ),
            (
                &failed,
                "starttls",
                Noted,
                "not offered",
                "wird nicht angeboten",
            ),
            (
                &failed,
                "starttls",
                Noted,
                "goes on without TLS: it refused",
                "es geht ohne TLS weiter",
            ),
            (
                &proved,
                "chain",
                Good,
                "issued by CN=members G1",
                "ausgestellt von CN=members G1",
            ),
            (
                &proved,
                "chain",
                Noted,
                "",
                "ausgestellt von CN=members G1, nicht weiter geprüft",
            ),
            (&proved, "name", Good, "home.example", "home.example"),
            (
                &failed,
                "name",
                Good,
                "no name; subject CN=home",
                "kein Name; Inhaber: CN=home",
            ),
            (
                &proved,
                "expiry",
                Good,
                "valid until 2027",
                "gültig bis 30.11.2027, in 365 Tagen",
            ),
            (
                &proved,
                "proof",
                Good,
                "certificate",
                "Zertifikat einer vereinbarten Stelle",
            ),
            (
                &proved,
                "size",
                Good,
                "at most 50000000 bytes",
                "höchstens 50 MB",
            ),
        ] {
            let told = Look::new(host, Language::German, now).step(&step(name, result, detail));
            assert_eq!(told.text, german, "{name} {detail}");
        }
    }

    #[test]
    fn a_certificate_without_end_is_not_said_to_have_ended() {
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        let endless = PeerCertificate {
            not_after: jiff::Timestamp::MAX,
            ..certificate(&["home.example"])
        };
        let host = host("TLSv1.3", Some(endless));
        let look = Look::new(&host, Language::German, now);
        let told = look.step(&step("expiry", Step::Good, "valid without end"));
        assert_eq!(told.text, "gültig bis auf Weiteres");
    }

    #[test]
    fn a_failed_step_says_what_to_do_and_keeps_the_agents_sentence_to_unfold() {
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        let mut host = host("", None);
        host.sentence = "the name home.example exists, but has no address (neither A nor AAAA); enter one in its DNS".to_owned();
        let look = Look::new(&host, Language::German, now);
        let told = look.sentence();
        assert!(
            told.text
                .starts_with("Der Name home.example hat im DNS keine Adresse"),
            "{told:?}"
        );
        assert_eq!(told.verbatim.as_ref(), Some(&host.sentence));
        let bad = look.step(&step("resolve", Step::Bad, &host.sentence));
        assert_eq!(bad, Told::plain(Language::German.words().c_see_above));
    }

    #[test]
    fn what_a_proved_site_refuses_is_no_matter_of_a_line_that_is_down() {
        let now = "2026-11-30T12:00:00Z".parse().unwrap();
        let mut host = host("TLSv1.3", Some(certificate(&["home.example"])));
        host.steps.push(step("proof", Step::Good, "certificate"));
        for (detail, says) in [
            ("the site answered `554 5.7.1 no`", "mail server's log"),
            ("the site answered `421 4.3.2 later`", "usually passes"),
        ] {
            let look = Look::new(&host, Language::English, now);
            let told = look.step(&step("banner", Step::Bad, detail));
            assert!(told.text.contains(says), "{told:?}");
        }
        host.steps.clear();
        let look = Look::new(&host, Language::English, now);
        let none = "the name home.example has no IPv6 address, and the site is set to be reached by that family only; look at its DNS";
        let told = look.step(&step("resolve", Step::Bad, none));
        assert!(told.text.contains("of the one kind"), "{told:?}");
    }
}
