//! The ways in which an image can be admitted, the cheapest first.

use std::{pin::Pin, sync::Arc};

use oci::{Digest, Repository, UntrustedManifest};
use policy::{Admitted, ChildOutcome, Manifest, Outcome, UntrustedEvidence, Wanted};
use storage::EdgeKind;

use super::{Admission, Effort, Past, readmitted};
use crate::{
    app::InForce,
    collect::{About, Sieve},
    error::ApiError,
    evidence::{Gathered, Subject},
};

/// A look that may lead to another, through an index around this one.
pub(super) type Look<'a> = Pin<Box<dyn Future<Output = Result<Arc<Admitted<Manifest>>, ApiError>> + Send + 'a>>;

impl Admission {
    /// The admission of `digest` under what is in force, going no further than `effort`.
    ///
    /// 0. What is in memory, and counts, is not looked up.
    /// 1. A stored verdict that holds admits.
    /// 2. An index of this repository that is admitted now admits its child.
    /// 3. A stored refusal that holds refuses.
    /// 4. Stored evidence, never judged under what is in force, is judged.
    /// 5. Evidence is collected and judged.
    pub(super) fn admitted<'a>(
        self: &'a Arc<Self>,
        in_force: &'a Arc<InForce>,
        repository: &'a Repository,
        digest: &'a Digest,
        depth: usize,
        effort: Effort,
    ) -> Look<'a> {
        Box::pin(async move {
            // 0.
            if let Some(admitted) =
                self.recalled(in_force, repository, digest).filter(|admitted| effort.takes(admitted))
            {
                return Ok(admitted);
            }
            let since = self.looks.moment();
            let manifest = self.resolver.stored(repository, digest).await?;
            // 1.
            let verdict = match &manifest {
                Some(manifest) => self.verdict(in_force, repository, manifest, effort)?,
                None => None,
            };
            if let Some(Ok(admitted)) = verdict {
                let admitted = Arc::new(admitted);
                self.keep(in_force, &admitted, since, effort);
                return Ok(admitted);
            }
            // 2.
            let through = self.through_index(in_force, repository, digest, manifest.as_ref(), depth, effort).await?;
            if let Some(admitted) = through.admitted.filter(|admitted| effort.takes(admitted)) {
                self.keep(in_force, &admitted, since, effort);
                return Ok(admitted);
            }
            let own = match (through.refused, verdict) {
                // 2. and 3.
                (Some(refused), _) | (None, Some(Err(refused))) => Err(refused),
                // 4. and 5.
                (None, Some(Ok(_)) | None) => self.by_itself(in_force, repository, digest, manifest, effort).await,
            };
            own.map_err(|error| error.unless(through.open))
        })
    }

    /// Judges an image by its own evidence.
    async fn by_itself(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        digest: &Digest,
        manifest: Option<UntrustedManifest>,
        effort: Effort,
    ) -> Result<Arc<Admitted<Manifest>>, ApiError> {
        if effort.is_local() {
            let Some(manifest) = manifest else { return Err(ApiError::NotJudged) };
            return self.judged_from_store(in_force, repository, manifest, effort).await;
        }
        let key = (repository.clone(), digest.clone(), in_force.judge.fingerprint(repository, digest));
        let joined = self.judging.join((key, in_force.generation), || {
            let (this, in_force) = (Arc::clone(self), Arc::clone(in_force));
            let (repository, digest) = (repository.clone(), digest.clone());
            async move { this.anew(&in_force, &repository, &digest, effort).await }
        });
        let admitted = joined.await?;
        // The work may have been begun by somebody to whom what is there sufficed, or have taken longer than its verdict holds.
        if in_force.judge.in_force(&admitted, self.clock.now()) && effort.takes(&admitted) {
            return Ok(admitted);
        }
        self.anew(in_force, repository, digest, effort).await
    }

    /// The stored verdict on `manifest` by its own evidence, where it holds, and long enough.
    pub(super) fn verdict(
        &self,
        in_force: &InForce,
        repository: &Repository,
        manifest: &UntrustedManifest,
        effort: Effort,
    ) -> Result<Option<Result<Admitted<Manifest>, ApiError>>, ApiError> {
        let fingerprint = in_force.judge.fingerprint(repository, manifest.digest());
        let key = (repository.clone(), manifest.digest().clone(), fingerprint);
        Ok(self.past(&key)?.verdict(in_force, repository, manifest, effort))
    }

    /// Judges by stored evidence alone: what a change of policy needs, and what an ended refusal must not be renewed by.
    async fn judged_from_store(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        manifest: UntrustedManifest,
        effort: Effort,
    ) -> Result<Arc<Admitted<Manifest>>, ApiError> {
        let digest = manifest.digest().clone();
        let key = (repository.clone(), digest.clone(), in_force.judge.fingerprint(repository, &digest));
        let joined = self.rejudging.join(((key, in_force.generation), effort), || {
            let (this, in_force, repository) = (Arc::clone(self), Arc::clone(in_force), repository.clone());
            async move {
                match this.by_stored_evidence(&in_force, &repository, &manifest, effort).await? {
                    ByStore::Judged(judged) => judged.map(Arc::new),
                    ByStore::Open { .. } => Err(ApiError::NotJudged),
                }
            }
        });
        let admitted = joined.await?;
        if in_force.judge.in_force(&admitted, self.clock.now()) { Ok(admitted) } else { Err(ApiError::NotJudged) }
    }

    /// Judges by stored evidence, where that says something new: a refusal that has ended under the same fingerprint would only
    /// be repeated, and wants new evidence instead.
    ///
    /// What could not be decided in full for want of evidence is not remembered: it would stand in the way of collecting the rest.
    async fn by_stored_evidence(
        &self,
        in_force: &InForce,
        repository: &Repository,
        manifest: &UntrustedManifest,
        effort: Effort,
    ) -> Result<ByStore, ApiError> {
        let digest = manifest.digest();
        let past = self.past(&(repository.clone(), digest.clone(), in_force.judge.fingerprint(repository, digest)))?;
        // Somebody else may have judged it while this look was on its way.
        if let Some(verdict) = past.verdict(in_force, repository, manifest, effort) {
            return Ok(ByStore::Judged(verdict));
        }
        let wanted = in_force.judge.wanted(repository, digest);
        if wanted.is_empty() {
            return Ok(ByStore::Judged(
                self.judge(in_force, repository, manifest, &UntrustedEvidence::default()).await,
            ));
        }
        if past.wants_new_evidence(effort) {
            return Ok(ByStore::Open { wanted, stored: None });
        }
        let work = self.sieve(&in_force.judge, About::Itself(repository.clone(), digest.clone())).work();
        let Some(stored) = self.evidence.stored(repository, digest, &wanted, work).await? else {
            return Ok(ByStore::Open { wanted, stored: None });
        };
        let judged = self.judgement(in_force, repository, manifest, &stored.evidence).await?;
        if judged.record.is_some() || stored.is_complete(&wanted) {
            return Ok(ByStore::Judged(self.conclude(in_force, judged).await));
        }
        match judged.outcome {
            // An index that is on the way to something else.
            Outcome::Admitted(admitted) if effort == Effort::Stored => Ok(ByStore::Judged(Ok(admitted))),
            // What was not asked then may be asked now.
            Outcome::Admitted(_) | Outcome::Refused(_) | Outcome::Absent(_) | Outcome::Undecided(_) => {
                Ok(ByStore::Open { wanted: stored.missing(&wanted), stored: Some(stored) })
            }
        }
    }

    /// Fetches what is missing, judges, remembers.
    async fn anew(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        digest: &Digest,
        effort: Effort,
    ) -> Result<Arc<Admitted<Manifest>>, ApiError> {
        let upstream = in_force.upstream(repository.upstream())?;
        let manifest = self.resolver.manifest(&upstream, repository, digest).await?;
        let (wanted, stored) = match self.by_stored_evidence(in_force, repository, &manifest, effort).await {
            Ok(ByStore::Judged(judged)) => return judged.map(Arc::new),
            Ok(ByStore::Open { wanted, stored }) => (wanted, stored),
            // There is no room for what is stored. What upstream shows may be less by now.
            Err(ApiError::Undecided { .. }) => (in_force.judge.wanted(repository, digest), None),
            Err(error) => return Err(error),
        };
        let sieve = self.sieve(&in_force.judge, About::Itself(repository.clone(), digest.clone()));
        let gathered = self.collect(in_force, (repository, &manifest), &wanted, stored, &sieve).await?;
        let judged = self.judge(in_force, repository, &manifest, &gathered.evidence).await;
        judged.map(Arc::new).map_err(|error| error.limited(gathered.patience))
    }

    /// Collects what is wanted and keeps it; what is stored of other places goes into the same judgement, and what satisfied a policy before.
    async fn collect(
        &self,
        in_force: &InForce,
        (repository, manifest): (&Repository, &UntrustedManifest),
        wanted: &Wanted,
        stored: Option<Gathered>,
        sieve: &Sieve,
    ) -> Result<Gathered, ApiError> {
        let collector = self.evidence.collector(&in_force.upstreams);
        self.evidence
            .collect(&collector, Subject { repository, manifest }, wanted, stored, sieve, self.clock.now())
            .await
    }

    /// The admission of a child through any index of this repository that is admitted now.
    async fn through_index(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        digest: &Digest,
        manifest: Option<&UntrustedManifest>,
        depth: usize,
        effort: Effort,
    ) -> Result<ThroughIndex, ApiError> {
        let mut through = ThroughIndex::default();
        if depth >= self.limits.index_depth_max {
            return Ok(through);
        }
        let parents = self.parents(repository, digest, |kind| kind == EdgeKind::Child)?;
        for edge in parents {
            let mut ended = 0;
            let open = loop {
                // Of an index only what the store knows counts here: a client that wants it judged anew asks for it.
                let index = match self.admitted(in_force, repository, &edge.parent, depth + 1, Effort::Stored).await {
                    Ok(index) => index,
                    Err(error) => break Some(error),
                };
                match self.child(in_force, &index, digest, manifest, effort).await {
                    Ok(Around::Admitted(admitted)) => {
                        through.admitted = Some(admitted);
                        return Ok(through);
                    }
                    Ok(Around::Nothing) => break None,
                    // While the child's evidence was on its way: the index is judged once more, and that evidence is here by now.
                    Ok(Around::Ended) if ended == 0 => ended += 1,
                    Ok(Around::Ended) => {
                        break Some(ApiError::undecided("cannot decide: the verdict on its index ended"));
                    }
                    // What governs the child and not the index governs it by its own evidence too: that refusal would only be repeated.
                    Err(error) => {
                        through.refused = Some(worse(through.refused, error));
                        break None;
                    }
                }
            };
            if let Some(error) = open {
                through.open = Some(worse(through.open, error)).filter(ApiError::is_open);
            }
        }
        Ok(through)
    }

    /// What an index says about a child.
    async fn child(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        index: &Arc<Admitted<Manifest>>,
        digest: &Digest,
        manifest: Option<&UntrustedManifest>,
        effort: Effort,
    ) -> Result<Around, ApiError> {
        let repository = index.repository();
        let child = match manifest {
            Some(manifest) => manifest.clone(),
            None if effort.is_local() => return Ok(Around::Nothing),
            None => {
                let upstream = in_force.upstream(repository.upstream())?;
                self.resolver.manifest(&upstream, repository, digest).await?.as_ref().clone()
            }
        };
        let key = (repository.clone(), digest.clone(), in_force.judge.child_fingerprint(index, digest));
        let past = self.past(&key)?;
        if let Some(verdict) = past.verdict_on_child(in_force, index, &child, effort) {
            return verdict.map(Around::admitted);
        }
        let joined = self.children.join(((key, in_force.generation), effort), || {
            let (this, in_force, index) = (Arc::clone(self), Arc::clone(in_force), Arc::clone(index));
            let child = child.clone();
            async move { this.child_anew(&in_force, &index, child, effort).await }
        });
        match joined.await? {
            // It may have taken longer than its verdict holds, which may be no time at all.
            Around::Admitted(admitted) if !in_force.judge.in_force(&admitted, self.clock.now()) => {
                self.child_anew(in_force, index, child, effort).await
            }
            around @ (Around::Admitted(_) | Around::Nothing | Around::Ended) => Ok(around),
        }
    }

    /// Judges a child through an index, by its own evidence besides where that is wanted.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an outcome that is not an admission, refusal or doubt says nothing about the child"
    )]
    async fn child_anew(
        &self,
        in_force: &InForce,
        index: &Arc<Admitted<Manifest>>,
        child: UntrustedManifest,
        effort: Effort,
    ) -> Result<Around, ApiError> {
        let (repository, digest) = (index.repository(), child.digest());
        let past = self.past(&(repository.clone(), digest.clone(), in_force.judge.child_fingerprint(index, digest)))?;
        // Somebody else's judgement may have ended since this one was wanted.
        if let Some(verdict) = past.verdict_on_child(in_force, index, &child, effort) {
            return verdict.map(Around::admitted);
        }
        let judged = in_force.judge.admit_child(index, child.clone(), None, self.clock.now());
        // Not let go of before the judgement is remembered.
        let mut judged_by = None;
        let judged = match judged.outcome {
            ChildOutcome::NeedsEvidence(wanted) => {
                let is_to_be_new = past.wants_new_evidence(effort);
                let gathered = self.evidence_of_child(in_force, &child, index, (&wanted, is_to_be_new), effort).await?;
                // Not judged otherwise meanwhile: what found nothing is not to find it again in the same evidence.
                let gathered = judged_by.insert(gathered.ok_or(ApiError::NotJudged)?);
                let (judge, index, now) = (Arc::clone(&in_force.judge), Arc::clone(index), self.clock.now());
                let (evidence, child) = (gathered.evidence.clone(), child.clone());
                let judged = self.aside(move || judge.admit_child(&index, child, Some(&evidence), now)).await?;
                if effort.is_local() && judged.record.is_none() && !gathered.is_complete(&wanted) {
                    return match judged.outcome {
                        ChildOutcome::Admitted(admitted) if effort == Effort::Stored => Ok(Around::admitted(admitted)),
                        // What was not asked then may be asked now.
                        _ => Err(ApiError::NotJudged),
                    };
                }
                judged
            }
            _ => judged,
        };
        self.remember(in_force, judged.record, judged.in_memory).await?;
        match judged.outcome {
            ChildOutcome::Admitted(admitted) => {
                self.keep_known(repository, &child).await?;
                Ok(Around::admitted(admitted))
            }
            ChildOutcome::IndexEnded => Ok(Around::Ended),
            ChildOutcome::Refused(refusal) | ChildOutcome::Absent(refusal) => Err(ApiError::Refused(Arc::new(refusal))),
            ChildOutcome::Undecided(undecided) => {
                let patience = judged_by.and_then(|gathered| gathered.patience);
                Err(ApiError::undecided(format!("cannot decide: {undecided}")).limited(patience))
            }
            _ => Ok(Around::Nothing),
        }
    }

    /// What is wanted of a child's own evidence, stored or collected. `None` where only the store is looked at and it does not have
    /// any of it, or is to have it anew.
    async fn evidence_of_child(
        &self,
        in_force: &InForce,
        child: &UntrustedManifest,
        index: &Arc<Admitted<Manifest>>,
        (wanted, is_to_be_new): (&Wanted, bool),
        effort: Effort,
    ) -> Result<Option<Gathered>, ApiError> {
        let (repository, digest) = (index.repository(), child.digest());
        let sieve = self.sieve(&in_force.judge, About::Through(Arc::clone(index), Box::new(child.clone())));
        let stored =
            if is_to_be_new { None } else { self.evidence.stored(repository, digest, wanted, sieve.work()).await? };
        if effort.is_local() || stored.as_ref().is_some_and(|stored| stored.is_complete(wanted)) {
            return Ok(stored);
        }
        let missing = stored.as_ref().map_or_else(|| wanted.clone(), |stored| stored.missing(wanted));
        self.collect(in_force, (repository, child), &missing, stored, &sieve).await.map(Some)
    }
}

