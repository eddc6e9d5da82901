//! Lines that somebody outside could have written thousands of times.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often one kind of line may come.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one line of its kind through in ten seconds, and counts those that it holds back.
pub(crate) struct Seldom(Mutex<Told>);

struct Told {
    last: Option<Instant>,
    since: u64,
}

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Told { last: None, since: 0 }))
    }

    /// How many times this has happened since the last line, this time included, where it is time for a line.
    pub(crate) fn times(&self) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.since = told.since.saturating_add(1);
        let now = Instant::now();
        if told.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_ten_seconds_tells_of_all_of_them() {
        let seldom = Seldom::new();
        assert_eq!(seldom.times(), Some(1));
        for _ in 0..1000 {
            assert_eq!(seldom.times(), None);
        }
        tokio::time::advance(EVERY).await;
        assert_eq!(seldom.times(), Some(1001));
        assert_eq!(seldom.times(), None);
    }
}
