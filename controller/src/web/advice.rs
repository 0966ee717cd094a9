//! One sentence that says what a member can do, by what came of the last try.
//!
//! # Not here
//! What was found, in full: that sentence comes from the agent, in English, and is shown beside this one.

use super::language::Language;

/// German, English.
type Both = [&'static str; 2];

const GENERIC_DOWN: Both = [
    "Prüfen Sie, ob der Rechner läuft, ob sein DynDNS-Name auf die heutige Adresse zeigt und ob der Router den Port weiterleitet.",
    "Check that the machine is running, that its DynDNS name points to today's address, and that the router forwards the port.",
];

const DOWN: [(&str, Both); 8] = [
    (
        "(nxdomain)",
        [
            "Den Namen {name} gibt es im DNS nicht: prüfen Sie, ob Ihr DynDNS-Eintrag noch besteht und der Name richtig geschrieben ist.",
            "The name {name} does not exist in the DNS: check that your DynDNS entry is still there, and the spelling of the name.",
        ],
    ),
    (
        "cannot be looked up",
        [
            "Der Name {name} ließ sich nicht auflösen. Oft vergeht das von selbst; hält es an, antworten die Nameserver Ihrer Domain nicht: fragen Sie deren Anbieter oder Ihren Provider.",
            "The name {name} could not be looked up. This often passes; if it lasts, your domain's name servers do not answer: ask who runs them, or your provider.",
        ],
    ),
    (
        "has no address",
        [
            "Der Name {name} hat im DNS keine Adresse: sehen Sie nach Ihrem DynDNS-Client.",
            "The name {name} has no address in the DNS: look after your DynDNS client.",
        ],
    ),
    (
        "by that family only",
        [
            "{name} hat keine Adresse der Art (IPv4 oder IPv6), über die allein Ihre Site erreicht werden soll: sehen Sie nach Ihrem DynDNS-Client, oder fragen Sie Ihren Provider.",
            "{name} has no address of the one kind (IPv4 or IPv6) by which your site is set to be reached: look after your DynDNS client, or ask your provider.",
        ],
    ),
    (
        "refused",
        [
            "Der Anschluss antwortet, aber auf diesem Port lauscht kein Mailserver: starten Sie ihn, oder prüfen Sie die Portweiterleitung.",
            "The line answers, but no mail server listens on this port: start it, or check the port forwarding.",
        ],
    ),
    (
        "no public address",
        [
            "Der Name {name} zeigt auf eine Adresse, die nicht im Internet liegt: sehen Sie nach Ihrem DynDNS-Client.",
            "The name {name} points to an address that is not on the Internet: look after your DynDNS client.",
        ],
    ),
    (
        "belongs to the provider",
        [
            "Der Name {name} zeigt auf eine Adresse Ihres Providers: sehen Sie nach Ihrem DynDNS-Client.",
            "The name {name} points to an address of your provider's: look after your DynDNS client.",
        ],
    ),
    ("", GENERIC_DOWN),
];

const ISSUE_ANEW: Both = [
    "Dieses Zertifikat entspricht nicht den Regeln: lassen Sie es neu ausstellen.",
    "This certificate breaks the rules: have it issued anew.",
];

const WRONG: [(&str, Both); 37] = [
    (
        "NoStartTls",
        [
            "Was dort antwortet, bietet kein STARTTLS. Ist es Ihr Server, schalten Sie TLS ein; sonst zeigt Ihr DynDNS-Name auf eine alte Adresse.",
            "What answers there offers no STARTTLS. If it is your server, turn TLS on; if not, your DynDNS name points to an old address.",
        ],
    ),
    (
        "UnknownIssuer",
        [
            "Das gezeigte Zertifikat stammt nicht von der vereinbarten Stelle. Ist es Ihr Server, installieren Sie dort das richtige Zertifikat samt Kette; sonst zeigt Ihr DynDNS-Name auf eine alte Adresse.",
            "The certificate shown was not issued by the agreed authority. If it is your server, install the right certificate with its chain; if not, your DynDNS name points to an old address.",
        ],
    ),
    (
        "NameMismatch",
        [
            "Das gezeigte Zertifikat gilt für einen anderen Namen. Entweder antwortet ein fremder Rechner (prüfen Sie Ihren DynDNS-Namen), oder auf Ihrem Server ist das falsche Zertifikat installiert.",
            "The certificate shown is for another name. Either a stranger's machine answers (check your DynDNS name), or the wrong certificate is installed on your server.",
        ],
    ),
    (
        "Expired",
        [
            "Ihr Zertifikat ist abgelaufen: erneuern Sie es, und laden Sie den Mailserver neu.",
            "Your certificate has expired: renew it, and reload the mail server.",
        ],
    ),
    (
        "NotYetValid",
        [
            "Das Zertifikat gilt noch nicht: prüfen Sie seine Daten und die Uhr des Servers.",
            "The certificate is not valid yet: check its dates, and the server's clock.",
        ],
    ),
    (
        "CaUsedAsEndEntity",
        [
            "Ihr Server zeigt das Zertifikat einer Zertifizierungsstelle statt eines eigenen: lassen Sie sich eines für den Server ausstellen.",
            "Your server shows an authority's certificate instead of its own: have one issued for the server.",
        ],
    ),
    (
        "Revoked",
        [
            "Dieses Zertifikat wurde widerrufen: bitten Sie Ihren Provider um ein neues.",
            "This certificate has been revoked: ask your provider for a new one.",
        ],
    ),
    (
        "RevocationUnknown",
        [
            "Ob das Zertifikat widerrufen ist, lässt sich gerade nicht feststellen: fragen Sie Ihren Provider.",
            "Whether the certificate has been revoked cannot be told at the moment: ask your provider.",
        ],
    ),
    (
        "WeakKey",
        [
            "Der Schlüssel des Zertifikats ist zu kurz: stellen Sie eines mit mindestens 2048 Bit aus.",
            "The certificate's key is too short: issue one with at least 2048 bits.",
        ],
    ),
    (
        "AnchorExpired",
        [
            "Die Zertifizierungsstelle selbst ist abgelaufen: fragen Sie Ihren Provider.",
            "The authority itself has expired: ask your provider.",
        ],
    ),
    (
        "NoAnchor",
        [
            "Beim Provider fehlt die Zertifizierungsstelle Ihrer Site: fragen Sie ihn.",
            "The provider lacks the authority of your site: ask there.",
        ],
    ),
    (
        "BadCertificate",
        [
            "Das Zertifikat ist nicht lesbar: installieren Sie es neu.",
            "The certificate cannot be read: install it anew.",
        ],
    ),
    (
        "WrongPurpose",
        [
            "Das Zertifikat ist nicht für Server bestimmt: lassen Sie eines mit dem Zweck „serverAuth“ ausstellen.",
            "The certificate is not meant for servers: have one issued for “serverAuth”.",
        ],
    ),
    (
        "TlsTooOld",
        [
            "Ihr Mailserver spricht nur veraltetes TLS: bringen Sie ihn auf TLS 1.2 oder neuer.",
            "Your mail server speaks outdated TLS only: update it to TLS 1.2 or newer.",
        ],
    ),
    (
        "AddressNotListed",
        [
            "Die Antwort kam von einer Adresse, die für Ihre Site nicht eingetragen ist: lassen Sie sie eintragen, oder prüfen Sie den Namen.",
            "The answer came from an address that is not listed for your site: have it listed, or check the name.",
        ],
    ),
    (
        "FingerprintNotListed",
        [
            "Das gezeigte Zertifikat ist nicht das vereinbarte: lassen Sie den neuen Fingerabdruck eintragen, falls Sie es gewechselt haben.",
            "The certificate shown is not the agreed one: have the new fingerprint entered if you have replaced it.",
        ],
    ),
    (
        "Loop",
        [
            "Die Verbindung kam bei uns selbst wieder an: der eingetragene Name zeigt auf den Provider.",
            "The connection came back to ourselves: the configured name points to the provider.",
        ],
    ),
    (
        "TurnedAway",
        [
            "Der Server hat uns abgewiesen, bevor er sich ausweisen konnte: lassen Sie unsere Adressen (unten) durch seine Filter.",
            "The server turned us away before it could prove itself: let our addresses (below) through its filters.",
        ],
    ),
    (
        "NoEsmtp",
        [
            "Dort antwortet ein LMTP-Dienst oder ein Server, der EHLO nicht kennt: geben Sie den Port Ihres SMTP-Servers an.",
            "What answers there speaks LMTP, or does not know EHLO: give the port of your SMTP server.",
        ],
    ),
    (
        "NotSmtp",
        [
            "Dort antwortet etwas, das kein Mailserver ist: prüfen Sie Port und Weiterleitung.",
            "What answers there is no mail server: check the port and its forwarding.",
        ],
    ),
    (
        "HandshakeFailed",
        [
            "Die Verschlüsselung kam nicht zustande: sehen Sie in das Protokoll Ihres Mailservers. Oft sind seine Verschlüsselungsverfahren zu alt, sein Schlüssel ist von einer seltenen Art, oder er verlangt ein Client-Zertifikat.",
            "Encryption could not be set up: look into the log of your mail server. Often its ciphers are too old, its key is of a rare kind, or it asks for a client certificate.",
        ],
    ),
    (
        "SelfSigned",
        [
            "Das gezeigte Zertifikat hat sich der Server selbst ausgestellt. Ist es Ihr Server, installieren Sie dort das vereinbarte; sonst zeigt Ihr DynDNS-Name auf eine alte Adresse.",
            "The certificate shown was issued by the server to itself. If it is your server, install the agreed one; if not, your DynDNS name points to an old address.",
        ],
    ),
    (
        "SameNameOtherKey",
        [
            "Das Zertifikat stammt von einer Stelle, die nur so heißt wie die vereinbarte: lassen Sie sich von Ihrem Provider ein neues ausstellen.",
            "The certificate comes from an authority that only has the name of the agreed one: have your provider issue a new one.",
        ],
    ),
    (
        "ChainIncomplete",
        [
            "Wer das gezeigte Zertifikat ausgestellt hat, sagt der Server nicht. Ist es Ihr Server, installieren Sie dort das vereinbarte Zertifikat mit der ganzen Kette; sonst zeigt Ihr DynDNS-Name auf eine alte Adresse.",
            "The server does not send the certificate of whoever issued the one it shows. If it is your server, install the agreed certificate with its whole chain; if not, your DynDNS name points to an old address.",
        ],
    ),
    (
        "NameOnlyInCn",
        [
            "Der Name steht nur im „Common Name“, der nicht mehr zählt: lassen Sie ein Zertifikat mit dem Namen als „Subject Alternative Name“ ausstellen.",
            "The name stands in the common name only, which does not count any more: have a certificate issued with it as subject alternative name.",
        ],
    ),
    (
        "TlsFellAway",
        [
            "Ihr Server konnte bisher TLS und bietet es jetzt nicht mehr an: schalten Sie es wieder ein. Ist das gewollt, sagen Sie es Ihrem Provider.",
            "Your server has had TLS until now and does not offer it any more: turn it on again. If that is meant, tell your provider.",
        ],
    ),
    (
        "StartTlsRefused",
        [
            "Ihr Server bietet STARTTLS an und lehnt es dann ab: sehen Sie in seine TLS-Einstellungen.",
            "Your server offers STARTTLS and then refuses it: look into its TLS settings.",
        ],
    ),
    (
        "AnchorNotYetValid",
        [
            "Die Zertifizierungsstelle selbst gilt noch nicht: fragen Sie Ihren Provider.",
            "The authority itself is not valid yet: ask your provider.",
        ],
    ),
    (
        "BadRevocationList",
        [
            "Die Sperrliste der Zertifizierungsstelle ist nicht brauchbar: fragen Sie Ihren Provider.",
            "The authority's revocation list cannot be used: ask your provider.",
        ],
    ),
    (
        "PortIsPublic",
        [
            "Für Ihre Site ist Port 25 eingetragen, der als Nachweis nicht reicht: fragen Sie Ihren Provider.",
            "Your site is configured with port 25, which proves nothing: ask your provider.",
        ],
    ),
    ("NameNotPermitted", ISSUE_ANEW),
    ("ChainNotAllowed", ISSUE_ANEW),
    ("UnsafeSignature", ISSUE_ANEW),
    (
        "UnsupportedKey",
        [
            "Diese Art von Schlüssel oder Unterschrift wird hier nicht unterstützt: nehmen Sie RSA, P-256, P-384, P-521 oder Ed25519, mit SHA-256.",
            "This kind of key or signature is not supported here: use RSA, P-256, P-384, P-521 or Ed25519, with SHA-256.",
        ],
    ),
    (
        "CertificateVersion1",
        [
            "Das Zertifikat ist von der alten Version 1 und enthält keine Namen: lassen Sie es als Version 3 mit dem Namen als „subjectAltName“ ausstellen.",
            "The certificate is of the old version 1 and carries no names: have it issued as version 3, with the name as “subjectAltName”.",
        ],
    ),
    ("CriticalExtension", ISSUE_ANEW),
    (
        "",
        [
            "Prüfen Sie, ob Ihr DynDNS-Name auf Ihren Server zeigt und dort das richtige Zertifikat installiert ist.",
            "Check that your DynDNS name points to your server, and that the right certificate is installed there.",
        ],
    ),
];

const REFUSED: Both = [
    "Sehen Sie in das Protokoll Ihres Mailservers: er muss Mail für Ihre Domains von unseren Adressen (unten) annehmen.",
    "Look into your mail server's log: it has to take mail for your domains from our addresses (below).",
];

const BUSY: Both = [
    "Meist vergeht das von selbst. Hält es an, prüfen Sie Plattenplatz und Last Ihres Mailservers.",
    "This usually passes. If it lasts, check the disk space and the load of your mail server.",
];

const DEFERRED: Both = [
    "Die Antwort Ihres Servers steht unten bei den letzten Versuchen; oft ist es Greylisting oder ein volles Postfach.",
    "Your server's answer stands below with the last tries; often it is greylisting or a full mailbox.",
];

const IN_DOUBT: Both = [
    "Die Verbindung brach ab, als die Mail schon ganz übertragen war: Ihr Server hat sie vielleicht, und bekommt sie noch einmal.",
    "The connection broke when the mail had been sent whole: your server may have it, and gets it again.",
];

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    /// The word for the site's state, or for what came of a try.
    pub(super) why: &'a str,
    /// The greppable word for why a proof was withheld.
    pub(super) reason: &'a str,
    /// In full.
    pub(super) detail: &'a str,
    /// Where the site is to be found, each with its port.
    pub(super) hosts: &'a [&'a str],
}

