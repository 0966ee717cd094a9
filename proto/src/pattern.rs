//! Patterns for names and addresses: `*` for any characters, `?` for one, in either case.

use std::convert::Infallible;
use std::str::FromStr;

/// What several names or addresses have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_lowercase().chars().collect()))
    }
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.to_lowercase().chars().collect();
        let (mut at, mut from) = (0, 0);
        // Where the last star stands, and how much of the text it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while from < text.len() {
            match self.0.get(at) {
                Some('*') => {
                    star = Some((at, from));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == text[from] => {
                    at += 1;
                    from += 1;
                }
                _ => match star {
                    // It takes one character more.
                    Some((place, taken)) => {
                        star = Some((place, taken + 1));
                        at = place + 1;
                        from = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        self.0[at..].iter().all(|c| *c == '*')
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|c| write!(f, "{c}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_characters_and_a_question_mark_is_one() {
        for (pattern, text, expected) in [
            ("office", "office", true),
            ("office", "offices", false),
            ("OFFICE", "Office", true),
            ("office-*", "office-", true),
            ("office-*", "office", false),
            ("*@b.example", "a@b.example", true),
            ("*@b.example", "a@b.example.net", false),
            ("*spam*", "no-spam-here", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("m00?", "m001", true),
            ("m00?", "m00", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**a", "ba", true),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(text), expected, "{pattern} {text}");
        }
    }
}
