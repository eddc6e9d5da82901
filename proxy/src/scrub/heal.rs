//! Fetching again what has rotted, where somebody still needs it.

use std::sync::Arc;

use metrics::counter;
use oci::{Digest, Repository};
use storage::EdgeKind;

use crate::{
    app::App,
    error::ApiError,
    fill::{Content, FillKey},
};

/// Repositories and manifests around one blob that are tried.
const WAYS_MAX: usize = 64;

/// What came of a blob that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Healed {
    /// It is in the store again.
    Again,
    /// No image that is admitted needs it.
    NotNeeded,
}

/// Fetches a blob that was set aside through the ordinary ways: a manifest as one who asks for it, all else by a download that an
/// admitted manifest permits. The bytes are what their digest says, or they are not stored.
///
/// # Errors
/// When it is needed, and cannot be fetched or decided on now. The next pull fetches it all the same.
pub(crate) async fn heal(app: &Arc<App>, digest: &Digest) -> Result<Healed, ApiError> {
    let (manifest_in, reached_in) = {
        let snapshot = app.store.facts().read()?;
        let manifest_in: Vec<_> =
            snapshot.usages(digest, WAYS_MAX)?.into_iter().map(|usage| usage.repository).collect();
        let edges = snapshot.reached_by(digest, None, WAYS_MAX)?;
        let blobs = edges
            .into_iter()
            .filter(|(_, edge)| matches!(edge.kind, EdgeKind::Config | EdgeKind::Layer | EdgeKind::EvidenceBlob));
        let mut reached_in: Vec<_> = blobs.map(|(repository, _)| repository).collect();
        reached_in.dedup();
        (manifest_in, reached_in)
    };
    let mut failure = None;
    for (repository, is_manifest) in
        manifest_in.iter().map(|it| (it, true)).chain(reached_in.iter().map(|it| (it, false)))
    {
        let fetched =
            if is_manifest { manifest(app, repository, digest).await } else { blob(app, repository, digest).await };
        match fetched {
            Ok(()) if app.store.blobs().open(digest).await?.is_some() => {
                counter!("pratique_healed_total").increment(1);
                return Ok(Healed::Again);
            }
            // Not kept, as too large for the budget; not admitted; or not there any more.
            Ok(()) | Err(ApiError::Refused(_) | ApiError::Unknown { .. } | ApiError::RepositoryRefused { .. }) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(Healed::NotNeeded), Err)
}

async fn manifest(app: &Arc<App>, repository: &Repository, digest: &Digest) -> Result<(), ApiError> {
    app.admission.forget(digest);
    app.admission.manifest(repository, digest, app.in_force().patience()).await.map(drop)
}

async fn blob(app: &Arc<App>, repository: &Repository, digest: &Digest) -> Result<(), ApiError> {
    let patience = app.in_force().patience();
    let (guard, size) = app.admission.permit(repository, digest, patience).await?;
    let key = FillKey { upstream: repository.upstream().clone(), digest: digest.clone(), size, class: guard.class() };
    let upstream = app.in_force().upstream(&key.upstream)?;
    match app.fills.content(key, &upstream, repository.path(), patience).await? {
        Content::Stored(_) => Ok(()),
        Content::Filling(fill) => fill.committed().await,
        Content::Passing(_) => Err(ApiError::undecided(format!("cannot keep blob {digest}: the store is full"))),
    }
}