impl Found<'_> {
    /// The name it is about: the one in the sentence, else the first.
    fn name(&self) -> &str {
        let name = |host: &&&str| self.detail.contains(without_port(host));
        let found = self.hosts.iter().find(name);
        found
            .or(self.hosts.first())
            .map_or("", |it| without_port(it))
    }
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

pub(super) fn advice(found: &Found<'_>, language: Language) -> Option<String> {
    let holds = |text: &str| DOWN.iter().find(|(part, _)| text.contains(part));
    let is = |word: &str| WRONG.iter().find(|(it, _)| *it == word || it.is_empty());
    let [german, english] = match found.why {
        "down" | "unreachable" => holds(&found.detail.to_ascii_lowercase())?.1,
        "wrong-host" => is(found.reason)?.1,
        "in-doubt" => IN_DOUBT,
        "refused" => REFUSED,
        "busy" => BUSY,
        "deferred" => DEFERRED,
        _ => return None,
    };
    let sentence = match language {
        Language::German => german,
        Language::English => english,
    };
    Some(sentence.replace("{name}", found.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_our_agent_has_its_advice() {
        let words = crate::dsn::refused::documented();
        let advised = |word: &str| WRONG.iter().any(|(it, _)| *it == word);
        let without: Vec<&str> = words.filter(|word| !advised(word)).collect();
        assert_eq!(without, [""; 0]);
    }

    #[test]
    fn each_trouble_has_its_advice() {
        for (why, reason, detail, says) in [
            (
                "down",
                "",
                "192.0.2.1:25 does not answer within 30 seconds",
                "router forwards",
            ),
            (
                "down",
                "",
                "the name a.example exists, but has no address (neither A nor AAAA); enter one in its DNS",
                "DynDNS client",
            ),
            (
                "down",
                "",
                "the name a.example does not exist (NXDOMAIN); look at its spelling",
                "does not exist",
            ),
            (
                "down",
                "",
                "the addresses of a.example cannot be looked up: the name server 192.0.2.53 refuses to answer (REFUSED)",
                "could not be looked up",
            ),
            (
                "down",
                "",
                "192.0.2.1:25 does not answer: Connection refused",
                "no mail server listens",
            ),
            ("wrong-host", "NameMismatch", "", "another name"),
            ("wrong-host", "Expired", "", "Your certificate has expired"),
            ("wrong-host", "AnchorExpired", "", "authority itself"),
            ("wrong-host", "SomethingNew", "", "right certificate"),
            ("refused", "", "", "log"),
        ] {
            let found = Found {
                why,
                reason,
                detail,
                hosts: &["b.example:25", "a.example:25"],
            };
            let sentence = advice(&found, Language::English).unwrap();
            assert!(sentence.contains(says), "{sentence}");
            let german = advice(&found, Language::German).unwrap();
            for sentence in [sentence, german] {
                assert_eq!(
                    sentence.contains("a.example"),
                    detail.contains("name"),
                    "{sentence}"
                );
            }
        }
        let nothing = Found {
            why: "",
            reason: "",
            detail: "",
            hosts: &[],
        };
        assert_eq!(advice(&nothing, Language::English), None);
    }
}
