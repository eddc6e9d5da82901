//! What a judge says about a kept image by what is stored alone, in the order of admission: its own evidence, then an index around it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use oci::{Digest, ManifestKind, Repository, UntrustedManifest};
use policy::{Admitted, ChildOutcome, Judge, Manifest, Outcome, Readmission, UntrustedEvidence, Wanted};
use storage::EdgeKind;

use super::{
    answer::{Failure, Judged, Verdict},
    gather,
};
use crate::{app::App, error::ApiError, evidence::Gathered};

/// Indexes looked at around one image.
const PARENTS_MAX: usize = 64;

/// Indexes looked at for one image in all: indexes within indexes that list each other's children are many ways to the same.
const LOOKS_MAX: usize = 256;

/// Who judges one image, and by which store.
pub(super) struct Kept<'a> {
    app: &'a App,
    judge: &'a Arc<Judge>,
    looks: AtomicUsize,
}

/// What is said of one image.
struct Said {
    judged: Judged,
    /// Where it would be served, and is an index or was reached through one.
    index: Option<Arc<Admitted<Manifest>>>,
}

type Saying<'a> = Pin<Box<dyn Future<Output = Result<Said, Failure>> + Send + 'a>>;

impl<'a> Kept<'a> {
    pub(super) fn new(app: &'a App, judge: &'a Arc<Judge>) -> Self {
        Self { app, judge, looks: AtomicUsize::new(0) }
    }

    /// The verdict on an image, by itself or through an index.
    pub(super) async fn said(&self, repository: &Repository, digest: &Digest) -> Result<Judged, Failure> {
        Ok(self.look(repository, digest, 0).await?.judged)
    }

