//! What is to be remembered of the wall clock, on its way to the store until it is there.
//!
//! A disk may be full just then. Mail expires by the clock, so what was seen of it is written as soon as there is room,
//! and the newest only: an alarm that came late would stand although somebody had confirmed the clock.
//!
//! # Not here
//! What is written: [`super::remembered`]. A log that has failed for good: the store ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, oneshot, watch};

use super::ClockNews;
use super::backing::StoreFailed;

/// How often a store that did not take it is asked again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// Whoever confirmed the clock waits for this.
pub(super) type Confirming = oneshot::Sender<Result<(), StoreFailed>>;

#[derive(Debug, Default)]
pub(super) struct Saving {
    newest: Arc<AtomicU64>,
    writing: Arc<Mutex<()>>,
    first_try: Option<watch::Receiver<()>>,
}

impl Saving {
    /// Ends once the newest was written, or could not be.
    pub(super) fn first_try(&self) -> Option<watch::Receiver<()>> {
        self.first_try.clone()
    }

    /// Writes it, as often as it takes. What came of the first try is told to those who wait for it.
    pub(super) fn begin<F, R>(
        &mut self,
        news: ClockNews,
        confirming: Vec<Confirming>,
        remember: R,
    ) -> impl Future<Output = ()> + use<F, R>
    where
        R: Fn(ClockNews) -> F,
        F: Future<Output = Result<(), StoreFailed>>,
    {
        let (tried, first_try) = watch::channel(());
        self.first_try = Some(first_try);
        let mine = 1 + self.newest.fetch_add(1, Ordering::SeqCst);
        let (newest, writing) = (self.newest.clone(), self.writing.clone());
        async move {
            let mut waiting = Some((tried, confirming));
            loop {
                let alone = writing.lock().await;
                if newest.load(Ordering::SeqCst) != mine {
                    return;
                }
                let remembered = remember(news).await;
                drop(alone);
                if let Some((_, confirming)) = waiting.take() {
                    for confirming in confirming {
                        // Nobody may wait for it any more.
                        let _ = confirming.send(remembered.clone());
                    }
                }
                let Err(error) = remembered else {
                    return;
                };
                tracing::error!(%error, "what is known of the wall clock is not remembered; it is tried again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;

    use super::super::{ClockAlarm, ClockJump};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_written_later_and_never_behind_something_newer() {
        let seen = jiff::Timestamp::UNIX_EPOCH;
        let alarm = ClockNews::Alarm(ClockAlarm {
            jump: ClockJump::Forwards,
            by: AGAIN,
            seen,
        });
        let confirmed = ClockNews::Confirmed(seen);
        let (tries, written) = (Lock::new(0), Lock::new(Vec::new()));
        let remember = |news: ClockNews| {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            let fails = *tries <= 3;
            if !fails {
                written.lock().unwrap().push(news);
            }
            async move {
                match fails {
                    true => Err(StoreFailed("full".to_owned())),
                    false => Ok(()),
                }
            }
        };
        let mut saving = Saving::default();
        let older = saving.begin(alarm, Vec::new(), remember);
        let (confirming, told) = oneshot::channel();
        let newer = async {
            tokio::time::sleep(AGAIN / 2).await;
            let newer = saving.begin(confirmed, vec![confirming], remember);
            newer.await;
        };
        tokio::join!(older, newer);
        assert!(told.await.unwrap().is_err(), "it is not there yet");
        assert_eq!(*written.lock().unwrap(), [confirmed]);
        assert_eq!(*tries.lock().unwrap(), 4);
    }
}
