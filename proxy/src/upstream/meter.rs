//! What upstream requests cost, as metrics. Labels are configured names and words of ours, so their number is bounded.

use std::sync::{
    Arc, Mutex, PoisonError,
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
    /// Until when nothing of it is left.
    used_up_until: Arc<Mutex<Option<Instant>>>,
}

impl Meter {
    pub(super) fn new(upstream: String) -> Self {
        Self { upstream, is_low: Arc::default(), used_up_until: Arc::default() }
    }

    /// Whether upstream said last that nothing is left of the rate it grants, and the time of that is not over.
    pub(super) fn is_used_up(&self) -> bool {
        let until = *self.used_up_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// What upstream says with an answer about the rate it grants.
    pub(super) fn rate(&self, headers: &HeaderMap) {
        let Some(rate) = Rate::of(headers) else { return };
        // Its exactness ends where it does not matter any more.
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!("pratique_upstream_rate_remaining", "upstream" => self.upstream.clone()).set(rate.remaining as f64);
        let until = (rate.remaining == 0).then(|| Instant::now() + rate.lasts);
        *self.used_up_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(meter: &Meter, name: &'static str, value: &'static str) {
        meter.rate(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]));
    }

    #[tokio::test(start_paused = true)]
    async fn that_nothing_is_left_is_forgotten_when_its_time_is_over() {
        const DAY: u64 = 86_400;
        for (name, value, seconds) in [
            ("ratelimit", "\"a\";r=0;t=30", 30),
            ("ratelimit", "\"a\";r=0;t=30, \"b\";r=0;t=90, \"c\";r=5;t=600", 90),
            ("ratelimit", "limit=10, remaining=0, reset=20", 20),
            ("ratelimit-remaining", "0;w=21600", 21_600),
            // Not told, or the date of a day: a window is no longer.
            ("ratelimit-remaining", "0", DAY),
            ("ratelimit", "\"a\";r=0", DAY),
            ("ratelimit", "\"a\";r=0;t=1792637040", DAY),
        ] {
            let meter = Meter::new("cgr.dev".to_owned());
            told(&meter, name, value);
            tokio::time::advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(meter.is_used_up(), "{value}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(!meter.is_used_up(), "{value}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_last_of_the_rate_counts() {
        let meter = Meter::new("cgr.dev".to_owned());
        told(&meter, "ratelimit", "\"a\";r=0;t=30");
        told(&meter, "content-type", "a/b");
        assert!(meter.is_used_up());
        told(&meter, "ratelimit", "\"a\";r=1;t=30");
        assert!(!meter.is_used_up());
    }
}
