//! Which deliveries this agent holds, and until when.
//!
//! A lease is counted from when the beat was *sent* that the controller answered, on CLOCK_BOOTTIME, which goes on
//! while the machine sleeps. So it ends here before it ends at the controller.
//!
//! # Invariants
//! An expired lease is never renewed, and no final dot is sent on it, nor the rest of one ([`Leases::is_over`]).

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use dd_proto::id::Lease;

/// A lease may be gone before its time, and a machine may sleep, which tokio's clock does not count.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A point on CLOCK_BOOTTIME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boottime(Duration);

impl Boottime {
    /// Reads the clock; for the loops.
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Self(Duration::new(seconds, nanos))
    }

    fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Whether a delivery may still go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Held,
    Expired,
    /// The controller's Welcome did not name it, or it is finished.
    Gone,
}

/// All leases in hand.
#[derive(Debug, Default)]
pub struct Leases {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    until: HashMap<Lease, Boottime>,
    /// When the last answered beat (or Hello) was sent, and how long that lasts.
    renewed: Option<Boottime>,
    duration: Duration,
}

impl Leases {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An assignment has come. It counts from the last beat that was answered, which is older.
    pub fn take(&self, lease: Lease, now: Boottime) {
        let mut inner = self.lock();
        let until = inner.renewed.unwrap_or(now).after(inner.duration);
        inner.until.insert(lease, until);
    }

    /// The attempt has ended.
    pub fn done(&self, lease: &Lease) {
        self.lock().until.remove(lease);
    }

    /// The beat sent at `sent` was answered: whatever has not expired is renewed.
    pub fn renew(&self, sent: Boottime, now: Boottime) {
        let mut inner = self.lock();
        inner.renewed = Some(sent);
        let until = sent.after(inner.duration);
        for held in inner.until.values_mut() {
            if *held > now && *held < until {
                *held = until;
            }
        }
    }

    /// The answer to the Hello sent at `sent`: what it does not name is gone.
    pub fn welcome(&self, going_on: &[Lease], duration: Duration, sent: Boottime, now: Boottime) {
        {
            let mut inner = self.lock();
            inner.duration = duration;
            inner.until.retain(|lease, _| going_on.contains(lease));
        }
        self.renew(sent, now);
    }

    pub fn standing(&self, lease: &Lease, now: Boottime) -> Standing {
        match self.lock().until.get(lease) {
            None => Standing::Gone,
            Some(until) if *until <= now => Standing::Expired,
            Some(_) => Standing::Held,
        }
    }

    /// Returns when the lease is not held any more, however often it is renewed until then. Each poll looks at it anew.
    pub async fn is_over(&self, lease: &Lease) {
        let mut again = pin!(tokio::time::sleep(Duration::ZERO));
        poll_fn(|context| {
            loop {
                let left = self.left(lease);
                if left.is_zero() {
                    return Poll::Ready(());
                }
                ready!(again.as_mut().poll(context));
                let soon = tokio::time::Instant::now() + left.min(LOOK_AGAIN);
                again.as_mut().reset(soon);
            }
        })
        .await;
    }

    fn left(&self, lease: &Lease) -> Duration {
        let until = self.lock().until.get(lease).copied();
        let left = |until: Boottime| until.0.saturating_sub(Boottime::now().0);
        until.map_or(Duration::ZERO, left)
    }

    /// Those in hand, for Hello.
    pub fn in_hand(&self) -> Vec<Lease> {
        self.lock().until.keys().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().until.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dd_proto::id::{DeliveryId, Generation, MessageId};

    pub(crate) fn lease(counter: u64) -> Lease {
        Lease {
            delivery: DeliveryId {
                message: MessageId::from_bytes([7; 16]),
                site: "home".parse().unwrap(),
            },
            generation: Generation { start: 1, counter },
        }
    }

    fn at(seconds: u64) -> Boottime {
        Boottime(Duration::from_secs(seconds))
    }

    #[test]
    fn an_expired_lease_is_never_renewed() {
        let leases = Leases::default();
        leases.welcome(&[], Duration::from_secs(30), at(100), at(101));
        leases.take(lease(1), at(105));
        assert_eq!(leases.standing(&lease(1), at(129)), Standing::Held);
        // It counts from when the beat was sent, not from when it was answered.
        leases.renew(at(110), at(125));
        assert_eq!(leases.standing(&lease(1), at(139)), Standing::Held);
        assert_eq!(leases.standing(&lease(1), at(140)), Standing::Expired);
        leases.renew(at(139), at(141));
        assert_eq!(leases.standing(&lease(1), at(141)), Standing::Expired);
    }

    #[test]
    fn what_welcome_does_not_name_is_gone() {
        let leases = Leases::default();
        leases.welcome(&[], Duration::from_secs(30), at(0), at(0));
        leases.take(lease(1), at(1));
        leases.take(lease(2), at(1));
        leases.welcome(&[lease(2)], Duration::from_secs(30), at(10), at(11));
        assert_eq!(leases.standing(&lease(1), at(12)), Standing::Gone);
        assert_eq!(leases.standing(&lease(2), at(39)), Standing::Held);
    }
}
