//! What upstream requests cost, as metrics. Labels are configured names and words of ours, so their number is bounded.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::HeaderMap;
use metrics::{counter, gauge, histogram};
use tokio::time::Instant;

use super::{
    error::{Kind, UpstreamError},
    rate::Rate,
};

/// Counts for one upstream.
#[derive(Clone)]
pub(super) struct Meter {
    upstream: String,
    /// That little is left of the rate was told.
    is_low: Arc<AtomicBool>,
    /// Nothing of it is left.
    is_used_up: Arc<AtomicBool>,
}

impl Meter {
    pub(super) fn new(upstream: String) -> Self {
        Self { upstream, is_low: Arc::default(), is_used_up: Arc::default() }
    }

    /// Whether upstream said last that nothing is left of the rate it grants.
    pub(super) fn is_used_up(&self) -> bool {
        self.is_used_up.load(Ordering::Relaxed)
    }

    /// What upstream says with an answer about the rate it grants.
    pub(super) fn rate(&self, headers: &HeaderMap) {
        let Some(rate) = Rate::of(headers) else { return };
        // Its exactness ends where it does not matter any more.
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!("pratique_upstream_rate_remaining", "upstream" => self.upstream.clone()).set(rate.remaining as f64);
        self.is_used_up.store(rate.remaining == 0, Ordering::Relaxed);
        let is_low = rate.is_low();
        if !self.is_low.swap(is_low, Ordering::Relaxed) && is_low {
            tracing::warn!(upstream = %self.upstream, "upstream grants {} more requests for now", rate.remaining);
        }
    }

    /// One request and how it ended; the time is until the head of the answer, redirects and authentication included.
    pub(super) fn count(&self, kind: Kind, started: Instant, error: Option<&UpstreamError>) {
        let outcome = error.map_or("ok", UpstreamError::as_str);
        counter!("pratique_upstream_requests_total", "upstream" => self.upstream.clone(), "kind" => kind.as_str(), "outcome" => outcome)
            .increment(1);
        histogram!("pratique_upstream_seconds", "upstream" => self.upstream.clone(), "kind" => kind.as_str())
            .record(started.elapsed().as_secs_f64());
    }
}
