//! Logs and metrics.

mod lines;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{IsTerminal as _, Write as _},
    sync::OnceLock,
    time::Duration,
};

use config::{Log, LogFormat};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use lines::{Form, OneLine};

/// Upper bounds of duration buckets, in seconds: from a hit to a slow upstream.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0];
/// Of the age of evidence: from an hour to two years.
const AGES: [f64; 10] = [
    3600.0,
    21_600.0,
    86_400.0,
    259_200.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_536_000.0,
    63_072_000.0,
];

/// Sends logs to standard error in the configured form. Only the first call in a process counts.
///
/// # Errors
/// When the filter cannot be read.
pub fn logs(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| format!("log.filter \"{}\": {error}", log.filter))?;
    let registry = tracing_subscriber::registry().with(filter);
    let set = match log.format {
        LogFormat::Human => {
            let colours = std::io::stderr().is_terminal();
            let form = if colours { Form::Coloured } else { Form::Plain };
            let writer = move || OneLine::new(std::io::stderr(), form);
            registry.with(fmt::layer().with_writer(writer).with_ansi(colours).with_target(false)).try_init()
        }
        LogFormat::Json => {
            let writer = || OneLine::new(std::io::stderr(), Form::Json);
            registry.with(fmt::layer().json().flatten_event(true).with_writer(writer)).try_init()
        }
    };
    // Already set: a test or an embedding program decides.
    if set.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let (what, formatted) = (panic.payload().downcast_ref::<&str>(), panic.payload().downcast_ref::<String>());
            panicked(what.copied().or(formatted.map(String::as_str)), panic.location());
        }));
    }
    Ok(())
}

/// A panic is an event like every other: not lines of its own, with whatever text is in it. It is counted here, whatever catches it, and told
/// also where the filter lets no event pass.
fn panicked(what: Option<&str>, at: Option<&std::panic::Location<'_>>) {
    metrics::counter!("pratique_panics_total").increment(1);
    let (what, at) = (what.unwrap_or("not told why"), at.map(ToString::to_string));
    let backtrace = Some(Backtrace::capture()).filter(|backtrace| backtrace.status() == BacktraceStatus::Captured);
    let backtrace = backtrace.map(|backtrace| backtrace.to_string());
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(at, backtrace, "a fault of pratique (panic): {what}");
    } else {
        let at = at.unwrap_or_default();
        let line = format!("a fault of pratique (panic): {what}, at {at}\n");
        let _ = OneLine::new(std::io::stderr(), Form::Plain).write_all(line.as_bytes());
    }
}

/// The metrics of this process. The recorder is installed at the first call.
///
/// # Errors
/// When another recorder was installed before.
pub fn metrics() -> Result<PrometheusHandle, String> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
                .map_err(|error| error.to_string())?
                .set_buckets_for_metric(Matcher::Full("pratique_evidence_age_seconds".to_owned()), &AGES)
                .map_err(|error| error.to_string())?
                .install_recorder()
                .map_err(|error| error.to_string())?;
            describe();
            Ok(handle)
        })
        .clone()
}

/// Between two times of [`upkeep`].
const UPKEEP: Duration = Duration::from_secs(5);

/// Adds durations up until told to drain. Without it each of them stays in memory by itself until somebody asks for `/metrics`, and
/// nobody need ever ask.
pub(crate) async fn upkeep(metrics: PrometheusHandle, mut draining: watch::Receiver<bool>) {
    let rounds = async {
        let mut turns = tokio::time::interval(UPKEEP);
        loop {
            turns.tick().await;
            metrics.run_upkeep();
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

/// What `/metrics` says of each metric that is not told by its name.
fn describe() {
    let counters = [
        ("pratique_requests_total", "Answers by call and status"),
        ("pratique_requests_shed_total", "Requests told to come again for want of room, by whose limit was reached"),
        ("pratique_background_panics_total", "Tasks of the background that ended in a fault of ours and began anew"),
        (
            "pratique_connections_refused_total",
            "Connections that got no place in time, or were closed as too many wait",
        ),
        ("pratique_manifest_hits_total", "Manifests served from the store"),
        ("pratique_manifest_misses_total", "Manifests fetched from upstream"),
        ("pratique_blob_hits_total", "Blobs served from the store"),
        ("pratique_blob_misses_total", "Blobs whose download was begun"),
        ("pratique_fills_total", "Downloads of blobs that ended, by outcome"),
        ("pratique_served_bytes_total", "Bytes of blobs sent to clients"),
        ("pratique_upstream_bytes_total", "Bytes of blobs received from upstreams"),
        (
            "pratique_bodies_broken_total",
            "Answers that were broken off: content wrong, permit taken away, or upstream gone",
        ),
        ("pratique_content_mismatches_total", "Content that was not what its digest or size says, by where it was met"),
        ("pratique_verdicts_total", "Verdicts made, by policy, outcome and reason"),
        ("pratique_tag_lookups_total", "Tags resolved, by how"),
        ("pratique_tags_skipped_total", "Entries of upstreams' lists of tags that are no tags and were left out"),
        ("pratique_tag_guards_total", "Tags that a guard met something about, by guard and outcome"),
        ("pratique_tag_last_good_total", "Tags that led to something refused, by whether an earlier image was served"),
        ("pratique_verdicts_renewed_total", "Verdicts made in the background, by why and outcome"),
        ("pratique_reloads_total", "Reloads by outcome; after a failed one the last good configuration is in force"),
        ("pratique_upstream_requests_total", "Requests to upstreams, by kind and outcome"),
        (
            "pratique_trust_root_refreshes_total",
            "Attempts to refresh the trust root, by outcome; after a failed one the last good one is in force",
        ),
    ];
    for (name, text) in counters {
        describe_counter!(name, text);
    }
    describe_gauge!("pratique_trust_root_age_seconds", "Time since the trust root was last known to be current");
    describe_histogram!("pratique_request_seconds", "Time until an answer began, by call");
    describe_histogram!("pratique_upstream_seconds", "Time until an upstream's answer began, by kind");
}
