//! What every answer is counted in. Handles are made once: looking one up by its labels costs more than counting.

use std::{sync::OnceLock, time::Duration};

use http::StatusCode;
use metrics::{Counter, Histogram, counter, histogram};

/// Handles by call. They count in whatever recorder is installed when a call is answered first.
#[derive(Default)]
pub struct Meters {
    base: Call,
    manifest: Call,
    blob: Call,
    tags: Call,
    referrers: Call,
    none: Call,
    manifest_hits: OnceLock<Counter>,
    tag_hits: OnceLock<Counter>,
}

#[derive(Default)]
struct Call {
    ok: OnceLock<Counter>,
    partial: OnceLock<Counter>,
    seconds: OnceLock<Histogram>,
}

impl Meters {
    /// Counts an answer to a call, which took so long to begin.
    pub(crate) fn answered(&self, label: &'static str, status: StatusCode, took: Duration) {
        let call = self.call(label);
        let counted = |status: StatusCode| {
            let status = status.as_u16().to_string();
            counter!("pratique_requests_total", "call" => label, "status" => status)
        };
        match status {
            StatusCode::OK => call.ok.get_or_init(|| counted(status)).increment(1),
            StatusCode::PARTIAL_CONTENT => call.partial.get_or_init(|| counted(status)).increment(1),
            _ => counted(status).increment(1),
        }
        let seconds = call.seconds.get_or_init(|| histogram!("pratique_request_seconds", "call" => label));
        seconds.record(took.as_secs_f64());
    }

    /// Counts a manifest that was not fetched.
    pub(crate) fn manifest_hit(&self) {
        self.manifest_hits.get_or_init(|| counter!("pratique_manifest_hits_total")).increment(1);
    }

    /// Counts a tag that upstream was not asked about.
    pub(crate) fn tag_hit(&self) {
        self.tag_hits.get_or_init(|| counter!("pratique_tag_lookups_total", "outcome" => "hit")).increment(1);
    }

    fn call(&self, label: &str) -> &Call {
        match label {
            "base" => &self.base,
            "manifest" => &self.manifest,
            "blob" => &self.blob,
            "tags" => &self.tags,
            "referrers" => &self.referrers,
            _ => &self.none,
        }
    }
}
