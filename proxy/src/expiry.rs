//! Has credentials for an upstream renewed that a helper hands out, and tells when credentials end, before they do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use metrics::gauge;
use oci::{UnixTime, UpstreamName};
use tokio::sync::watch;

use crate::app::App;

/// Between two looks, each of which tells the metric.
const LOOK: Duration = Duration::from_secs(60);
/// How often an end that is near is told in the log.
const WARN: Duration = Duration::from_secs(86_400);
/// So little before their end, credentials that a helper should have renewed are told: it has been asked a few times by then.
const NOT_RENEWED: Duration = Duration::from_secs(120);

/// What was told, by upstream.
#[derive(Default)]
pub struct Told {
    /// When the log was, and of which end.
    log: BTreeMap<UpstreamName, (UnixTime, UnixTime)>,
    /// Those of which the metric says when.
    metric: BTreeSet<UpstreamName>,
}

/// Tells until told to drain.
pub(crate) async fn run(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    let mut told = Told::default();
    let rounds = async {
        loop {
            renew(&app).await;
            for line in told.round(&app) {
                tracing::warn!("{line}");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

/// Has every upstream's credentials renewed that are about to end. A helper that takes its time holds up no other.
async fn renew(app: &App) {
    let (in_force, now) = (app.in_force(), app.clock.now());
    join_all(in_force.upstreams.values().map(|upstream| upstream.renew_credentials(now))).await;
}

impl Told {
    /// Tells the metric of every upstream whose credentials have an end. The lines that are due in the log.
    pub fn round(&mut self, app: &App) -> Vec<String> {
        let (in_force, now) = (app.in_force(), app.clock.now());
        let mut lines = Vec::new();
        let ended_before = std::mem::take(&mut self.metric);
        for configured in &in_force.settings.upstreams {
            let name = &configured.name;
            let upstream = in_force.upstreams.get(name);
            let Some(ends) = upstream.and_then(|upstream| upstream.credentials_end()) else {
                self.log.remove(name);
                continue;
            };
            let is_renewed = upstream.is_some_and(|upstream| upstream.credentials_are_renewed());
            show(name, seconds_until(ends, now));
            self.metric.insert(name.clone());
            let warn_age = configured.credentials_warn_age;
            let line = warning(name, ends, now, if is_renewed { warn_age.min(NOT_RENEWED) } else { warn_age });
            let told = self.log.get(name).filter(|(_, of)| *of == ends);
            let was_told = told.and_then(|(told, _)| now.since(*told)).is_some_and(|age| age < WARN);
            if let Some(line) = line.filter(|_| !was_told) {
                self.log.insert(name.clone(), (now, ends));
                lines.push(line);
            }
        }
        // A series cannot be taken back, and one that stays where it was would keep an alert up.
        for name in ended_before.difference(&self.metric) {
            show(name, f64::INFINITY);
        }
        lines
    }
}

fn show(upstream: &UpstreamName, seconds: f64) {
    gauge!("pratique_credentials_end_seconds", "upstream" => upstream.to_string()).set(seconds);
}

/// Below zero where it is over.
fn seconds_until(ends: UnixTime, now: UnixTime) -> f64 {
    let over = || -now.since(ends).unwrap_or_default().as_secs_f64();
    ends.since(now).map_or_else(over, |left| left.as_secs_f64())
}

/// The line about an end that is near, or over.
fn warning(name: &UpstreamName, ends: UnixTime, now: UnixTime, warn_age: Duration) -> Option<String> {
    match ends.since(now).filter(|left| !left.is_zero()) {
        None => Some(format!(
            "the password for upstream {name} has ended ({ends}): what is not here already is not fetched"
        )),
        Some(left) if left <= warn_age => {
            let (days, hours) = (left.as_secs() / 86_400, left.as_secs() / 3600);
            let left = if days > 1 { format!("{days} days") } else { format!("{hours} h") };
            Some(format!("the password for upstream {name} ends in {left} ({ends}): replace it, and reload"))
        }
        Some(_) => None,
    }
}
