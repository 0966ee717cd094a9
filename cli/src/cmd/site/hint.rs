//! What an administrator should know beside what the home said.

use dd_proto::pb;

const JUDGES: &str = "the home seems to judge the agents' address as if it were the sender's; it has to let the outbound \
                      addresses through, see docs/members.md";

/// For the newest attempt, if there is anything to say.
pub(super) fn hint(attempts: &[pb::LastAttempt]) -> Option<&'static str> {
    let last = attempts.first()?;
    judges_us(&last.detail).then_some(JUDGES)
}

/// RFC 7372 §3: X.7.23 and X.7.24 are SPF, X.7.25 is the reverse name, X.7.26 several of them, DMARC too (RFC 7489 §12.1). All
/// see the agents' address, for the sender's was seen by the provider's MX. Servers without such codes say it in words.
fn judges_us(reply: &str) -> bool {
    const CODES: [&str; 4] = ["7.23", "7.24", "7.25", "7.26"];
    const WORDS: [&str; 5] = ["spf", "dmarc", "greylisted", "greylisting", "graylisted"];
    let is_sign = |word: &str| {
        let word = word.trim_matches(|it: char| !it.is_ascii_alphanumeric());
        let code = word.strip_prefix("5.").or_else(|| word.strip_prefix("4."));
        code.is_some_and(|it| CODES.contains(&it))
            || WORDS.iter().any(|it| word.eq_ignore_ascii_case(it))
    };
    reply.split_whitespace().any(is_sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_about_the_agents_address_is_told_apart() {
        for judges in [
            "the site answered `550 5.7.23 SPF check failed` to MAIL",
            "the site accepted no recipient: 550 5.7.1 rejected by DMARC policy (and 3 more answers)",
            "the site accepted no recipient: 450 4.2.0 Greylisted, try again later",
            "the site answered `451 4.7.24 <a@b.example>: (SPF) later`",
        ] {
            assert!(judges_us(judges), "{judges}");
        }
        for does_not in [
            "the site answered `550 5.1.1 spfister@home.example unknown` to RCPT",
            "the site answered `250 2.0.0 taken`",
            "the site answered `554 5.7.1 relay access denied`",
        ] {
            assert!(!judges_us(does_not), "{does_not}");
        }
    }
}
