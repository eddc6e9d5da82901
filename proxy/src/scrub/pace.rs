//! How fast is read.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Most that is read in one step, in bytes.
const STEP_BYTES_MAX: u64 = 1024 * 1024;
/// Steps in a second, where the rate allows for such small ones.
const STEPS_PER_SECOND: u64 = 10;
/// What a disk does to come to a blob counts as so many bytes: a million small ones are work too.
const STEP_BYTES_MIN: u64 = 16 * 1024;
/// How far behind the rate a reader may fall and still catch up: the network may have kept it waiting.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Reads no faster than so many bytes a second.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: Option<u64>,
    counted: u64,
    due: Instant,
}

impl Pace {
    /// At most `bytes_per_second`; none counts as one.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Some(bytes_per_second.max(1)), ..Self::unbounded() }
    }

    /// As the disk gives it.
    pub(crate) fn unbounded() -> Self {
        Self { bytes_per_second: None, counted: 0, due: Instant::now() }
    }

    /// How much to read in one step, bytes.
    pub(crate) fn step(&self) -> usize {
        let step = self.bytes_per_second.map_or(u64::MAX, |rate| rate / STEPS_PER_SECOND);
        usize::try_from(step.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX)).unwrap_or(usize::MAX)
    }

    /// Waits as long as it takes to have read `bytes` in all. What is less than before is counted from the beginning: a new round.
    pub(crate) async fn read(&mut self, bytes: u64) {
        let more = bytes.checked_sub(self.counted).unwrap_or(bytes).max(STEP_BYTES_MIN);
        self.counted = bytes;
        let Some(rate) = self.bytes_per_second else {
            // A disk that answers from memory must not keep a thread from the others.
            tokio::task::yield_now().await;
            return;
        };
        let takes = u128::from(more) * 1_000_000 / u128::from(rate);
        let takes = Duration::from_micros(u64::try_from(takes).unwrap_or(u64::MAX));
        let now = Instant::now();
        self.due = self.due.max(now.checked_sub(BEHIND_MAX).unwrap_or(now)) + takes;
        sleep_until(self.due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it takes to read so many bytes in its steps, milliseconds.
    async fn takes(mut pace: Pace, bytes: u64) -> u64 {
        let (begun, mut read) = (Instant::now(), 0);
        while read < bytes {
            read = bytes.min(read + pace.step() as u64);
            pace.read(read).await;
        }
        u64::try_from(begun.elapsed().as_millis()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_takes_its_time_and_no_longer() {
        for (rate, bytes) in [(1 << 20, 10 << 20), (20 << 20, 100 << 20), (1000, 160_000), (1 << 40, 1 << 30)] {
            let (took, want) = (takes(Pace::new(rate), bytes).await, bytes * 1000 / rate);
            assert!((want..=want * 11 / 10 + 100).contains(&took), "{bytes} at {rate}: {took} ms, not {want}");
        }
        assert_eq!(takes(Pace::unbounded(), 1 << 30).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn small_blobs_count_for_the_way_to_them_and_nothing_is_made_up_for_beyond_a_moment() {
        let (mut pace, begun) = (Pace::new(STEP_BYTES_MIN), Instant::now());
        for blob in 1..=10 {
            pace.read(blob).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(3600)).await;
        let begun = Instant::now();
        for blob in 11..=20 {
            pace.read(blob).await;
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(9));
    }
}
