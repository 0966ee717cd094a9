//! Mail to whoever looks after a site: what its server does, in their language, and what they can do.
//!
//! # Not here
//! When something is worth a mail: whoever calls [`super::Notifier::notice`].

use dd_proto::id::MessageId;
use dd_proto::path::Mailbox;
use dd_proto::site::{self, Site};
use dd_proto::smtp::reply::printable;
use jiff::Timestamp;
use mail_builder::headers::raw::Raw;

use crate::outages::judge::Why;

use super::text::{Composed, Form, Letterhead, finish, headed, text_part};
use super::words::paragraph;

/// What a reply takes at most.
const MAX_REPLY: usize = 1000;

/// What the contact reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    German,
    /// Nobody has said: both.
    Unknown,
}

impl Language {
    /// What the site's contact reads.
    pub fn of(site: &Site) -> Self {
        match site.language {
            Some(site::Language::English) => Self::English,
            Some(site::Language::German) => Self::German,
            None => Self::Unknown,
        }
    }
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub language: Language,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The site's own server, proved to be it, answers everything with 5yz.
    RefusesEverything { reply: String },
    /// The certificate that the site proves itself with ends.
    CertificateEnds { at: Timestamp },
    /// Mail has waited for long, for the site is not there, or does not take it.
    Away {
        why: Why,
        since: Timestamp,
        messages: u64,
        bytes: u64,
        /// What came of the last attempt; in English.
        detail: String,
    },
    /// The outage is over.
    FlowsAgain { since: Timestamp, until: Timestamp },
}

/// Whether the contact can be reached while the site is away: not at the site itself.
pub fn can_be_told(site: &Site) -> bool {
    let contact = site.contact.as_ref();
    contact.is_some_and(|it| {
        let domain = it.domain();
        !domain.is_some_and(|domain| site.domains.contains(domain))
    })
}

impl What {
    /// Whether the site takes no mail, this one included.
    pub(super) fn is_about_waiting_mail(&self) -> bool {
        match self {
            Self::RefusesEverything { .. } | Self::Away { .. } => true,
            Self::CertificateEnds { .. } | Self::FlowsAgain { .. } => false,
        }
    }
}

pub(super) fn compose(
    from: &Letterhead,
    id: MessageId,
    now: Timestamp,
    site: &Site,
    contact: &Mailbox,
    notice: &Notice,
) -> Composed {
    let mut text = String::new();
    let languages: &[Language] = match notice.language {
        Language::Unknown => &[Language::English, Language::German],
        Language::English => &[Language::English],
        Language::German => &[Language::German],
    };
    for language in languages {
        if !text.is_empty() {
            text.push_str("\r\n--\r\n");
        }
        write(&mut text, *language, site, &notice.what, from);
    }
    let form = match contact.is_ascii() {
        true => Form::Encoded,
        false => Form::Utf8,
    };
    let to = contact.written();
    let mail = headed(from, id, now, &to)
        .header(
            "Subject",
            Raw::new(subject(languages[0], site, &notice.what)),
        )
        .header("Auto-Submitted", Raw::new("auto-generated"));
    finish(mail, text_part(text.trim_start().to_owned(), form), form)
}

/// ASCII in both languages: it needs no encoding.
fn subject(language: Language, site: &Site, what: &What) -> String {
    let name = &site.name;
    match (what, language) {
        (What::RefusesEverything { .. }, Language::German) => {
            format!("{name}: Ihr Mailserver weist alle Mails ab")
        }
        (What::RefusesEverything { .. }, _) => format!("{name}: your mail server refuses all mail"),
        (What::CertificateEnds { .. }, Language::German) => {
            format!("{name}: das Zertifikat Ihres Mailservers endet bald")
        }
        (What::CertificateEnds { .. }, _) => {
            format!("{name}: the certificate of your mail server ends soon")
        }
        (What::Away { .. } | What::FlowsAgain { .. }, language) => {
            super::outage::subject(language, site, what)
        }
    }
}

fn write(out: &mut String, language: Language, site: &Site, what: &What, from: &Letterhead) {
    let (name, host, postmaster) = (&site.name, &from.hostname, &from.postmaster);
    let mut say = |text: &str| paragraph(out, text);
    match (what, language) {
        (What::Away { .. } | What::FlowsAgain { .. }, _) => {
            super::outage::write(&mut say, language, site, what, from);
        }
        (What::RefusesEverything { reply }, Language::German) => {
            say(&format!(
                "Hier ist das Mailsystem {host}. Der Mailserver von {name} ist erreichbar und hat sich ausgewiesen, lehnt aber jede Mail endg\u{fc}ltig ab. Zuletzt hat er geantwortet:"
            ));
            say(&printable(reply, MAX_REPLY));
            say(
                "Die Mails sind nicht verloren: sie warten bei uns, und wir versuchen es weiter. Bitte pr\u{fc}fen Sie die Einstellungen Ihres Mailservers, vor allem, ob er Ihre Domains und Empf\u{e4}nger noch kennt. Sobald er eine Mail annimmt, kommen alle anderen von selbst hinterher.",
            );
            say(&format!("Fragen beantwortet {postmaster}."));
        }
        (What::RefusesEverything { reply }, _) => {
            say(&format!(
                "This is the mail system at {host}. The mail server of {name} can be reached and has proved to be yours, but it refuses every message for good. Its last answer was:"
            ));
            say(&printable(reply, MAX_REPLY));
            say(
                "Your mail is not lost: it waits here, and is tried again. Please look at the settings of your mail server, above all whether it still knows your domains and recipients. As soon as it takes one message, all others follow by themselves.",
            );
            say(&format!("If you have a question, write to {postmaster}."));
        }
        (What::CertificateEnds { at }, Language::German) => {
            let day = at.strftime("%d.%m.%Y");
            say(&format!(
                "Hier ist das Mailsystem {host}. Das Zertifikat, mit dem sich der Mailserver von {name} ausweist, gilt nur noch bis zum {day}."
            ));
            say(
                "Danach k\u{f6}nnen wir Ihren Mailserver nicht mehr erkennen und halten Ihre Mails zur\u{fc}ck, bis er ein g\u{fc}ltiges vorweist. Bitte erneuern Sie es vorher.",
            );
            say(&format!("Fragen beantwortet {postmaster}."));
        }
        (What::CertificateEnds { at }, _) => {
            let day = at.strftime("%Y-%m-%d");
            say(&format!(
                "This is the mail system at {host}. The certificate by which the mail server of {name} proves to be yours is valid until {day} only."
            ));
            say(
                "After that we cannot recognise your mail server any more, and your mail waits here until it shows a valid one. Please renew it before.",
            );
            say(&format!("If you have a question, write to {postmaster}."));
        }
    }
}
