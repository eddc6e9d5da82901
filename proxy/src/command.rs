//! What commands ask that takes upstreams or the store, and the answers.
//!
//! ```text
//! pratique verify … ─┬─ control socket ──> server that owns the store ─┐
//!                    └─ no server: opens the store itself ─────────────┴─> answer(app, request) ──> Answer ──> show
//! ```
//!
//! The same code answers either way, and the answer is made readable by whoever asked: what a command prints does not depend on
//! who owned the store. Nothing in here admits anything; a request for an image is never answered from here.

mod answer;
mod attestation;
mod cache;
mod check;
mod diff;
mod explain;
mod gather;
mod image;
mod kept;
mod leads;
mod progress;
mod request;
mod rules;
mod show;
mod test;
mod verify;

use std::sync::Arc;

pub use answer::{
    AmountTold, Answer, Attested, CacheAnswer, Changed, ChangedTag, Checked, Differences, EventTold, Explained,
    Failure, Flaw, Judged, Kind, LookTold, TagAnswer, TagTold, TargetTold, Told, Verdict, Verified,
};
pub use check::check;
pub(crate) use progress::Heard;
pub use progress::{Doing, Progress, Reporter};
pub use request::{Annotation, Asked, CacheRequest, PolicyText, Request, Rules, ScrubRate, Sigstore, Word};
pub use show::{Exit, Output, Shown, show};

use crate::app::App;

/// Answers one request over an open store. What takes its time says meanwhile how far it has come.
pub async fn answer(app: &Arc<App>, request: Request, reporter: &Reporter) -> Answer {
    let answered = match request {
        Request::Verify { image, rules } => verify::verify(app, &image, &rules).await.map(Answer::Verified),
        Request::Attestation { image, platform, predicate_type, rules } => {
            let wanted =
                attestation::Wanted { platform: platform.as_deref(), predicate_type: predicate_type.as_deref() };
            attestation::attestations(app, &image, &wanted, &rules).await.map(Answer::Attested)
        }
        Request::Explain { image } => explain::explain(app, &image).await.map(Answer::Explained),
        Request::PolicyTest { policies, images } => test::test(app, &policies, &images).await.map(Answer::Tested),
        Request::Cache(request) => cache::answer(app, request, reporter).await.map(Answer::Cache),
        Request::PolicyDiff { policies } => diff::diff(app, &policies).await.map(Answer::Differs),
    };
    answered.unwrap_or_else(Answer::Failed)
}
