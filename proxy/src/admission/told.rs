//! What commands ask of the gate that tell what was decided, or would be. Nothing passes through here.

use std::sync::Arc;

use config::Limits;
use oci::{Digest, Repository};
use policy::{ChildOutcome, Judge, Readmission, Record, UntrustedEvidence, Wanted};

use super::{Admission, Effort};
use crate::{
    app::InForce,
    collect::{About, Room},
    error::ApiError,
    evidence::{Gathered, Subject},
};

/// Evidence that upstream offers now, with the room that it takes in memory.
pub struct Offered {
    /// For a judge.
    pub evidence: UntrustedEvidence,
    _room: Room,
}

/// What decides about a child through an index.
pub struct Through {
    /// About the index, or about the child.
    pub record: Record,
    /// It is remembered and holds.
    pub is_stored: bool,
}

impl Admission {
    /// The verdict that is remembered about an image's own evidence under what this judge judges by, where it holds now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn told(
        &self,
        judge: &Judge,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Record>, ApiError> {
        let fingerprint = judge.fingerprint(repository, digest);
        let past = self.past(&(repository.clone(), digest.clone(), fingerprint))?;
        let Some(record) = past.record() else { return Ok(None) };
        let holds = match self.resolver.stored(repository, digest).await? {
            Some(manifest) => !matches!(judge.readmit(repository, manifest, record, past.now), Readmission::Ended),
            None => record.holds_at(past.now),
        };
        Ok(holds.then(|| record.clone()))
    }

    /// What decides about a child through this index, where that is admitted now by its own evidence: the verdict on the index, or on the
    /// child where some policy asks for its own besides. One that is not remembered is made from the evidence that is stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn told_through(
        &self,
        in_force: &InForce,
        repository: &Repository,
        child: &Digest,
        index: &Digest,
    ) -> Result<Option<Through>, ApiError> {
        let (judge, now) = (&in_force.judge, self.clock.now());
        let (Some(index), Some(child)) =
            (self.resolver.stored(repository, index).await?, self.resolver.stored(repository, child).await?)
        else {
            return Ok(None);
        };
        let Some(Ok(admitted)) = self.verdict(in_force, repository, &index, Effort::Stored)? else { return Ok(None) };
        let admitted = Arc::new(admitted);
        let fingerprint = judge.child_fingerprint(&admitted, child.digest());
        let past = self.past(&(repository.clone(), child.digest().clone(), fingerprint))?;
        if let Some(record) = past.record().filter(|record| record.holds_at(now)) {
            return Ok(Some(Through { record: record.clone(), is_stored: true }));
        }
        let mut judged = judge.admit_child(&admitted, child.clone(), None, now);
        if let ChildOutcome::NeedsEvidence(wanted) = &judged.outcome {
            let work = self.sieve(judge, About::Through(Arc::clone(&admitted), Box::new(child.clone()))).work();
            let Some(kept) = self.evidence.stored(repository, child.digest(), wanted, work).await? else {
                return Ok(None);
            };
            let judge = Arc::clone(judge);
            judged = self.aside(move || judge.admit_child(&admitted, child, Some(&kept.evidence), now)).await?;
        }
        if let Some(record) = judged.record.or(judged.in_memory) {
            return Ok(Some(Through { record, is_stored: false }));
        }
        if !matches!(judged.outcome, ChildOutcome::Admitted(_)) {
            return Ok(None);
        }
        let of_index = self.told(judge, repository, index.digest()).await?;
        Ok(of_index.map(|record| Through { record, is_stored: true }))
    }

    /// All that upstream offers now of what is wanted for `judge` to see about an image. Nothing of it is kept.
    pub async fn offered(
        &self,
        in_force: &InForce,
        (judge, about): (&Arc<Judge>, About),
        Subject { repository, manifest }: Subject<'_>,
        wanted: &Wanted,
        evidence_bytes_max: Option<u64>,
    ) -> Offered {
        let mut limits = Arc::clone(&self.limits);
        if let Some(bytes_max) = evidence_bytes_max {
            // More than all room together would never be let in.
            let max = bytes_max.min(limits.evidence_memory_bytes_max);
            let attached = Limits { evidence_bytes_max: max, attestation_bytes_max: max, ..limits.as_ref().clone() };
            limits = Arc::new(attached);
        }
        let collector = self.evidence.collector_within(&in_force.upstreams, limits);
        let sieve = self.sieve(judge, about);
        let room = self.evidence.room(sieve.work());
        let mut collected = collector.evidence(repository, manifest.digest(), &wanted.origins, &sieve, &room).await;
        if wanted.configs {
            collected.configs = collector.configs(repository, manifest, &room).await;
        }
        Offered { evidence: collected.evidence(), _room: room }
    }

    /// What is stored of evidence that is wanted about an image; `None` where nothing was ever collected.
    ///
    /// # Errors
    /// When the store fails, or there is no room in memory.
    pub async fn kept(
        &self,
        judge: &Arc<Judge>,
        (repository, digest): (&Repository, &Digest),
        wanted: &Wanted,
    ) -> Result<Option<Gathered>, ApiError> {
        let sieve = self.sieve(judge, About::Itself(repository.clone(), digest.clone()));
        self.evidence.stored(repository, digest, wanted, sieve.work()).await
    }
}
