//! Words that people type and programs print: what was read is printed as what reads back as the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use dd_proto::domain::Domain;
use dd_proto::fingerprint::Fingerprint;
use dd_proto::hold::HoldPeriod;
use dd_proto::id::MessageId;
use dd_proto::name::{AgentName, AuthorityName, SiteName};
use dd_proto::path::Mailbox;
use dd_proto::smtp::status::Status;
use dd_proto::token::JoinToken;
use dd_proto::units::{format_duration, format_size, parse_duration, parse_size};

/// Names, domains, addresses, times, sizes, join tokens.
pub fn words(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    comes_back::<SiteName>(text);
    comes_back::<AgentName>(text);
    comes_back::<AuthorityName>(text);
    comes_back::<Domain>(text);
    comes_back::<MessageId>(text);
    comes_back::<Fingerprint>(text);
    comes_back::<HoldPeriod>(text);
    comes_back::<Status>(text);
    comes_back::<Mailbox>(text);
    if let Ok(mailbox) = text.parse::<Mailbox>() {
        mailbox_goes_on(&mailbox);
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    if let Ok(bytes) = parse_size(text) {
        assert_eq!(parse_size(&format_size(bytes)), Ok(bytes), "{text}");
    }
    if let Ok(token) = JoinToken::parse(text) {
        assert_eq!(JoinToken::parse(&token.encode()), Ok(token));
    }
}

fn comes_back<T: FromStr + Display + Debug + PartialEq>(text: &str)
where
    T::Err: Debug,
{
    let Ok(read) = text.parse::<T>() else {
        return;
    };
    let printed = read.to_string();
    assert!(!printed.contains(char::is_control), "{printed:?}");
    let again = printed.parse::<T>();
    assert_eq!(again.ok(), Some(read), "{text:?} is printed as {printed:?}");
}

/// As it stands in a command, it is the same mailbox.
fn mailbox_goes_on(mailbox: &Mailbox) {
    let written = mailbox.written();
    let again: Mailbox = written.parse().expect("what we write, we can read");
    assert!(
        again.same_mailbox(mailbox),
        "{mailbox} is written {written}"
    );
    assert_eq!(again.written(), written, "each time another");
    if let Some(ascii) = mailbox.written_in_ascii() {
        assert!(ascii.is_ascii(), "{ascii}");
        let again: Mailbox = ascii.parse().expect("what we write, we can read");
        assert!(again.same_mailbox(mailbox), "{mailbox} is written {ascii}");
    }
}
