//! What a site's contact is told of an outage: which it is, since when, how much waits, and what to do.
//!
//! # Not here
//! When: [`crate::outages`].

use dd_proto::site::Site;
use dd_proto::smtp::reply::printable;
use dd_proto::units::size_in_words;
use jiff::Timestamp;

use super::notice::{Language, What};
use super::text::Letterhead;
use crate::outages::judge::Why;

const MAX_DETAIL: usize = 300;

/// ASCII in both languages: it needs no encoding.
pub(super) fn subject(language: Language, site: &Site, what: &What) -> String {
    let name = &site.name;
    let says = match (what, language) {
        (What::FlowsAgain { .. }, Language::German) => "Ihre Mails kommen wieder an",
        (What::FlowsAgain { .. }, _) => "your mail flows again",
        (What::Away { why, .. }, Language::German) => match why {
            Why::Down => "Ihre Mails warten, Ihr Mailserver ist nicht erreichbar",
            Why::WrongHost => "Ihre Mails warten, dort antwortet ein anderer Server",
            Why::Refuses => "Ihre Mails warten, Ihr Mailserver weist uns ab",
        },
        (What::Away { why, .. }, _) => match why {
            Why::Down => "your mail waits, your mail server cannot be reached",
            Why::WrongHost => "your mail waits, another server answers in place of yours",
            Why::Refuses => "your mail waits, your mail server turns us away",
        },
        (What::RefusesEverything { .. } | What::CertificateEnds { .. }, _) => "",
    };
    format!("{name}: {says}")
}

pub(super) fn write(
    say: &mut impl FnMut(&str),
    language: Language,
    site: &Site,
    what: &What,
    from: &Letterhead,
) {
    match language {
        Language::German => german(say, site, what, from),
        Language::English | Language::Unknown => english(say, site, what, from),
    }
}

fn english(say: &mut impl FnMut(&str), site: &Site, what: &What, from: &Letterhead) {
    let (name, host, postmaster) = (&site.name, &from.hostname, &from.postmaster);
    match what {
        What::Away {
            why,
            since,
            messages,
            bytes,
            detail,
        } => {
            let (since, size) = (moment(*since), size_in_words(*bytes, '.'));
            say(&format!(
                "This is the mail system at {host}. Mail for {name} has been waiting here since {since}: {messages} messages, {size} in all. The last attempt:"
            ));
            say(&printable(detail, MAX_DETAIL));
            say(match why {
                Why::Down => {
                    "Your mail server does not answer. Please look whether it runs, whether your router lets port and addresses through, and whether the name we connect to has its present address."
                }
                Why::WrongHost => {
                    "Something answers at its address, but does not prove to be your mail server, so it gets nothing. Most often the address belongs to somebody else by now, or the certificate was changed. Please look whether the name we connect to has its present address, and whether your server shows the certificate that was agreed on."
                }
                Why::Refuses => {
                    "Your mail server answers, and turns every connection of ours away. Please look whether its access rules let our outbound addresses through."
                }
            });
            say(&format!(
                "No mail is lost: it is tried again every few minutes, and all of it follows by itself when your server takes it. The portal shows every attempt. You will hear from us once more when it flows again. If you have a question, write to {postmaster}."
            ));
        }
        What::FlowsAgain { since, until } => {
            let (since, until) = (moment(*since), moment(*until));
            say(&format!(
                "This is the mail system at {host}. Mail for {name} flows again: it had been waiting since {since}, and your mail server took the newest of it at {until}. There is nothing you have to do."
            ));
        }
        What::RefusesEverything { .. } | What::CertificateEnds { .. } => {}
    }
}

fn german(say: &mut impl FnMut(&str), site: &Site, what: &What, from: &Letterhead) {
    let (name, host, postmaster) = (&site.name, &from.hostname, &from.postmaster);
    match what {
        What::Away {
            why,
            since,
            messages,
            bytes,
            detail,
        } => {
            let (since, size) = (moment(*since), size_in_words(*bytes, ','));
            say(&format!(
                "Hier ist das Mailsystem {host}. Seit {since} warten hier Mails f\u{fc}r {name}: {messages} Mails, zusammen {size}. Der letzte Versuch (auf Englisch):"
            ));
            say(&printable(detail, MAX_DETAIL));
            say(match why {
                Why::Down => {
                    "Ihr Mailserver antwortet nicht. Bitte sehen Sie nach, ob er l\u{e4}uft, ob Ihr Router Port und Adressen durchl\u{e4}sst und ob der Name, zu dem wir verbinden, auf die jetzige Adresse zeigt."
                }
                Why::WrongHost => {
                    "An der Adresse antwortet etwas, weist sich aber nicht als Ihr Mailserver aus und bekommt deshalb nichts. Meist geh\u{f6}rt die Adresse inzwischen jemand anderem, oder das Zertifikat wurde gewechselt. Bitte sehen Sie nach, ob der Name, zu dem wir verbinden, auf die jetzige Adresse zeigt und ob Ihr Server das vereinbarte Zertifikat vorweist."
                }
                Why::Refuses => {
                    "Ihr Mailserver antwortet, weist aber jede unserer Verbindungen ab. Bitte sehen Sie nach, ob seine Zugangsregeln unsere ausgehenden Adressen durchlassen."
                }
            });
            say(&format!(
                "Es geht nichts verloren: wir versuchen es alle paar Minuten, und sobald Ihr Server die Mails annimmt, kommen alle von selbst hinterher. Das Portal zeigt jeden Versuch. Wenn es wieder l\u{e4}uft, h\u{f6}ren Sie noch einmal von uns. Fragen beantwortet {postmaster}."
            ));
        }
        What::FlowsAgain { since, until } => {
            let (since, until) = (moment(*since), moment(*until));
            say(&format!(
                "Hier ist das Mailsystem {host}. Die Mails f\u{fc}r {name} kommen wieder an: sie hatten seit {since} gewartet, und die letzte hat Ihr Mailserver um {until} angenommen. Sie m\u{fc}ssen nichts tun."
            ));
        }
        What::RefusesEverything { .. } | What::CertificateEnds { .. } => {}
    }
}

/// In UTC, and says so: nobody knows where the reader is.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
