//! An error and what it stems from, on one line.

use std::error::Error;

/// What each of them says, the outermost first, and nothing twice: many an error says its cause in its own words, and has
/// it as its source as well.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Says(&'static str, Option<Box<Self>>);

    impl fmt::Display for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Says {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|it| it as &dyn Error)
        }
    }

    #[test]
    fn no_cause_is_said_twice_and_none_is_left_out() {
        let cause = || Says("no such file (os error 2)", None);
        for (outer, inner, said) in [
            (
                "f cannot be read: no such file (os error 2)",
                cause(),
                "f cannot be read: no such file (os error 2)",
            ),
            (
                "f cannot be read",
                cause(),
                "f cannot be read: no such file (os error 2)",
            ),
            (
                "no start",
                Says("f cannot be read", Some(Box::new(cause()))),
                "no start: f cannot be read: no such file (os error 2)",
            ),
            (
                "no start: f cannot be read",
                Says("f cannot be read", Some(Box::new(cause()))),
                "no start: f cannot be read: no such file (os error 2)",
            ),
        ] {
            let error = Says(outer, Some(Box::new(inner)));
            assert_eq!(chain(&error), said);
        }
    }
}
