//! Waiting for something to happen, with an end.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;

/// Long enough for a loaded machine; only a test that fails ever waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was waited for did not happen within a minute.
#[derive(Debug)]
pub struct NeverReached {
    /// How many were waited for.
    pub wanted: usize,
    /// What had happened until then.
    pub seen: Vec<String>,
}

impl fmt::Display for NeverReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waited a minute for {} calls, saw: {}", self.wanted, self.seen.join(", "))
    }
}

impl std::error::Error for NeverReached {}

/// Waits until `reached` says so, asking again after every change.
pub(super) async fn until<T>(
    mut changes: watch::Receiver<T>,
    reached: impl Fn() -> bool,
    failure: impl FnOnce() -> NeverReached,
) -> Result<(), NeverReached> {
    let waiting = async {
        // marked as seen before asking: a change in between wakes us again
        changes.mark_unchanged();
        while !reached() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| failure())
}
