//! A permit on its way with a body.

use std::sync::Arc;

use oci::{Digest, Repository};
use policy::Permit;
use storage::{ContentClass, Told};

use super::Admission;
use crate::{app::InForce, error::ApiError};

/// A permit that is looked at again whenever it might not hold any more: after a reload, and when its verdict ends.
pub struct PermitGuard {
    admission: Arc<Admission>,
    permit: Permit,
    in_force: Arc<Told<Arc<InForce>>>,
    /// The generation under which the permit was last seen to hold.
    seen: u64,
}

impl PermitGuard {
    /// Around a permit that was made under `generation`.
    pub(super) fn new(
        admission: Arc<Admission>,
        permit: Permit,
        in_force: Arc<Told<Arc<InForce>>>,
        generation: u64,
    ) -> Self {
        Self { admission, permit, in_force, seen: generation }
    }

    /// The same guard for another part of the same response.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            admission: Arc::clone(&self.admission),
            permit: self.permit.clone(),
            in_force: Arc::clone(&self.in_force),
            seen: self.seen,
        }
    }

    /// In which repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        self.permit.repository()
    }

    /// Which blob.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.permit.digest()
    }

    /// Whether it is a layer of an image and nothing else; `false` of configs and evidence.
    #[must_use]
    pub fn is_layer(&self) -> bool {
        self.permit.is_layer()
    }

    /// Against which budget the blob is counted.
    #[must_use]
    pub fn class(&self) -> ContentClass {
        if self.is_layer() { ContentClass::Layer } else { ContentClass::Metadata }
    }

    /// Whether nothing has changed since the permit was last seen to hold. `false` is not a no: [`check`](Self::check) decides.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        let reloaded = self.in_force.with(|in_force| in_force.generation) != self.seen;
        let ended = self.permit.ends().is_some_and(|ends| ends <= self.admission.clock.now());
        !reloaded && !ended
    }

    /// Whether the blob may still be served. Costs a comparison where nothing has changed.
    ///
    /// # Errors
    /// When it may not, or when that cannot be decided.
    pub async fn check(&mut self) -> Result<(), ApiError> {
        let in_force = self.in_force.get();
        let now = self.admission.clock.now();
        let ended = self.permit.ends().is_some_and(|ends| ends <= now);
        if self.seen == in_force.generation && !ended {
            return Ok(());
        }
        // After a reload the permit is made anew: what it rests on may end at an instant that was not set before.
        let reloaded = self.seen != in_force.generation;
        if reloaded || !in_force.judge.holds(&self.permit, now) {
            let (repository, digest) = (self.permit.repository().clone(), self.permit.digest().clone());
            (self.permit, _) = self.admission.permit_now(&repository, &digest, self.admission.patience()).await?;
        }
        self.seen = in_force.generation;
        Ok(())
    }

    /// Returns when the permit has to be looked at again.
    pub async fn disturbed(&mut self) {
        let left = self.permit.ends().map(|ends| ends.since(self.admission.clock.now()).unwrap_or_default());
        let reloaded = self.in_force.until(|in_force| in_force.generation != self.seen);
        match left {
            Some(left) => {
                let _ = tokio::time::timeout(left, reloaded).await;
            }
            None => {
                reloaded.await;
            }
        }
    }
}
