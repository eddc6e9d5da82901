//! Looks through evidence that is too much to be kept, by the judge's own eyes.

use std::sync::Arc;

use oci::{Digest, Repository, UnixTime};
use policy::{Assessment, Effect, Judge, Origin, UntrustedEvidence, UntrustedPiece, Worth};
use tokio::sync::Semaphore;

use super::room::Work;

/// Tells what of an image's evidence matters, and when there is enough of it. It admits nothing: what it leaves is judged.
pub struct Sieve {
    judge: Arc<Judge>,
    repository: Repository,
    digest: Digest,
    now: UnixTime,
    /// Judgements at the same time.
    slots: Arc<Semaphore>,
}

impl Sieve {
    /// For one image, as judged now.
    #[must_use]
    pub fn new(judge: Arc<Judge>, image: (Repository, Digest), now: UnixTime, slots: Arc<Semaphore>) -> Self {
        let (repository, digest) = image;
        Self { judge, repository, digest, now, slots }
    }

    /// What the judge will do with a piece.
    #[must_use]
    pub fn work(&self) -> Work {
        let policies = self.judge.policies().matching(&self.repository, &self.digest);
        let ruled = policies.iter().any(|policy| {
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
        let (judge, now) = (Arc::clone(&self.judge), self.now);
        let (repository, digest) = (self.repository.clone(), self.digest.clone());
        self.aside(move || {
            let evidence = UntrustedEvidence { pieces, ..UntrustedEvidence::default() };
            let worths = judge.worths(&repository, &digest, &evidence, now);
            let of = |piece| worths.iter().find(|(other, _)| std::ptr::eq(*other, piece)).map(|(_, worth)| *worth);
            // What the judge says nothing about is not known to be worth nothing.
            evidence.pieces.iter().map(|piece| of(piece).unwrap_or(Worth::Something)).collect()
        })
        .await
    }

    /// Whether these pieces are enough for all policies, whatever else there is. Never where a policy has a rule over all that was
    /// found: it may ask that something is not there.
    pub(super) async fn suffice(&self, pieces: Vec<UntrustedPiece>, asked: Vec<Origin>) -> bool {
        let governing = self.judge.policies().matching(&self.repository, &self.digest);
        if governing.iter().any(|policy| policy.rule().is_some()) {
            return false;
        }
        let (judge, now) = (Arc::clone(&self.judge), self.now);
        let (repository, digest) = (self.repository.clone(), self.digest.clone());
        let assessed = self.aside(move || {
            let evidence = UntrustedEvidence { pieces, asked, ..UntrustedEvidence::default() };
            judge.assess(&repository, &digest, &evidence, now)
        });
        matches!(assessed.await, Ok(Assessment::Complete(record)) if *record.effect() == Effect::Serve)
    }

    /// Runs work of the judge where it holds up nobody.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let slot = self.slots.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        drop(slot);
        done.map_err(|_| "the judge failed at it".to_owned())
    }
}
