//! Several ways to the same end, started one after the other until one of them gets there.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;

/// What came of a race.
#[derive(Debug)]
pub struct Finish<T, E> {
    /// The first that got there; what was still under way then has been given up.
    pub winner: Option<T>,
    /// Those that failed before it, in the order in which they did.
    pub failed: Vec<E>,
}

/// Starts the next one `stagger` after the one before, or at once when one has failed (RFC 8305 §5).
pub async fn first<T, E, F>(
    contenders: impl IntoIterator<Item = F>,
    stagger: Duration,
) -> Finish<T, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut waiting = contenders.into_iter().peekable();
    let mut running = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        if let Some(next) = waiting.next() {
            running.spawn(next);
        }
        let more = waiting.peek().is_some();
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            () = tokio::time::sleep(stagger), if more => continue,
        };
        match ended {
            Some(Ok(Ok(winner))) => {
                let winner = Some(winner);
                return Finish { winner, failed };
            }
            Some(Ok(Err(failure))) => failed.push(failure),
            Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            None if more => {}
            None => {
                let winner = None;
                return Finish { winner, failed };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    type Run = std::pin::Pin<Box<dyn Future<Output = Result<&'static str, &'static str>> + Send>>;

    fn run(result: Option<Result<&'static str, &'static str>>) -> Run {
        match result {
            Some(result) => Box::pin(async move { result }),
            None => Box::pin(pending()),
        }
    }

    #[tokio::test]
    async fn what_hangs_holds_nobody_up_and_what_fails_is_told() {
        for (contenders, winner, failed) in [
            (vec![Some(Ok("a")), Some(Ok("b"))], Some("a"), vec![]),
            (vec![Some(Err("x")), Some(Ok("b"))], Some("b"), vec!["x"]),
            (vec![None, None, Some(Ok("c"))], Some("c"), vec![]),
            (
                vec![None, Some(Err("x")), Some(Ok("c"))],
                Some("c"),
                vec!["x"],
            ),
            (vec![Some(Err("x")), Some(Err("y"))], None, vec!["x", "y"]),
            (vec![], None, vec![]),
        ] {
            let finish = first(contenders.into_iter().map(run), Duration::from_millis(1)).await;
            assert_eq!((finish.winner, finish.failed), (winner, failed));
        }
    }
}