    /// The same, with the admission where it is an index or was reached through one: that rests on more than what was found of it alone.
    pub(super) async fn said_with_admission(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(Judged, Option<Arc<Admitted<Manifest>>>), Failure> {
        let Said { judged, index } = self.look(repository, digest, 0).await?;
        Ok((judged, index))
    }

    /// The verdict on an image by its own evidence; `None` where some is wanted and none was ever collected.
    pub(super) async fn by_itself(&self, repository: &Repository, digest: &Digest) -> Result<Option<Judged>, Failure> {
        Ok(self.own(repository, digest, None).await?.map(|said| said.judged))
    }

    fn look<'s>(&'s self, repository: &'s Repository, digest: &'s Digest, depth: usize) -> Saying<'s> {
        Box::pin(async move {
            let manifest = self.app.resolver.stored(repository, digest).await?;
            let own = self.own(repository, digest, manifest.as_ref()).await?.unwrap_or_else(|| {
                let why = "no evidence is stored, and these policies want to see some".to_owned();
                let judged =
                    gather::without_record(&image(repository, digest), repository, digest, Verdict::Undecided, why);
                Said { judged, index: None }
            });
            let (Some(manifest), false) = (manifest, own.judged.verdict.serves()) else { return Ok(own) };
            if depth >= self.app.in_force().settings.limits.index_depth_max {
                return Ok(own);
            }
            let mut refused = None;
            for index in indexes(self.app, repository, digest)? {
                if self.looks.fetch_add(1, Ordering::Relaxed) >= LOOKS_MAX {
                    break;
                }
                let around = self.look(repository, &index, depth + 1).await?;
                let Some(index) = around.index else { continue };
                match self.through(&index, &manifest, around.judged).await? {
                    Some(said) if said.judged.verdict.serves() => return Ok(said),
                    Some(said) => refused = Some(said),
                    None => {}
                }
            }
            Ok(refused.unwrap_or(own))
        })
    }

    /// By its own evidence; `None` where some is wanted and none was ever collected.
    async fn own(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: Option<&UntrustedManifest>,
    ) -> Result<Option<Said>, Failure> {
        // As admission does: what was decided under these policies before is not decided again.
        if let Some(record) = self.app.admission.told(self.judge, repository, digest).await? {
            let judged = gather::of_record(&image(repository, digest), &record);
            let index = manifest.filter(|it| matches!(it.kind(), ManifestKind::Index { .. })).cloned();
            let readmitted = index.map(|index| self.judge.readmit(repository, index, &record, self.app.clock.now()));
            let index = match readmitted {
                Some(Readmission::Admitted(admitted)) => Some(Arc::new(admitted)),
                Some(Readmission::Refused(_) | Readmission::Ended) | None => None,
            };
            return Ok(Some(Said { judged, index }));
        }
        let wanted = self.judge.wanted(repository, digest);
        let Some(stored) = self.stored(repository, digest, &wanted).await? else { return Ok(None) };
        let index = manifest.filter(|it| matches!(it.kind(), ManifestKind::Index { .. })).cloned();
        let (judge, now) = (Arc::clone(self.judge), self.app.clock.now());
        let (repository, digest) = (repository.clone(), digest.clone());
        gather::judging(move || {
            let assessment = judge.assess(&repository, &digest, &stored.evidence(), now);
            let judged = gather::judged(&image(&repository, &digest), &repository, &digest, &assessment);
            let admitted = index.filter(|_| judged.verdict.serves()).and_then(|index| {
                match judge.admit(&repository, index, &stored.evidence(), now).outcome {
                    Outcome::Admitted(admitted) => Some(Arc::new(admitted)),
                    Outcome::Refused(_) | Outcome::Absent(_) | Outcome::Undecided(_) => None,
                }
            });
            Some(Said { judged, index: admitted })
        })
        .await
    }

    /// Through an index, of which `around` was said. `None` where it says nothing about the child.
    async fn through(
        &self,
        index: &Arc<Admitted<Manifest>>,
        child: &UntrustedManifest,
        around: Judged,
    ) -> Result<Option<Said>, Failure> {
        let (repository, digest, now) = (index.repository(), child.digest(), self.app.clock.now());
        let mut judgement = self.judge.admit_child(index, child.clone(), None, now);
        if let ChildOutcome::NeedsEvidence(wanted) = &judgement.outcome {
            let Some(stored) = self.stored(repository, digest, wanted).await? else {
                let why = "no evidence of its own is stored, and these policies want to see some".to_owned();
                let judged =
                    gather::without_record(&image(repository, digest), repository, digest, Verdict::Undecided, why);
                return Ok(Some(Said { judged, index: None }));
            };
            let (judge, index, child) = (Arc::clone(self.judge), Arc::clone(index), child.clone());
            let judging = move || judge.admit_child(&index, child, Some(&stored.evidence()), now);
            judgement = gather::judging(judging).await?;
        }
        let judged = gather::judged_through(&image(repository, digest), repository, digest, &judgement);
        let admitted = match judgement.outcome {
            ChildOutcome::Admitted(admitted) => Some(Arc::new(admitted)),
            ChildOutcome::Refused(_) | ChildOutcome::Absent(_) | ChildOutcome::Undecided(_) => None,
            ChildOutcome::NotListed | ChildOutcome::IndexEnded | ChildOutcome::NeedsEvidence(_) => return Ok(None),
        };
        Ok(Some(Said { judged: judged.unwrap_or(around), index: admitted }))
    }

    /// What is stored of what is wanted; `None` where something is and nothing was ever collected.
    async fn stored(
        &self,
        repository: &Repository,
        digest: &Digest,
        wanted: &Wanted,
    ) -> Result<Option<Stored>, Failure> {
        if wanted.is_empty() {
            return Ok(Some(Stored(None)));
        }
        let kept = self.app.admission.kept(self.judge, (repository, digest), wanted).await?;
        Ok(kept.map(|kept| Stored(Some(kept))))
    }
}

/// Evidence from the store; none where none is wanted.
struct Stored(Option<Gathered>);

impl Stored {
    fn evidence(&self) -> UntrustedEvidence {
        self.0.as_ref().map_or_else(UntrustedEvidence::default, |gathered| gathered.evidence.clone())
    }
}

/// The indexes that are known to list an image.
pub(super) fn indexes(app: &App, repository: &Repository, digest: &Digest) -> Result<Vec<Digest>, Failure> {
    let snapshot = app.store.facts().read().map_err(ApiError::from)?;
    let parents = snapshot.parents(repository, digest, None, PARENTS_MAX).map_err(ApiError::from)?;
    Ok(parents.found.into_iter().filter(|edge| edge.kind == EdgeKind::Child).map(|edge| edge.parent).collect())
}

/// As nobody typed it.
fn image(repository: &Repository, digest: &Digest) -> String {
    format!("{repository}@{digest}")
}
