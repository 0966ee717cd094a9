//! What the service manager is told: `sd_notify(3)`. Without one (`NOTIFY_SOCKET` is not set) all of it does nothing.
//!
//! A message that cannot be sent is lost without a word: the manager is gone then, and nobody else wants to know.

use std::time::Duration;

use sd_notify::NotifyState;

/// Whether somebody listens.
pub fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The start is over, and what depends on this service may start.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// The end has begun.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// One line about how things are, which `systemctl status` shows.
pub fn status(line: &str) {
    tell(NotifyState::Status(line));
}

/// The program still does its work. A manager with a watchdog that does not hear this for [`watchdog`] kills it.
pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// At least this often the manager wants to hear that the program is [`alive`].
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// How often to look and to tell: three times in the time the watchdog gives, and no less often than every `at_most`.
pub fn interval(watchdog: Option<Duration>, at_most: Duration) -> Duration {
    let interval = watchdog.map_or(at_most, |watchdog| watchdog / 3);
    interval.clamp(Duration::from_millis(1), at_most)
}

fn tell(state: NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_three_times_before_it_bites() {
        let (ten, s) = (Duration::from_secs(10), Duration::from_secs);
        assert_eq!(interval(None, ten), ten);
        assert_eq!(interval(Some(s(180)), ten), ten);
        assert_eq!(interval(Some(s(6)), ten), s(2));
        assert!(interval(Some(Duration::ZERO), ten) > Duration::ZERO);
    }
}
