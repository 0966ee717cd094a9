//! Why the controller is not reached, in words for whoever configured the way to it: the libraries below say it in theirs.

use crate::clock;

const NO_TLS: &str = "what answers there speaks no TLS, so it is another service: see that the port is the one of `[control] listen`";
const ANOTHER: &str = "what answers there is not this controller, or its control authority is a new one: its certificate is not of the authority that is known here; see that address and port are right";

/// What the libraries say where, and what that means. The first one that is found counts.
const MEANINGS: [(&str, &str); 3] = [
    ("received corrupt message", NO_TLS),
    ("invalid peer certificate", ANOTHER),
    (
        "dns error: failed to lookup address information",
        "its name has no address, or the name service does not answer",
    ),
];

/// Where something was tried, which the sentence around it says already.
const NOISE: [&str; 2] = ["transport error: ", "tcp connect error: "];

/// The same in plain words, where they are known; what stands before the cause stays.
pub fn plain(said: String) -> String {
    if let Some(sentence) = clock::behind(&said) {
        return sentence;
    }
    let mut said = said;
    for noise in NOISE {
        said = said.replace(noise, "");
    }
    // The text has both times then, and no other words are needed.
    if said.contains("certificate expired") {
        return said;
    }
    let found =
        |(sign, meaning): &(&str, &str)| said.find(sign).map(|at| (at, (*meaning).to_owned()));
    match MEANINGS.iter().find_map(found) {
        Some((at, meaning)) => said[..at].to_owned() + &meaning,
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_says_is_said_in_plain_words() {
        for (said, plainly) in [
            (
                "the controller C cannot be reached: transport error: received corrupt message of type InvalidContentType",
                format!("the controller C cannot be reached: {NO_TLS}"),
            ),
            (
                "transport error: invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                ANOTHER.to_owned(),
            ),
            ("invalid peer certificate: BadSignature", ANOTHER.to_owned()),
            (
                "transport error: tcp connect error: Connection refused (os error 111)",
                "Connection refused (os error 111)".to_owned(),
            ),
            (
                "transport error: dns error: failed to lookup address information: Name or service not known",
                "its name has no address, or the name service does not answer".to_owned(),
            ),
            (
                "invalid peer certificate: certificate expired: verification time 2",
                "invalid peer certificate: certificate expired: verification time 2".to_owned(),
            ),
            ("the agent was removed", "the agent was removed".to_owned()),
        ] {
            assert_eq!(plain(said.to_owned()), plainly);
        }
    }
}
