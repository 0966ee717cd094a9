//! The same done to several things, one after the other: what one of them refuses does not keep the others from it. What
//! is refused to the caller, whatever it is about, is said once, and ends it.
//!
//! # Invariants
//! One thing alone answers as it always did. Of several the JSON is an array, in the order asked for: an answer, or
//! `{"name": …, "error": …}`; the command ends with the worst of their exit codes.

use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::output::Answer;

/// Makes the calls in order.
pub(crate) async fn each<T: std::fmt::Display>(
    all: &[T],
    call: impl AsyncFn(&T) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    if let [only] = all {
        return call(only).await;
    }
    let mut together = Together::default();
    for one in all {
        let answer = call(one).await;
        // No other one would get further.
        let is_last = matches!(
            answer,
            Err(Failure::Denied(_) | Failure::Unreachable { .. })
        );
        if let (Err(failure), true) = (&answer, is_last && together.is_empty()) {
            return Err(failure.clone());
        }
        together.add(&one.to_string(), answer);
        if is_last {
            break;
        }
    }
    Ok(together.into_answer())
}

#[derive(Debug, Default)]
struct Together {
    text: String,
    values: Vec<Value>,
    worst: Option<Exit>,
    refused: Vec<String>,
}

impl Together {
    fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn add(&mut self, name: &str, answer: Result<Answer, Failure>) {
        let exit = match answer {
            Ok(answer) => {
                self.text.push_str(answer.text());
                self.values.push(answer.value());
                answer.exit()
            }
            Err(failure) => {
                let sentence = format!("{name}: {failure}");
                self.text.push_str(&format!("{sentence}\n"));
                self.values
                    .push(json!({"name": name, "error": failure.to_string()}));
                self.refused.push(sentence);
                failure.exit()
            }
        };
        if exit != Exit::Done && self.worst.is_none_or(|worst| (worst as u8) < exit as u8) {
            self.worst = Some(exit);
        }
    }

    fn into_answer(self) -> Answer {
        let answer = Answer::new(&self.values, self.text.clone());
        match self.worst {
            None => answer,
            Some(exit) if self.refused.is_empty() => {
                answer.ending_with(exit, self.text.trim_end().replace('\n', "; "))
            }
            Some(exit) => answer.ending_with(exit, self.refused.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_refuses_does_not_hide_what_the_others_did() {
        let mut together = Together::default();
        let done = |name: &str| {
            Ok(Answer::new(
                &json!({"name": name}),
                format!("{name}: done\n"),
            ))
        };
        together.add("a", done("a"));
        together.add(
            "b",
            Err(Failure::NoSuchThing("there is no site `b`".into())),
        );
        together.add("c", done("c"));
        let answer = together.into_answer();
        assert_eq!(answer.exit(), Exit::NoSuchThing);
        insta::assert_snapshot!("several", answer.both());
    }

    #[tokio::test]
    async fn what_the_caller_may_not_do_is_said_once() {
        let asked = std::cell::Cell::new(0);
        let denied = async |_: &&str| {
            asked.set(asked.get() + 1);
            Err(Failure::Denied("the role reader may not do this".into()))
        };
        let refused = each(&["a", "b", "c"], denied).await.unwrap_err();
        assert_eq!(refused.to_string(), "the role reader may not do this");
        assert_eq!((refused.exit(), asked.get()), (Exit::Failed, 1));
        // It was withdrawn on the way: what was done before is told.
        let withdrawn = async |name: &&str| match *name {
            "a" => Ok(Answer::new(&json!({"name": "a"}), "a: done\n".into())),
            _ => Err(Failure::Denied("it was removed".into())),
        };
        let answer = each(&["a", "b", "c"], withdrawn).await.unwrap();
        assert_eq!(answer.text(), "a: done\nb: it was removed\n");
    }

    #[tokio::test]
    async fn what_was_done_before_the_controller_went_away_is_told() {
        let gone = || Failure::Unreachable {
            at: "/run/admin.sock".into(),
            why: "connection reset".into(),
            hint: "try again",
        };
        let call = async |name: &&str| match *name {
            "a" => Ok(Answer::new(&json!({"name": "a"}), "a: done\n".into())),
            "b" => Err(gone()),
            _ => panic!("nobody is there to be asked"),
        };
        let answer = each(&["a", "b", "c"], call).await.unwrap();
        assert_eq!(answer.exit(), Exit::Unreachable);
        assert_eq!(answer.text(), format!("a: done\nb: {}\n", gone()));
        let refused = each(&["b", "c"], call).await.unwrap_err();
        assert_eq!(refused.to_string(), gone().to_string());
    }
}
