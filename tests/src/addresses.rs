//! Addresses as carriers, forwarders, list servers, mailing services and gateways make them.
//!
//! Made up after their patterns, always the same ones: what a number stands for does not change.

const WORDS: [&str; 12] = [
    "anna",
    "bert.o'hara",
    "kasse-1",
    "vorname.nachname",
    "x_y",
    "T.Tanaka",
    "info",
    "shop&more",
    "a",
    "no-reply",
    "jsmith42",
    "presse.und.oeffentlichkeitsarbeit.des.vereins",
];
const DOMAINS: [&str; 10] = [
    "shop.example",
    "sitename.verein.example",
    "mg.newsletter-service.example",
    "Example.NET",
    "em1234.mail_host.example",
    "a-very-long-name-of-a-host-that-somebody-chose-for-a-machine.department.university.example",
    "carrier.example",
    "1und1.example",
    "-dsl-.pool.example",
    "b\u{fc}cher.example",
];

/// One of the patterns, with what stands for a word, a domain, another of both, and a number in hexadecimal digits.
type Pattern = fn(&str, &str, &str, &str, &str) -> String;

/// Local parts.
const PATTERNS: [Pattern; 40] = [
    |w, _, _, _, _| w.to_owned(),
    |w, _, v, _, _| format!("{w}+{v}"),
    // Forwarders: SRS, and BATV of two kinds.
    |w, d, _, _, h| format!("SRS0={}=2Z={d}={w}", &h[..4]),
    |w, d, v, e, h| format!("SRS0={}=2Z={d}=bounce+{h}-{v}={e}+{w}", &h[..4]),
    |w, d, _, e, h| format!("SRS1={}={e}=={}=2Z={d}={w}", &h[..4], &h[4..8]),
    |w, _, _, _, h| format!("prvs={}={w}", &h[..10]),
    |w, _, _, _, h| format!("prvs={w}={}", &h[..10]),
    |w, _, _, _, h| format!("btv1=={}=={w}", &h[..11]),
    // List servers: Mailman, Sympa, ezmlm, LISTSERV, Majordomo.
    |w, d, v, _, _| format!("{v}-bounces+{w}={d}"),
    |_, _, v, _, h| format!("{v}-confirm+{h}{h}"),
    |w, d, v, _, _| format!("bounce+{w}==a=={d}=={v}"),
    |w, d, v, _, _| format!("{v}-return-1207-{w}={d}"),
    |w, d, v, _, h| format!("{v}-sc.1200000.{h}-{w}={d}"),
    |w, d, v, _, _| format!("owner-{v}*{w}**{d}"),
    // Services that send for others.
    |w, d, _, _, h| format!("bounces+1234567-{}-{w}={d}", &h[..4]),
    |w, d, _, _, h| format!("bounce+{h}.4d5e6f-{w}={d}"),
    |_, _, _, _, h| format!("0102018f{h}-{h}-0000-000000"),
    |w, d, _, _, _| format!("bounce-mc.us1_123456.789-{w}={d}"),
    |w, d, v, _, _| format!("{v}+caf_={w}={d}"),
    |_, _, _, _, h| format!("3{h}{h}{h}{h}{h}docs-share-noreply"),
    |w, d, _, _, h| format!("msprvs1=20421{h}=bounces-{w}={d}"),
    // Exchange, its directory and its encapsulated addresses; X.400; Notes; fax.
    |_, _, v, _, _| format!("/O=ACME/OU=EXCHANGE/CN=RECIPIENTS/CN={v}"),
    |_, _, v, _, h| {
        format!(
            "IMCEAEX-_O=ACME_OU=EXCHANGE+20ADMINISTRATIVE+20GROUP+20+28{h}+29_CN=RECIPIENTS_CN={v}"
        )
    },
    |_, _, v, _, _| format!("\"/O=ACME CORP/OU=FIRST GROUP/CN=RECIPIENTS/CN={v}\""),
    |_, _, v, _, _| format!("/G={v}/S=Ek/O=firma/A=dbp/C=de/"),
    |_, _, v, _, _| format!("\"CN={v}  Ek/OU=Berlin/O=ACME\""),
    |_, _, _, _, h| format!("FAX=+49-30-{h}"),
    |w, d, _, _, _| format!("{w}%{d}"),
    |w, _, v, _, _| format!("gate!{v}!{w}"),
    // Dots wherever a carrier let people put them.
    |w, _, _, _, _| format!("{w}."),
    |w, _, _, _, _| format!(".{w}"),
    |w, _, v, _, _| format!("{w}..{v}"),
    |w, _, v, _, _| format!("{w}...{v}."),
    |w, _, _, _, _| format!("\"{w}..{w}\""),
    // What no grammar made, and what only quotes can hold.
    |w, _, v, _, _| format!("{w}({v})"),
    |w, _, v, _, _| format!("{w},{v};{w}:[{v}]"),
    |w, d, _, _, _| format!("\"{w}@{d}\""),
    |w, _, v, _, _| format!("\"{w} \\\"{v}\\\" > <\""),
    |w, _, _, _, _| format!("j\u{f6}rg.{w}"),
    |w, _, _, _, _| format!("{w}.\u{7530}\u{4e2d}"),
];

/// An address, and the local part of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub sender: String,
    pub local_part: String,
}

/// The pairs with these numbers.
pub fn made(numbers: std::ops::Range<usize>) -> Vec<Made> {
    numbers
        .map(|number| {
            let (pattern, round) = (number % PATTERNS.len(), number / PATTERNS.len());
            let other = (pattern * 7 + round + 3) % PATTERNS.len();
            let domain = DOMAINS[(pattern + round) % DOMAINS.len()];
            Made {
                sender: format!("{}@{domain}", local_part(pattern, number)),
                local_part: local_part(other, number + 1),
            }
        })
        .collect()
}

fn local_part(pattern: usize, number: usize) -> String {
    let word = |n: usize| WORDS[n % WORDS.len()];
    let host = |n: usize| DOMAINS[n % 8];
    let hex = format!(
        "{:016x}",
        (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    PATTERNS[pattern](
        word(number),
        host(number / 3),
        word(number / 5 + 1),
        host(number / 7 + 1),
        &hex,
    )
}
