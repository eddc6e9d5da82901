//! Keeps a server's trust root fresh: asks the mirror when it is time, and takes up what a command has put into the store meanwhile.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use oci::UnixTime;
use tokio::sync::watch;

use super::{Origin, TrustError, changes, update};
use crate::{app::App, error::chain};

/// How often it is looked whether a command has refreshed or imported, and the age is told to the metrics.
const LOOK: Duration = Duration::from_secs(60);
/// Not more often than this, whatever is configured.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// When a refresh that failed is tried again, at the latest.
const RETRY: Duration = Duration::from_secs(3600);
/// How often an old trust root is told.
const WARN: Duration = Duration::from_secs(86_400);

/// Refreshes until told to drain. Whatever goes wrong here, the server goes on with what is in force.
pub(crate) async fn run(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    let mut refresher = Refresher::new(&app);
    loop {
        // Not given up half way: it holds the store.
        refresher.take_up().await;
        tokio::select! {
            () = refresher.turn() => {}
            _ = draining.wait_for(|draining| *draining) => return,
        }
    }
}

struct Refresher<'a> {
    app: &'a Arc<App>,
    /// Not before this, after an attempt.
    next: UnixTime,
    warn_next: UnixTime,
}

impl<'a> Refresher<'a> {
    fn new(app: &'a Arc<App>) -> Self {
        let now = app.clock.now();
        // The start itself has told the age.
        Self { app, next: now, warn_next: now.plus(WARN) }
    }

    /// Asks the mirror if it is time, and else waits until it is, or until it is time to look again.
    async fn turn(&mut self) {
        self.tell_age();
        let now = self.app.clock.now();
        match self.due() {
            Some(due) if due <= now => self.refresh().await,
            due => {
                let until_due = due.and_then(|due| due.since(now)).unwrap_or(LOOK);
                tokio::time::sleep(until_due.clamp(PAUSE_MIN, LOOK)).await;
            }
        }
    }

    /// When the mirror is to be asked; `None`: never.
    fn due(&self) -> Option<UnixTime> {
        let in_force = self.app.in_force();
        let every = in_force.settings.policy.trust_root_refresh.as_ref()?.every?;
        let due = match &in_force.trust.origin {
            Origin::Refreshed(_) | Origin::Imported(_) => in_force.trust.as_of.plus(every),
            // Nobody has asked yet.
            Origin::CompiledIn | Origin::File(_) => self.next,
        };
        Some(due.max(self.next))
    }

    async fn refresh(&mut self) {
        let settings = Arc::clone(&self.app.in_force().settings);
        let every = settings.policy.trust_root_refresh.as_ref().and_then(|refresh| refresh.every);
        let outcome = update(&settings, &self.app.clock).await;
        let every = every.unwrap_or(RETRY);
        let pause = if outcome.is_ok() { every } else { every.min(RETRY) };
        self.next = self.app.clock.now().plus(pause);
        match outcome {
            Ok(outcome) if outcome.is_changed() => {
                for change in changes(&outcome.before, &outcome.after) {
                    tracing::info!("trust root: {change}");
                }
            }
            Ok(outcome) => tracing::debug!(from = outcome.from, "trust root is current"),
            Err(error) => tell_failure(&error),
        }
    }

    async fn take_up(&self) {
        let app = Arc::clone(self.app);
        let renewed = storage::work::run(move || app.renew_trust_root()).await;
        let outcome = renewed.map_err(|error| error.to_string()).and_then(|done| done.map_err(|error| chain(&error)));
        match outcome {
            Ok(true) => {
                let in_force = self.app.in_force();
                tracing::info!(
                    generation = in_force.generation,
                    origin = %in_force.trust.origin,
                    as_of = %in_force.trust.as_of,
                    "another trust root is in force"
                );
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!("what is kept of the trust root is not taken up, what was in force stays: {error}")
            }
        }
    }

    fn tell_age(&mut self) {
        let now = self.app.clock.now();
        let in_force = self.app.in_force();
        gauge!("pratique_trust_root_age_seconds").set(in_force.trust.age(now).as_secs_f64());
        if now < self.warn_next {
            return;
        }
        self.warn_next = now.plus(WARN);
        if let Some(warning) = in_force.trust.warning(&in_force.settings, now) {
            tracing::warn!("{warning}");
        }
    }
}

/// What nobody can read although TUF vouches for it is an error: it does not go away by itself. A mirror out of reach does.
fn tell_failure(error: &TrustError) {
    let text = chain(error);
    match error {
        TrustError::Busy | TrustError::Fetch { .. } | TrustError::Slow { .. } => {
            tracing::warn!("the trust root was not refreshed, what was in force stays: {text}");
        }
        TrustError::NotRefreshed { .. }
        | TrustError::Store(_)
        | TrustError::Damaged { .. }
        | TrustError::File(_)
        | TrustError::Configured(_)
        | TrustError::Setup(_)
        | TrustError::Initial { .. }
        | TrustError::Refused { .. }
        | TrustError::Unusable { .. }
        | TrustError::Older { .. }
        | TrustError::Lacks { .. } => {
            tracing::error!("the trust root was not refreshed, what was in force stays: {text}");
        }
    }
}
