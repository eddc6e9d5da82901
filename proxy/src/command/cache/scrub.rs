//! `scrub`: one walk over everything now, at a bounded rate; what has rotted and is needed is fetched again.

use std::sync::Arc;

use oci::Digest;
use storage::{Pass, Scrub, Step};

use super::{Failure, failed};
use crate::{
    app::App,
    command::{
        answer::{Scrubbed, Unhealed},
        progress::{Doing, Progress, Reporter},
        request::ScrubRate,
    },
    error::chain,
    scrub::{self, Healed, Pace},
};

/// Fetching what a reader has found may lead to another: an index around a child.
const READERS_ROUNDS: usize = 4;
/// Blobs that cannot be read are named up to so many.
const UNREADABLE_MAX: usize = 1000;

pub(super) async fn scrub(app: &Arc<App>, rate: ScrubRate, reporter: &Reporter) -> Result<Scrubbed, Failure> {
    let mut pace = match rate {
        ScrubRate::Configured => Pace::new(app.in_force().settings.storage.scrub_bytes_per_second),
        ScrubRate::BytesPerSecond(bytes) => Pace::new(bytes),
        ScrubRate::Unlimited => Pace::unbounded(),
    };
    let totals = app.store.facts().read().and_then(|snapshot| snapshot.totals()).map_err(failed)?;
    let bytes_total = totals.layers.bytes.saturating_add(totals.metadata.bytes);
    let mut scrub = Scrub::new(app.store.blobs().clone());
    let mut scrubbed = Scrubbed::default();
    loop {
        match scrub.step(pace.step()).await {
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
            Err(error) => return Err(failed(error)),
        }
        reporter.report(progress(scrub.pass(), bytes_total));
        pace.read(scrub.pass().bytes).await;
    }
}

fn progress(pass: Pass, bytes_total: u64) -> Progress {
    Progress {
        doing: Doing::Reading,
        bytes: pass.bytes,
        bytes_total: bytes_total.max(pass.bytes),
        blobs: pass.sound + pass.quarantined,
        rotten: pass.quarantined,
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
