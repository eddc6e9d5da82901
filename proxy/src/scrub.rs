//! Reads what is stored again in the background, at a bounded rate: damage is found before a client does.

mod heal;

use std::{sync::Arc, time::Duration};

use metrics::counter;
use oci::Digest;
use storage::{Scrub, Step};
use tokio::sync::watch;

pub(crate) use heal::{Healed, heal};

use crate::app::App;

/// The pause between two rounds over the whole store.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(3600);

/// How much is read in one step, in bytes.
const STEP_BYTES: usize = 256 * 1024;

/// Scrubs until told to drain.
pub(crate) async fn run(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    tokio::select! {
        () = rounds(&app) => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

async fn rounds(app: &Arc<App>) {
    let settings = Arc::clone(&app.in_force().settings);
    let rate = settings.storage.scrub_bytes_per_second.max(1);
    let mut scrub = Scrub::new(app.store.blobs().clone());
    loop {
        let read = match scrub.step(STEP_BYTES).await {
            Ok(Step::Read(bytes)) => bytes,
            Ok(Step::Sound(_)) => STEP_BYTES as u64,
            Ok(Step::Quarantined(digest)) => {
                aside(app, &digest).await;
                STEP_BYTES as u64
            }
            Ok(Step::PassEnded(_)) => {
                tokio::time::sleep(BETWEEN_ROUNDS).await;
                continue;
            }
            Err(error) => {
                tracing::warn!("scrub: {}", crate::error::chain(&error));
                STEP_BYTES as u64
            }
        };
        for digest in app.store.ledger().take_rotten() {
            aside(app, &digest).await;
        }
        tokio::time::sleep(pause(read, rate)).await;
    }
}

/// Fetches what was set aside again, where somebody needs it.
async fn aside(app: &Arc<App>, digest: &Digest) {
    app.admission.forget(digest);
    told(digest);
    match heal(app, digest).await {
        Ok(Healed::Again) => tracing::info!(%digest, "fetched again"),
        Ok(Healed::NotNeeded) => tracing::info!(%digest, "no admitted image needs it"),
        Err(error) => tracing::warn!(%digest, "cannot be fetched again now, the next pull will: {error}"),
    }
}

/// Tells of a blob that was set aside.
pub(crate) fn told(digest: &Digest) {
    counter!("pratique_content_mismatches_total", "what" => "stored-blob").increment(1);
    tracing::error!(%digest, "stored blob is damaged: set aside, to be fetched again");
}

/// How long `bytes` may take at `rate` bytes a second.
fn pause(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate)
}
