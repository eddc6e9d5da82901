//! Leave to serve a blob: some manifest of the repository reaches it and is admitted now.

use std::sync::Arc;

use oci::{Digest, Repository};
use policy::Permit;
use storage::{Edge, EdgeKind};

use super::{Admission, Effort, Entry, PermitGuard};
use crate::{app::InForce, error::ApiError, patience::Patience};

/// How many parents are read at a time; also for how many of them upstream is asked about one blob.
pub(super) const PARENTS_PAGE: usize = 64;

impl Admission {
    /// Leave to serve `blob` in `repository`, and its size in bytes as the manifest says.
    ///
    /// # Errors
    /// 404 where no manifest of this repository reaches it, 403 where none that does is admitted, 503 where that cannot be decided.
    pub async fn permit(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Digest,
        patience: Patience,
    ) -> Result<(PermitGuard, u64), ApiError> {
        let in_force = Arc::clone(&self.in_force);
        let (permit, generation) = self.permit_now(repository, blob, patience).await?;
        let size = permit.size();
        Ok((PermitGuard::new(Arc::clone(self), permit, in_force, generation), size))
    }

    /// A permit, and the generation under which it was made.
    pub(super) async fn permit_now(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Digest,
        patience: Patience,
    ) -> Result<(Permit, u64), ApiError> {
        self.settled(patience, |in_force| async move {
            let permit = self.permit_under(&in_force, repository, blob).await?;
            Ok((permit, in_force.generation))
        })
        .await
    }

    async fn permit_under(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        blob: &Digest,
    ) -> Result<Permit, ApiError> {
        if let Some(permit) = self.permit_recalled(in_force, repository, blob) {
            return Ok(permit);
        }
        let mut answer = unknown(repository, blob);
        // What the store alone can say is asked of every parent before upstream is asked about a few.
        for (effort, pages) in [(Effort::Settled, usize::MAX), (Effort::Upstream, 1)] {
            // What the store could not say is said by the second pass, or not at all.
            answer = unknown(repository, blob);
            let mut after = None;
            for _ in 0..pages {
                let page = self.store.facts().read()?.parents(repository, blob, after.as_ref(), PARENTS_PAGE)?;
                for edge in page.found.iter().filter(|edge| permits_blob(edge.kind)) {
                    match self.permit_from(in_force, repository, blob, edge, effort).await {
                        Ok(Some(permit)) => {
                            self.store.ledger().used(repository, &edge.parent, self.clock.now());
                            return Ok(permit);
                        }
                        Ok(None) => {}
                        Err(error) => answer = answer.or_worse(error),
                    }
                }
                after = page.found.into_iter().last();
                if !page.more {
                    break;
                }
            }
        }
        Err(answer)
    }

    /// Leave to serve `blob` by a manifest that is in memory, and counts.
    fn permit_recalled(&self, in_force: &InForce, repository: &Repository, blob: &Digest) -> Option<Permit> {
        let parent = self.parent_of(repository, blob)?;
        let admitted = self.recalled(in_force, repository, &parent)?;
        let permit = in_force.judge.permit(&admitted, blob)?;
        self.store.ledger().used(repository, admitted.digest(), self.clock.now());
        Some(permit)
    }

    pub(super) async fn permit_from(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        blob: &Digest,
        edge: &Edge,
        effort: Effort,
    ) -> Result<Option<Permit>, ApiError> {
        if edge.kind != EdgeKind::EvidenceBlob {
            let parent = self.admitted(in_force, repository, &edge.parent, 0, effort).await?;
            let permit = in_force.judge.permit(&parent, blob);
            if permit.is_some() {
                self.keep_parent(repository, blob, &edge.parent);
            }
            return Ok(permit);
        }
        match self.as_evidence(in_force, repository, &edge.parent, effort).await? {
            Some(evidence) => Ok(in_force.judge.evidence_permit(&evidence, blob)),
            None => Ok(None),
        }
    }

    /// The edges that lead to `child`, of the kinds wanted.
    pub(super) fn parents(
        &self,
        repository: &Repository,
        child: &Digest,
        wanted: impl Fn(EdgeKind) -> bool,
    ) -> Result<Vec<Edge>, ApiError> {
        let mut edges = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.facts().read()?.parents(repository, child, after.as_ref(), PARENTS_PAGE)?;
            after = page.found.last().cloned();
            edges.extend(page.found.into_iter().filter(|edge| wanted(edge.kind)));
            if !page.more {
                return Ok(edges);
            }
        }
    }
}

impl Entry {
    /// The digest that was admitted.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Image(admitted) => admitted.digest(),
            Self::Evidence(admitted) => admitted.digest(),
        }
    }
}

fn unknown(repository: &Repository, blob: &Digest) -> ApiError {
    ApiError::Unknown { code: "BLOB_UNKNOWN", what: format!("blob {blob} in {repository}") }
}

/// The edges that can permit a blob. A subject's referrers and an index's children never do.
pub(super) fn permits_blob(kind: EdgeKind) -> bool {
    matches!(kind, EdgeKind::Config | EdgeKind::Layer | EdgeKind::EvidenceBlob)
}
