//! `scrub`: one walk over everything now, as fast as the disk reads; what has rotted and is needed is fetched again.

use std::sync::Arc;

use oci::Digest;
use storage::{Scrub, Step};

use super::Failure;
use crate::{
    app::App,
    command::answer::{Scrubbed, Unhealed},
    error::chain,
    scrub::{self, Healed},
};

/// How much is read in one step, bytes.
const STEP_BYTES: usize = 1024 * 1024;
/// Fetching what a reader has found may lead to another: an index around a child.
const READERS_ROUNDS: usize = 4;
/// Blobs that cannot be read are named up to so many.
const UNREADABLE_MAX: usize = 1000;

pub(super) async fn scrub(app: &Arc<App>) -> Result<Scrubbed, Failure> {
    let mut scrub = Scrub::new(app.store.blobs().clone());
    let mut scrubbed = Scrubbed::default();
    loop {
        match scrub.step(STEP_BYTES).await {
            Ok(Step::Read(_) | Step::Sound(_)) => {}
            Ok(Step::Quarantined(digest)) => aside(app, digest, &mut scrubbed).await,
            Ok(Step::PassEnded(pass)) => {
                (scrubbed.sound, scrubbed.bytes) = (pass.sound, pass.bytes);
                // To fetch a layer its manifests are read, and what was rotten of these was found before the walk came to it.
                for _ in 0..READERS_ROUNDS {
                    for digest in app.store.ledger().take_rotten() {
                        aside(app, digest, &mut scrubbed).await;
                    }
                }
                return Ok(scrubbed);
            }
            Err(error) if scrubbed.unreadable.len() < UNREADABLE_MAX => scrubbed.unreadable.push(chain(&error)),
            Err(error) => return Err(super::failed(error)),
        }
    }
}

/// Fetches what was set aside again, where somebody needs it.
async fn aside(app: &Arc<App>, digest: Digest, scrubbed: &mut Scrubbed) {
    app.admission.forget(&digest);
    scrub::told(&digest);
    match scrub::heal(app, &digest).await {
        Ok(Healed::Again) => scrubbed.healed.push(digest.clone()),
        Ok(Healed::NotNeeded) => scrubbed.not_needed.push(digest.clone()),
        Err(error) => scrubbed.unhealed.push(Unhealed { digest: digest.clone(), why: error.to_string() }),
    }
    scrubbed.quarantined.push(digest);
}
