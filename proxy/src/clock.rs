//! The only reader of clocks. Everyone else is handed the time.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use oci::UnixTime;

/// Tells the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixTime + Send + Sync>);

impl Clock {
    /// Wall time as it was when the process asked first, moved on by the monotonic clock: a lifetime that begins and ends within
    /// the process does not notice when somebody sets the clock, and what is stored still means something after a restart.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn system() -> Self {
        let started = Instant::now();
        Self::starting(SystemTime::now, move || started.elapsed())
    }

    /// The wall is looked at once: whoever sets it later sets it for the next process.
    fn starting(wall: impl Fn() -> SystemTime, elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let since_1970 = wall().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let started = UnixTime::from_millis(0).plus(since_1970);
        Self(Arc::new(move || started.plus(elapsed())))
    }

    /// A clock that reads `now` each time: for scenarios that move time by hand.
    #[must_use]
    pub fn reading(now: impl Fn() -> UnixTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    /// Seconds since 1970 as the wall shows them, and as they pass, both moved by hand.
    fn by_hand(wall_secs: u64) -> (Arc<AtomicU64>, Arc<AtomicU64>, Clock) {
        let (wall, passed) = (Arc::new(AtomicU64::new(wall_secs)), Arc::new(AtomicU64::new(0)));
        let secs = |hand: &Arc<AtomicU64>| {
            let hand = Arc::clone(hand);
            move || Duration::from_secs(hand.load(SeqCst))
        };
        let shown = secs(&wall);
        let clock = Clock::starting(move || UNIX_EPOCH + shown(), secs(&passed));
        (wall, passed, clock)
    }

    #[test]
    fn a_lifetime_in_a_process_is_as_long_as_it_is_whoever_sets_the_clock_meanwhile() {
        const YEARS: u64 = 10 * 365 * 86_400;
        let start = 2_000_000_000;
        for set_to in [start - YEARS, 0, start - 1, start + 1, start + YEARS] {
            let (wall, passed, clock) = by_hand(start);
            let begins = clock.now();
            assert_eq!(begins.as_secs(), start);
            passed.store(59, SeqCst);
            wall.store(set_to, SeqCst);
            assert_eq!(clock.now(), begins.plus(Duration::from_secs(59)), "set to {set_to}");
            passed.store(60, SeqCst);
            assert_eq!(clock.now(), begins.plus(Duration::from_secs(60)), "set to {set_to}");
            // What is set counts for the next process, backwards too.
            let (_, _, next) = by_hand(set_to);
            assert_eq!(next.now().as_secs(), set_to);
        }
    }

    #[test]
    fn the_system_clock_begins_at_the_wall_and_never_goes_back() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(first.as_secs() > 1_700_000_000);
    }
}
