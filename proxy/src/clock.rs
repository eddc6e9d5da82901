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
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall = UnixTime::from_millis(0).plus(since_1970);
        let started = Instant::now();
        Self(Arc::new(move || wall.plus(started.elapsed())))
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
    use super::*;

    #[test]
    fn the_system_clock_never_goes_back() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(first.as_secs() > 1_700_000_000);
    }
}
