//! Whether anything goes on over a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What a connection's task, its IO and its answers know of each other.
///
/// Nothing here wakes anybody: a request costs two additions, and who waits for quiet looks again when it could have come.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    requests: AtomicU64,
    under_way: AtomicUsize,
    /// Milliseconds from `opened` to the end of the last answer.
    quiet_since: AtomicU64,
    writing: AtomicBool,
}

/// A request, until its answer has ended.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            quiet_since: AtomicU64::new(0),
            writing: AtomicBool::new(false),
        }
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }

    /// How many have come.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether an answer is being made or sent.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// Whether something waits for the client to take it; it may do so long after its answer was made.
    pub(super) fn writes(&self, waiting: bool) {
        self.writing.store(waiting, Ordering::Relaxed);
    }

    /// Completes when nothing has gone on for `patience`, counted from `from` at the earliest.
    pub(super) async fn ceases(&self, patience: Duration, from: Instant) {
        let mut quiet = from;
        loop {
            tokio::time::sleep_until(quiet + patience).await;
            let seen = quiet;
            quiet = if self.is_busy() || self.writing.load(Ordering::Relaxed) {
                Instant::now()
            } else {
                from.max(self.opened + Duration::from_millis(self.quiet_since.load(Ordering::Acquire)))
            };
            // Later than `seen` only where there was an answer meanwhile.
            if quiet <= seen || quiet + patience <= Instant::now() {
                return;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let since = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.quiet_since.store(since, Ordering::Release);
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Seconds until `activity` was quiet for long enough.
    async fn seconds(activity: Arc<Activity>) -> u64 {
        let began = Instant::now();
        activity.ceases(PATIENCE, began).await;
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_request_a_connection_is_idle_from_its_beginning() {
        assert_eq!(seconds(Arc::new(Activity::new())).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_counts_from_the_end_of_the_last_answer() {
        let activity = Arc::new(Activity::new());
        let waiting = tokio::spawn(seconds(Arc::clone(&activity)));
        let long = activity.begin();
        sleep(Duration::from_secs(40)).await;
        drop(activity.begin());
        sleep(Duration::from_secs(95)).await;
        drop(long);
        sleep(Duration::from_secs(50)).await;
        drop(activity.begin());
        assert_eq!(waiting.await.unwrap(), 40 + 95 + 50 + 60);
    }

    #[tokio::test(start_paused = true)]
    async fn who_still_takes_the_end_of_an_answer_is_not_idle() {
        let activity = Arc::new(Activity::new());
        let waiting = tokio::spawn(seconds(Arc::clone(&activity)));
        drop(activity.begin());
        activity.writes(true);
        sleep(Duration::from_secs(200)).await;
        activity.writes(false);
        assert_eq!(waiting.await.unwrap(), 240, "looked at every minute");
    }
}
