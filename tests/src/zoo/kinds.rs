//! The servers that are known, a page each. What is written here was seen with the real programs (November 2026), or is
//! what their manuals say.

use std::time::Duration;

use super::habits::{BehindDot, Errors, Habits, Mailboxes, Manner, Messages, Reads};

const USUAL: &[&str] = &["PIPELINING", "SIZE 52428800", "8BITMIME"];

/// A server without any peculiarity.
pub fn plain() -> Habits {
    Habits {
        name: "plain",
        keywords: USUAL,
        mailboxes: Mailboxes::Users,
        unknown: "550 5.1.1 no such user here",
        unknown_after: Duration::ZERO,
        refused_sender: None,
        errors: Errors::FORGIVEN,
        resets: None,
        messages: None,
        behind_dot: BehindDot::Handled,
        reads: Reads::All,
        greylist: None,
        tests_a_session: false,
    }
}

/// Postfix 3.7: from the tenth error on each answer takes a second, the twentieth ends the session.
pub fn postfix() -> Habits {
    Habits {
        name: "postfix",
        keywords: &[
            "PIPELINING",
            "SIZE 10240000",
            "ETRN",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "DSN",
            "SMTPUTF8",
        ],
        unknown: "550 5.1.1 Recipient address rejected: User unknown in local recipient table",
        errors: Errors {
            slow_from: 10,
            slow: Duration::from_secs(1),
            end_at: 20,
            says: "421 4.7.0 home.example Error: too many errors",
            manner: Manner::Behind,
        },
        ..plain()
    }
}

/// Postfix whose administrator has set `smtpd_delay_reject = no` and asks for sender domains that exist.
pub fn postfix_strict() -> Habits {
    Habits {
        name: "postfix-strict",
        refused_sender: Some("550 5.1.8 Sender address rejected: Domain not found"),
        ..postfix()
    }
}

/// Postfix behind postscreen with tests after the greeting.
pub fn postscreen() -> Habits {
    Habits {
        name: "postscreen",
        tests_a_session: true,
        ..postfix()
    }
}

/// Exim 4.96 as Debian sets it up: the twelfth RSET ends the session.
pub fn exim() -> Habits {
    Habits {
        name: "exim",
        keywords: &["SIZE 52428800", "8BITMIME", "PIPELINING", "PRDR", "HELP"],
        unknown: "550 Unrouteable address",
        resets: Some((12, "554 Too many nonmail commands")),
        ..plain()
    }
}

/// Exim with `smtp_accept_max_per_connection = 10`.
pub fn exim_of_ten() -> Habits {
    Habits {
        name: "exim-of-ten",
        messages: Some(Messages {
            most: 10,
            says: "421 too many messages in this connection",
            ends: true,
        }),
        ..exim()
    }
}

/// Sendmail 8.17 without `delay_checks`: asks at MAIL whether the sender's domain exists.
pub fn sendmail() -> Habits {
    Habits {
        name: "sendmail",
        keywords: &[
            "ENHANCEDSTATUSCODES",
            "PIPELINING",
            "8BITMIME",
            "SIZE",
            "DSN",
            "DELIVERBY",
            "HELP",
        ],
        unknown: "550 5.1.1 User unknown",
        refused_sender: Some("553 5.1.8 Domain of sender address does not exist"),
        ..plain()
    }
}

/// OpenSMTPD 7.4: a hundred messages a session, and it stays open behind them.
pub fn opensmtpd() -> Habits {
    Habits {
        name: "opensmtpd",
        keywords: &[
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "SIZE 36700160",
            "DSN",
            "HELP",
        ],
        unknown: "550 Invalid recipient",
        messages: Some(Messages {
            most: 100,
            says: "452 4.5.3 Too many messages sent",
            ends: false,
        }),
        ..plain()
    }
}

