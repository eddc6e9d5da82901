//! How long somebody waits for a decision: one budget for all that one request waits for, one after the other.

use std::time::Duration;

use config::Limits;
use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

/// What an answer may take beyond the budget: who says what it waits for comes first.
pub const AFTER_THE_GATE: Duration = Duration::from_secs(1);

/// Until when somebody waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    until: Instant,
    within: Duration,
}

impl Patience {
    /// `limits.decision_timeout` from now on.
    #[must_use]
    pub fn from_now(limits: &Limits) -> Self {
        let within = limits.decision_timeout;
        Self { until: Instant::now() + within, within }
    }

    /// The same, and so much more: for who comes after others that wait as long, and tell better what they wait for.
    #[must_use]
    pub fn and(self, more: Duration) -> Self {
        Self { until: self.until + more, ..self }
    }

    /// What is left of it.
    #[must_use]
    pub fn rest(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// How long it was at first, in seconds, for an error.
    #[must_use]
    pub fn seconds(self) -> f32 {
        self.within.as_secs_f32()
    }

    /// What `work` brings in time.
    // No `async fn`: that would hold `work` twice, and what an answer waits for is large.
    pub fn wait<T>(self, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        timeout_at(self.until, work).map(Result::ok)
    }
}
