//! Where else a blob is permitted: for a download that every repository that was asked has refused.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use oci::{Repository, RepositoryPath};

use super::{
    Admission, Effort,
    permit::{PARENTS_PAGE, permits_blob},
};
use crate::{
    app::InForce,
    error::ApiError,
    fill::{Elsewhere, FillKey},
};

/// Edges to a blob that are looked at for one more repository.
const EDGES_MAX: usize = 1024;
/// Manifests that are judged for it.
const JUDGED_MAX: usize = 64;

impl Elsewhere for Arc<Admission> {
    fn another<'a>(&'a self, key: &'a FillKey, known: &'a [RepositoryPath]) -> BoxFuture<'a, Option<RepositoryPath>> {
        let look = move |in_force| async move { self.permitted_too(&in_force, key, known).await };
        let found = self.settled(self.patience(), look);
        Box::pin(async move {
            // The download ends as it would have; whatever stood in the way is told there.
            found
                .await
                .inspect_err(|error| tracing::debug!(digest = %key.digest, "no other repository: {error}"))
                .ok()?
        })
    }
}

impl Admission {
    /// A permit by what is stored alone: upstream is asked for the blob, never for leave to ask for it.
    async fn permitted_too(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        key: &FillKey,
        known: &[RepositoryPath],
    ) -> Result<Option<RepositoryPath>, ApiError> {
        // A reload may have taken the upstream away.
        in_force.upstream(&key.upstream)?;
        let is_other =
            |repository: &Repository| repository.upstream() == &key.upstream && !known.contains(repository.path());
        let (mut after, mut looked_at, mut judged) = (None, 0, 0);
        while looked_at < EDGES_MAX {
            let page = self.store.facts().read()?.reached_by(&key.digest, after.as_ref(), PARENTS_PAGE)?;
            looked_at += page.len();
            for (repository, edge) in &page {
                if !permits_blob(edge.kind) || edge.size != key.size || !is_other(repository) {
                    continue;
                }
                if judged == JUDGED_MAX {
                    return Ok(None);
                }
                judged += 1;
                // Refused, ended or not decided: that repository is not asked.
                let permit = self.permit_from(in_force, repository, &key.digest, edge, Effort::Settled).await;
                if permit.is_ok_and(|permit| permit.is_some_and(|permit| permit.size() == key.size)) {
                    return Ok(Some(repository.path().clone()));
                }
            }
            if page.len() < PARENTS_PAGE {
                return Ok(None);
            }
            after = page.into_iter().next_back();
        }
        Ok(None)
    }
}