impl Past {
    /// The one on `manifest` by its own evidence, where it holds, and long enough.
    fn verdict(
        &self,
        in_force: &InForce,
        repository: &Repository,
        manifest: &UntrustedManifest,
        effort: Effort,
    ) -> Option<Result<Admitted<Manifest>, ApiError>> {
        let readmission = in_force.judge.readmit(repository, manifest.clone(), self.record()?, self.now);
        readmitted(readmission).filter(|verdict| effort.takes_verdict(verdict))
    }

    /// The same on a child through an index.
    fn verdict_on_child(
        &self,
        in_force: &InForce,
        index: &Admitted<Manifest>,
        child: &UntrustedManifest,
        effort: Effort,
    ) -> Option<Result<Admitted<Manifest>, ApiError>> {
        let readmission = in_force.judge.readmit_child(index, child.clone(), self.record()?, self.now);
        readmitted(readmission).filter(|verdict| effort.takes_verdict(verdict))
    }
}

/// What the store alone says about an image.
enum ByStore {
    Judged(Result<Admitted<Manifest>, ApiError>),
    /// Nothing, or nothing new: this is to be collected, and judged together with what is stored.
    Open {
        wanted: Wanted,
        stored: Option<Gathered>,
    },
}

/// What one index around a child says about it.
#[derive(Clone)]
pub(super) enum Around {
    Admitted(Arc<Admitted<Manifest>>),
    /// It does not list it, or says nothing else.
    Nothing,
    /// The index's own verdict ended meanwhile.
    Ended,
}

impl Around {
    fn admitted(admitted: Admitted<Manifest>) -> Self {
        Self::Admitted(Arc::new(admitted))
    }
}

/// What the indexes around a child say about it.
#[derive(Default)]
struct ThroughIndex {
    /// By one that lets it in.
    admitted: Option<Arc<Admitted<Manifest>>>,
    /// By those that do not.
    refused: Option<ApiError>,
    /// Why one that may yet let it in could not be looked at, for want of room, say: then nothing else is a no.
    open: Option<ApiError>,
}

fn worse(known: Option<ApiError>, error: ApiError) -> ApiError {
    match known {
        Some(known) => known.or_worse(error),
        None => error,
    }
}
