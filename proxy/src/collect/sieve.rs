//! Looks through evidence that is too much to be kept, by the judge's own eyes.

use std::sync::Arc;

use oci::{Digest, Repository, UnixTime, UntrustedManifest};
use policy::{Admitted, Assessment, Effect, Judge, Manifest, Origin, Policy, UntrustedEvidence, UntrustedPiece, Worth};
use tokio::sync::Semaphore;

use super::room::Work;

/// Tells what of an image's evidence matters, and when there is enough of it. It admits nothing: what it leaves is judged.
pub struct Sieve {
    judge: Arc<Judge>,
    image: Arc<About>,
    now: UnixTime,
    /// Judgements at the same time.
    slots: Arc<Semaphore>,
}

/// Whose evidence it is, and so which policies look at it.
pub enum About {
    /// Of what is judged by itself.
    Itself(Repository, Digest),
    /// Of a child, through an index that is admitted.
    Through(Arc<Admitted<Manifest>>, Box<UntrustedManifest>),
}

impl About {
    fn digest(&self) -> &Digest {
        match self {
            Self::Itself(_, digest) => digest,
            Self::Through(_, child) => child.digest(),
        }
    }

    fn policies<'a>(&self, judge: &'a Judge) -> Vec<&'a Policy> {
        match self {
            Self::Itself(repository, digest) => judge.policies().matching(repository, digest),
            Self::Through(index, child) => judge.besides(index, child.digest()),
        }
    }

    /// Whether the evidence admits without a doubt or a warning, as far as the policies go.
    fn is_served(&self, judge: &Judge, evidence: &UntrustedEvidence, now: UnixTime) -> bool {
        match self {
            Self::Itself(repository, digest) => {
                let assessed = judge.assess(repository, digest, evidence, now);
                matches!(assessed, Assessment::Complete(record) if *record.effect() == Effect::Serve)
            }
            Self::Through(index, child) => {
                let record = judge.admit_child(index, child.as_ref().clone(), Some(evidence), now).record;
                record.is_some_and(|record| *record.effect() == Effect::Serve)
            }
        }
    }
}

impl Sieve {
    /// For one image, as judged now.
    #[must_use]
    pub fn new(judge: Arc<Judge>, image: About, now: UnixTime, slots: Arc<Semaphore>) -> Self {
        Self { judge, image: Arc::new(image), now, slots }
    }

    /// What the judge will do with a piece.
    #[must_use]
    pub fn work(&self) -> Work {
        let ruled = self.image.policies(&self.judge).iter().any(|policy| {
            let attested = policy.authorities().iter().flat_map(|authority| &authority.attestations);
            policy.rule().is_some() || attested.into_iter().any(|attestation| attestation.rule.is_some())
        });
        if ruled { Work::Ruling } else { Work::Verifying }
    }

    /// What each piece is worth, in their order.
    ///
    /// # Errors
    /// When the judge failed at it.
    pub(super) async fn worths(&self, pieces: Vec<UntrustedPiece>) -> Result<Vec<Worth>, String> {
        let (judge, image, now) = (Arc::clone(&self.judge), Arc::clone(&self.image), self.now);
        self.aside(move || {
            let evidence = UntrustedEvidence { pieces, ..UntrustedEvidence::default() };
            let worths = judge.worths(&image.policies(&judge), image.digest(), &evidence, now);
            let of = |piece| worths.iter().find(|(other, _)| std::ptr::eq(*other, piece)).map(|(_, worth)| *worth);
            // What the judge says nothing about is not known to be worth nothing.
            evidence.pieces.iter().map(|piece| of(piece).unwrap_or(Worth::Something)).collect()
        })
        .await
    }

    /// Whether these pieces are enough for all policies, whatever else there is. Never where a policy has a rule over all that was
    /// found: it may ask that something is not there.
    pub(super) async fn suffice(&self, pieces: Vec<UntrustedPiece>, asked: Vec<Origin>) -> bool {
        if self.image.policies(&self.judge).iter().any(|policy| policy.rule().is_some()) {
            return false;
        }
        let (judge, image, now) = (Arc::clone(&self.judge), Arc::clone(&self.image), self.now);
        let served = self.aside(move || {
            let evidence = UntrustedEvidence { pieces, asked, ..UntrustedEvidence::default() };
            image.is_served(&judge, &evidence, now)
        });
        served.await == Ok(true)
    }

    /// Runs work of the judge where it holds up nobody.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let slot = self.slots.acquire().await;
        let done = storage::work::run(work).await;
        drop(slot);
        done.map_err(|_| "the judge failed at it".to_owned())
    }
}
