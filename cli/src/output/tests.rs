use super::*;

#[test]
fn a_cell_may_be_longer_than_a_format_string_can_pad() {
    let mut table = Table::new(&["LAST", "ID"]);
    table.row(["x".repeat(70_000), "1".to_owned()]);
    table.row(["short".to_owned(), "2".to_owned()]);
    let text = table.text("");
    assert_eq!(text.lines().count(), 3);
    assert!(text.ends_with("  2\n"));
}

#[test]
fn nothing_from_the_network_reaches_the_terminal_as_a_code() {
    let nasty = "a\x1b[2Jb\u{9b}c\u{202e}d\r\ne\u{7f}";
    let shown = printable(nasty);
    assert_eq!(shown, "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d\\r\\ne\\u{7f}");
    let json = json_printable(&serde_json::to_string(nasty).unwrap());
    assert!(!json.chars().any(is_hidden), "{json}");
    assert_eq!(serde_json::from_str::<String>(&json).unwrap(), nasty);
    let tag = json_printable(&serde_json::to_string("\u{e0001}").unwrap());
    assert_eq!(serde_json::from_str::<String>(&tag).unwrap(), "\u{e0001}");
}

#[test]
fn a_mistake_on_the_command_line_is_one_sentence() {
    for (rendered, said) in [
        (
            "error: unexpected argument '--prof' found\n\n  tip: a similar argument exists: '--proof'\n\nUsage: ddadm\n",
            "unexpected argument '--prof' found; a similar argument exists: '--proof'; see --help",
        ),
        (
            "error: invalid value 'x' for '--output <FORM>'\n  [possible values: table, json]\n\nFor more information, try '--help'.\n",
            "invalid value 'x' for '--output <FORM>' [possible values: table, json]; see --help",
        ),
        (
            "error: the following required arguments were not provided:\n  --out <DIR>\n  <NAME>\n\nUsage: ddadm\n",
            "the following required arguments were not provided: --out <DIR>, <NAME>; see --help",
        ),
        (
            "error: invalid value 'x' for '--last <N>': invalid digit found in string\n",
            "invalid value 'x' for '--last <N>': expected a whole number; see --help",
        ),
    ] {
        assert_eq!(usage_line(rendered), said);
    }
}

#[test]
fn sizes_are_short() {
    for (bytes, shown) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (25 << 20, "25.0 MiB"),
        (u64::MAX, "15.9 EiB"),
    ] {
        assert_eq!(bytes_shown(bytes), shown);
    }
}

#[test]
fn times_are_rfc_3339_and_nothing_is_nothing() {
    assert_eq!(time(0), None);
    assert_eq!(
        time(1_800_000_000_123).as_deref(),
        Some("2027-01-15T08:00:00.123Z")
    );
    assert_eq!(time_shown(1_800_000_000_123), "2027-01-15T08:00:00Z");
    assert_eq!(time(i64::MIN), None);
    let last = jiff::Timestamp::MAX.as_millisecond();
    for endless in [last, 253_402_300_799_000, i64::MAX] {
        assert_eq!(time(endless).as_deref(), Some(NO_END));
        assert_eq!(time_shown(endless), "no end");
    }
}
