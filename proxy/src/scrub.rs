//! Reads what is stored again in the background, at a bounded rate: damage is found before a client does.

mod heal;
mod pace;

use std::{sync::Arc, time::Duration};

use metrics::counter;
use oci::Digest;
use storage::{Scrub, Step};
use tokio::sync::watch;

pub(crate) use heal::{Healed, heal};
pub(crate) use pace::Pace;

use crate::app::App;

/// The pause between two rounds over the whole store.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(3600);

/// Scrubs until told to drain.
pub(crate) async fn run(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    tokio::select! {
        () = rounds(&app) => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

async fn rounds(app: &Arc<App>) {
    let mut pace = Pace::new(app.in_force().settings.storage.scrub_bytes_per_second);
    let mut scrub = Scrub::new(app.store.blobs().clone());
    loop {
        match scrub.step(pace.step()).await {
            Ok(Step::Read(_) | Step::Sound(_)) => {}
            Ok(Step::Quarantined(digest)) => aside(app, &digest).await,
            Ok(Step::PassEnded(_)) => {
                tokio::time::sleep(BETWEEN_ROUNDS).await;
                continue;
            }
            Err(error) => tracing::warn!("scrub: {}", crate::error::chain(&error)),
        }
        for digest in app.store.ledger().take_rotten() {
            aside(app, &digest).await;
        }
        pace.read(scrub.pass().bytes).await;
    }
}

/// Fetches what was set aside again, where somebody needs it. Waits for it for `limits.decision_timeout`; the download itself goes on.
async fn aside(app: &Arc<App>, digest: &Digest) {
    app.admission.forget(digest);
    told(digest);
    // A slow upstream does not keep the scrub from the rest of the store.
    match app.in_force().patience().wait(heal(app, digest)).await {
        Some(Ok(Healed::Again)) => tracing::info!(%digest, "fetched again"),
        Some(Ok(Healed::NotNeeded)) => tracing::info!(%digest, "no admitted image needs it"),
        Some(Err(error)) => tracing::warn!(%digest, "cannot be fetched again now, the next pull will: {error}"),
        None => tracing::info!(%digest, "is on its way again"),
    }
}

/// Tells of a blob that was set aside.
pub(crate) fn told(digest: &Digest) {
    counter!("pratique_content_mismatches_total", "what" => "stored-blob").increment(1);
    tracing::error!(%digest, "stored blob is damaged: set aside, to be fetched again");
}
