//! What somebody wrote, in a sentence that says what is wrong with it.

const MOST: usize = 80;

/// At most [`MOST`] characters of the text, escaped, whatever it holds.
pub fn of(text: &str) -> String {
    text.chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_short_and_one_line() {
        for (text, expected) in [
            ("home", "home".to_owned()),
            ("a\nb\u{7f}\"", "a\\nb\\u{7f}\\\"".to_owned()),
            (&"ß".repeat(90), "ß".repeat(80)),
        ] {
            assert_eq!(super::of(text), expected);
        }
    }
}
