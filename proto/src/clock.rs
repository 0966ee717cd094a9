//! What a clock that is behind looks like from inside: the controller's certificate is "not valid yet".

use jiff::Timestamp;

/// The sentence for a TLS library's "certificate not valid yet", which names both times in seconds since 1970; none where
/// the text is about something else. The controller's certificate is dated back an hour, so the clock here is behind by
/// more.
pub fn behind(said: &str) -> Option<String> {
    let (_, said) = said.split_once("certificate not valid yet")?;
    let mut times = said
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .filter_map(|seconds| Timestamp::from_second(seconds).ok());
    let (here, begins) = (times.next()?, times.next()?);
    Some(format!(
        "this machine's clock ({here}) is before the beginning of the controller's certificate ({begins}): set it right"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_behind_is_named() {
        let said = "invalid peer certificate: certificate not valid yet: verification time 1795998689 (UNIX), \
                    but certificate is not valid before 1796002289 (3600 seconds in future)";
        assert_eq!(
            behind(said).unwrap(),
            "this machine's clock (2026-11-30T00:31:29Z) is before the beginning of the controller's certificate (2026-11-30T01:31:29Z): set it right"
        );
        for other in ["", "certificate not valid yet", "connection refused"] {
            assert_eq!(behind(other), None);
        }
    }
}
