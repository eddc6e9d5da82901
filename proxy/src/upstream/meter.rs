//! What upstream requests cost, as metrics. Labels are configured names and words of ours, so their number is bounded.

use metrics::{counter, histogram};
use tokio::time::Instant;

use super::error::{Kind, UpstreamError};

/// Counts for one upstream.
#[derive(Clone)]
pub(super) struct Meter {
    upstream: String,
}

impl Meter {
    pub(super) fn new(upstream: String) -> Self {
        Self { upstream }
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