/// Courier 1.0: a tarpit for unknown recipients, and what stands behind the dot is lost.
pub fn courier() -> Habits {
    Habits {
        name: "courier",
        keywords: &[
            "XVERP=Courier",
            "XEXDATA",
            "XSECURITY=NONE",
            "PIPELINING",
            "8BITMIME",
            "SIZE",
            "DSN",
        ],
        unknown: "550 User unknown.",
        unknown_after: Duration::from_secs(8),
        refused_sender: Some("517 Domain does not exist."),
        behind_dot: BehindDot::Lost,
        ..plain()
    }
}

/// chasquid 1.11: what stands behind the dot is lost, the third error of a session is answered 421 and ends it, and
/// SPF is asked at MAIL.
pub fn chasquid() -> Habits {
    Habits {
        name: "chasquid",
        keywords: &[
            "8BITMIME",
            "PIPELINING",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "SIZE 52428800",
            "HELP",
        ],
        unknown: "550 5.1.1 Destination address is unknown (user does not exist)",
        refused_sender: Some("550 5.7.23 SPF check failed: matched all"),
        errors: Errors {
            end_at: 3,
            says: "421 4.5.0 Too many errors, bye",
            ..Errors::FORGIVEN
        },
        behind_dot: BehindDot::Lost,
        ..plain()
    }
}

/// Haraka 3.3: 503 to every command found behind the dot.
pub fn haraka() -> Habits {
    Habits {
        name: "haraka",
        keywords: &["PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 0"],
        mailboxes: Mailboxes::All,
        refused_sender: Some("550 No MX for your FROM address"),
        behind_dot: BehindDot::Refused,
        ..plain()
    }
}

/// qpsmtpd 0.94; as packaged it takes nothing at all, which is a [`super::Mood`].
pub fn qpsmtpd() -> Habits {
    Habits {
        name: "qpsmtpd",
        keywords: &["PIPELINING", "8BITMIME"],
        unknown: "550 mail to that address is not accepted here (#5.1.1)",
        refused_sender: Some("550 Your envelope sender is in my badmailfrom list"),
        ..plain()
    }
}

/// Like Exchange: five seconds for each refusal, and five of them end the session.
pub fn exchange() -> Habits {
    Habits {
        name: "exchange",
        keywords: &[
            "SIZE 37748736",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "CHUNKING",
        ],
        unknown: "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        errors: Errors {
            slow_from: 1,
            slow: Duration::from_secs(5),
            end_at: 5,
            says: "421 4.7.0 Too many errors on this connection, closing transmission channel",
            manner: Manner::Behind,
        },
        ..plain()
    }
}

/// Greylisting per sender and recipient, five minutes, as postgrey does it.
pub fn greylisting() -> Habits {
    Habits {
        name: "greylisting",
        greylist: Some(Duration::from_secs(300)),
        errors: Errors::FORGIVEN,
        ..postfix()
    }
}

/// Ten seconds for each unknown recipient.
pub fn tarpit() -> Habits {
    Habits {
        name: "tarpit",
        unknown_after: Duration::from_secs(10),
        ..plain()
    }
}

/// A proxy in front that handles the first line of each read and forgets the others.
pub fn first_line_only() -> Habits {
    Habits {
        name: "first-line-only",
        reads: Reads::FirstLine,
        ..plain()
    }
}

/// The same with the last line.
pub fn last_line_only() -> Habits {
    Habits {
        name: "last-line-only",
        reads: Reads::LastLine,
        ..plain()
    }
}

/// Most homes have one mailbox, and no PIPELINING is needed for it.
pub fn one_mailbox() -> Habits {
    Habits {
        name: "one-mailbox",
        keywords: &["SIZE 10240000", "8BITMIME"],
        mailboxes: Mailboxes::One,
        ..plain()
    }
}

/// All of them.
pub const ALL: &[fn() -> Habits] = &[
    plain,
    postfix,
    postfix_strict,
    postscreen,
    exim,
    exim_of_ten,
    sendmail,
    opensmtpd,
    courier,
    chasquid,
    haraka,
    qpsmtpd,
    exchange,
    greylisting,
    tarpit,
    first_line_only,
    last_line_only,
    one_mailbox,
];
