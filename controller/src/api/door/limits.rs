//! How long what an agent says may be. What is longer is cut, for it contradicts nothing; but it is stored, shown and logged.

use dd_proto::pb;
use dd_proto::pb::agent_event::Event;

/// One sentence for people, in bytes. It may repeat a reply.
pub(crate) const SENTENCE: usize = 2500;
/// The text of a reply, in bytes.
pub(crate) const REPLY: usize = 2000;
/// What keeps an agent from working, in characters.
pub(crate) const TROUBLE: usize = 300;
/// A version, in characters.
pub(crate) const VERSION: usize = 80;
/// Hosts, addresses, names of ciphers and proofs; in bytes.
pub(crate) const WORD: usize = 300;
/// Names in a certificate.
pub(crate) const NAMES: usize = 50;
/// Addresses in the answer to a check, and steps at each.
const HOSTS: usize = 256;
const STEPS: usize = 32;

/// Cuts at the end of a character, and puts a space where a control character would break a line or a terminal.
pub(crate) fn text(said: &mut String, bytes: usize) {
    cut_to(said, bytes);
    if may_hold_control(said) {
        *said = said.replace(char::is_control, " ");
    }
}

/// In UTF-8 (RFC 3629 §3) a control character is a byte below a space, a DEL, or the byte 0xC2 and another. Looked at for
/// every string of every report, nearly none of which has any: without an early end, so that many bytes are looked at in
/// one step.
fn may_hold_control(said: &str) -> bool {
    let unfit = |byte: u8| byte < b' ' || byte == 0x7f || byte == 0xc2;
    said.bytes().fold(false, |any, byte| any | unfit(byte))
}

/// The same, but lines stay lines.
fn lines(said: &mut String, bytes: usize) {
    cut_to(said, bytes);
    let unfit = |c: char| c.is_control() && c != '\n';
    if said.contains(unfit) {
        *said = said.replace(unfit, " ");
    }
}

fn cut_to(said: &mut String, bytes: usize) {
    if said.len() > bytes {
        said.truncate(said.floor_char_boundary(bytes - '…'.len_utf8()));
        said.push('…');
    }
}

pub(super) fn cut(event: &mut Event) {
    match event {
        Event::Report(report) => cut_report(report),
        Event::Proved(proved) => proved.observed.iter_mut().for_each(cut_observed),
        Event::SessionClosed(closed) => text(&mut closed.detail, SENTENCE),
        Event::Checked(checked) => {
            checked.hosts.truncate(HOSTS);
            checked.hosts.iter_mut().for_each(cut_host);
        }
        // A trouble is cut where it is read, in the Hello too.
        _ => {}
    }
}

pub(super) fn cut_report(report: &mut pb::Report) {
    text(&mut report.detail, SENTENCE);
    report.observed.iter_mut().for_each(cut_observed);
    report.reply.iter_mut().for_each(cut_reply);
    let replies = report.recipients.iter_mut();
    replies
        .filter_map(|it| it.reply.as_mut())
        .for_each(cut_reply);
}

fn cut_reply(reply: &mut pb::Reply) {
    text(&mut reply.enhanced, 12);
    lines(&mut reply.text, REPLY);
}

fn cut_observed(observed: &mut pb::Observed) {
    for word in [
        &mut observed.host,
        &mut observed.peer,
        &mut observed.local,
        &mut observed.tls_version,
        &mut observed.tls_cipher,
        &mut observed.proof,
    ] {
        text(word, WORD);
    }
    text(&mut observed.greeting, REPLY);
    if let Some(certificate) = &mut observed.certificate {
        text(&mut certificate.subject, SENTENCE);
        text(&mut certificate.issuer, SENTENCE);
        text(&mut certificate.sha256, WORD);
        text(&mut certificate.spki_sha256, WORD);
        certificate.names.truncate(NAMES);
        certificate.names.iter_mut().for_each(|it| text(it, WORD));
    }
    if let Some(refusal) = &mut observed.refusal {
        text(&mut refusal.reason, WORD);
        for sentence in [
            &mut refusal.sentence,
            &mut refusal.wanted,
            &mut refusal.seen,
        ] {
            text(sentence, SENTENCE);
        }
    }
}

fn cut_host(host: &mut pb::HostCheck) {
    text(&mut host.host, WORD);
    text(&mut host.sentence, SENTENCE);
    host.observed.iter_mut().for_each(cut_observed);
    host.steps.truncate(STEPS);
    for step in &mut host.steps {
        text(&mut step.name, WORD);
        text(&mut step.detail, SENTENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_at_a_character_and_stays_on_its_line() {
        for (said, bytes, expected) in [
            ("short", 10, "short"),
            ("0123456789", 10, "0123456789"),
            ("01234567890", 10, "0123456…"),
            // Of a character nothing is left over.
            ("012345ßßßß", 10, "012345…"),
            ("one\r\ntwo\u{1b}[2J", 99, "one  two [2J"),
            // The first byte of U+0085, NEXT LINE, is also that of a no-break space and of £.
            ("next\u{85}line\u{a0}£", 99, "next line\u{a0}£"),
            ("Zoë\u{7f}", 99, "Zoë "),
        ] {
            let mut text_said = said.to_owned();
            text(&mut text_said, bytes);
            assert_eq!(text_said, expected);
        }
        let mut said = "one\ntwo\u{7}".to_owned();
        lines(&mut said, 99);
        assert_eq!(said, "one\ntwo ");
    }

    #[test]
    fn three_megabytes_of_detail_are_a_sentence() {
        let long = "x".repeat(3_000_000);
        let mut event = Event::Report(Box::new(pb::Report {
            detail: long.clone(),
            reply: Some(pb::Reply {
                code: 450,
                enhanced: long.clone(),
                text: long.clone(),
            }),
            observed: Some(pb::Observed {
                greeting: long.clone(),
                certificate: Some(pb::PeerCertificate {
                    names: vec![long; 200],
                    ..pb::PeerCertificate::default()
                }),
                ..pb::Observed::default()
            }),
            ..pb::Report::default()
        }));
        cut(&mut event);
        let Event::Report(report) = event else {
            panic!("it is a report");
        };
        let bytes = prost::Message::encoded_len(&report);
        assert!(bytes < SENTENCE + 2 * REPLY + NAMES * (WORD + 4) + 100);
    }
}
