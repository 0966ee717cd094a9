use super::*;

const KINDS: [Kind; 4] = [
    Kind::Certificate,
    Kind::RevocationList,
    Kind::Request,
    Kind::PrivateKey,
];

/// A small DER value that says which one it is.
fn value(number: u8) -> Vec<u8> {
    let mut der = vec![0x30, 60];
    der.extend([number; 60]);
    der
}

fn section(kind: Kind, number: u8) -> String {
    text(kind, &value(number))
}

fn wide(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

/// The forms in which people have two sections, and whether both are read; where not, none is.
fn forms(kind: Kind) -> Vec<(&'static str, Vec<u8>, bool)> {
    let (a, b) = (section(kind, 1), section(kind, 2));
    let label = kind.label();
    let indented = b.replace('\n', "\n    ");
    let text = |name, text: String, both| (name, text.into_bytes(), both);
    let mut latin = b"# f\xfcr den Server\n".to_vec();
    latin.extend(format!("{a}{b}").bytes());
    let wide = wide(&format!("{a}{b}"));
    let under = |old: &str, new: &str| b.replace(old, new);
    vec![
        text("one after the other", format!("{a}{b}"), true),
        text("glued", format!("{}{b}", a.trim_end()), true),
        text("byte order mark", format!("\u{feff}{a}{b}"), true),
        text("indented", format!("{a}    {indented}"), true),
        text("CR LF", format!("{a}{b}").replace('\n', "\r\n"), true),
        text("CR", format!("{a}{b}").replace('\n', "\r"), true),
        text("no last newline", format!("{a}{}", b.trim_end()), true),
        text(
            "comments",
            format!("0 s:CN = a\n{a}---\nx: y\n{b}end\n"),
            true,
        ),
        text(
            "blank lines",
            format!("{a}{}", b.replace('\n', "\n\n")),
            true,
        ),
        text(
            "blanks behind",
            format!("{a}{b}").replace('\n', "  \n"),
            true,
        ),
        text(
            "parameters beside",
            format!("{a}{}{b}", b.replace(label, "EC PARAMETERS")),
            true,
        ),
        ("latin-1", latin, true),
        ("UTF-16", wide, true),
        text("cut off", format!("{a}{}", &b[..b.len() - 30]), false),
        text("cut in the body", format!("{a}{}", under("Ag", "")), false),
        text("not base64", format!("{a}{}", under("Ag", "*")), false),
        text("BEGIN lost a dash", format!("{a}{}", &b[1..]), false),
        text("first BEGIN lost a dash", format!("{}{b}", &a[1..]), false),
        text(
            "END lost a dash",
            format!("{a}{}", b.trim_end().trim_end_matches('-')),
            false,
        ),
        text(
            "two labels",
            format!("{a}{}", under("END ", "END OLD ")),
            false,
        ),
        text(
            "unknown label",
            format!("{a}{}", under(label, "SOMETHING")),
            false,
        ),
        text("PKCS#7", format!("{a}{}", under(label, "PKCS7")), false),
        text(
            "TRUSTED",
            format!("{a}{}", under(label, "TRUSTED CERTIFICATE")),
            false,
        ),
    ]
}

#[test]
fn a_text_is_read_whole_or_not_at_all() {
    for kind in KINDS {
        for (name, content, both) in forms(kind) {
            let found = read(&content, kind);
            match both {
                true => assert_eq!(found, Ok(vec![value(1), value(2)]), "{kind:?}: {name}"),
                false => assert!(found.is_err(), "{kind:?}: {name}: {found:?}"),
            }
        }
        assert_eq!(read(&value(1), kind), Ok(vec![value(1)]));
        assert_eq!(read_one(section(kind, 1).as_bytes(), kind), Ok(value(1)));
        let two = format!("{0}{0}", section(kind, 1));
        let several = PemError::Several { kind, count: 2 };
        assert_eq!(read_one(two.as_bytes(), kind), Err(several));
        for nothing in [&b""[..], b" \n", b"nothing", &[0x30, 5, 1], &[0x31, 0]] {
            assert!(read(nothing, kind).is_err());
        }
        let mut longer = value(1);
        longer.push(b'\n');
        assert_eq!(read(&longer, kind), Err(PemError::None(kind)));
    }
}

#[test]
fn other_kinds_are_left_where_they_are_but_never_a_list() {
    let all: String = KINDS
        .iter()
        .map(|kind| section(*kind, *kind as u8))
        .collect();
    for kind in KINDS {
        let without_list = all.replace(&section(Kind::RevocationList, 1), "");
        if kind != Kind::RevocationList {
            let found = read(without_list.as_bytes(), kind);
            assert_eq!(found, Ok(vec![value(kind as u8)]));
            assert!(read(all.as_bytes(), kind).is_err());
        } else {
            assert_eq!(read(all.as_bytes(), kind), Ok(vec![value(1)]));
            assert_eq!(
                read(without_list.as_bytes(), kind),
                Err(PemError::None(kind))
            );
        }
    }
    // A key that is locked is in nobody's way but of whoever needs the key.
    let locked = section(Kind::PrivateKey, 3).replace("PRIVATE", "ENCRYPTED PRIVATE");
    let beside = format!("{locked}{}", section(Kind::Certificate, 1));
    assert_eq!(
        read(beside.as_bytes(), Kind::Certificate),
        Ok(vec![value(1)])
    );
}

#[test]
fn a_refusal_names_the_line_the_label_and_the_way_out() {
    let certificate = section(Kind::Certificate, 1);
    let lines = certificate.lines().count();
    let trusted = certificate.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let said = |content: &[u8], kind| read(content, kind).unwrap_err().to_string();
    assert_eq!(
        said(
            format!("{certificate}{trusted}").as_bytes(),
            Kind::Certificate
        ),
        format!(
            "line {}: `TRUSTED CERTIFICATE` is OpenSSL's own form; convert it with `openssl x509 -in FILE -out NEW.pem`",
            lines + 1
        )
    );
    let mut pkcs7 = vec![0x30, 11];
    pkcs7.extend([6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2]);
    for (content, kind, expected) in [
        (
            &pkcs7[..],
            Kind::Certificate,
            "PKCS#7 in DER; convert it with `openssl pkcs7 -inform DER",
        ),
        (
            &[0x30, 3, 2, 1, 3],
            Kind::Certificate,
            "PKCS#12 (PFX); convert it with `openssl pkcs12 -nokeys",
        ),
        (
            &[0x30, 3, 2, 1, 3],
            Kind::PrivateKey,
            "openssl pkcs12 -nocerts",
        ),
        (
            b"",
            Kind::Certificate,
            "it is empty: expected a certificate",
        ),
        (
            b"x",
            Kind::RevocationList,
            "it holds no revocation list: expected PEM (`-----BEGIN X509 CRL-----`) or DER",
        ),
    ] {
        let said = said(content, kind);
        assert!(said.contains(expected), "{said}");
    }
    for locked in [
        section(Kind::PrivateKey, 1).replace("PRIVATE", "ENCRYPTED PRIVATE"),
        section(Kind::PrivateKey, 1).replacen(
            "KEY-----\n",
            "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
            1,
        ),
    ] {
        let said = said(locked.as_bytes(), Kind::PrivateKey);
        assert!(said.contains("`openssl pkey -in FILE"), "{said}");
    }
}

#[test]
fn a_key_in_place_of_a_request_is_known_in_every_form() {
    // Each begins with a version, a request with the part that is signed.
    let key = [0x30, 0x03, 0x02, 0x01, 0x00];
    let request = [0x30, 0x05, 0x30, 0x03, 0x02, 0x01, 0x00];
    let (labelled, wrapped) = (text(Kind::PrivateKey, &key), text(Kind::Request, &key));
    let both = text(Kind::Request, &request) + &labelled;
    for content in [
        labelled.as_bytes(),
        &key,
        wrapped.as_bytes(),
        both.as_bytes(),
    ] {
        assert!(holds_a_key(content));
    }
    assert!(holds_a_key(
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\ncut off"
    ));
    let pem = text(Kind::Request, &request);
    for content in [pem.as_bytes(), &request, b"", b"PRIVATE KEY"] {
        assert!(!holds_a_key(content));
    }
}

/// Each counts its lines from the one before, and not from the beginning: that took minutes.
#[test]
fn the_last_of_very_many_sections_is_named_by_its_line() {
    let many = section(Kind::Certificate, 1).repeat(20_000);
    let line = many.lines().count() + 1;
    let cut = format!("{many}-----BEGIN CERTIFICATE-----\nAAAA");
    let error = read(cut.as_bytes(), Kind::Certificate);
    let named = matches!(&error, Err(PemError::Section { line: it, .. }) if *it == line);
    assert!(named, "{error:?}, not line {line}");
}
