//! Admissions that are in memory: of images that were looked up before, for as long as they count.

use std::sync::Arc;

use oci::{Digest, Repository};
use policy::{Admitted, Kept, Manifest};

use super::{Admission, Effort};
use crate::{
    app::InForce,
    memory::{Memory, Moment},
};

/// The part of the memory for answers that is for knowing which manifest reaches a blob: a sixteenth.
const PARENTS_SHARE: u64 = 16;

/// What is kept of looks that ended well.
pub(super) struct Looks {
    images: Memory<Digest, Kept>,
    /// From a blob to a manifest that reached it once. Says only where to look first: the permit is made from that manifest.
    parents: Memory<Digest, Digest>,
}

impl Looks {
    /// Room for `bytes_max` bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let parents = bytes_max / PARENTS_SHARE;
        Self { images: Memory::new(bytes_max - parents), parents: Memory::new(parents) }
    }

    /// To be asked before a look.
    pub(super) fn moment(&self) -> Moment {
        self.images.moment()
    }
}

impl Admission {
    /// The admission of an image that is in memory, checked anew: repository, digest, what is in force, its end. No lock, no read from
    /// the store, no hash: the bytes were hashed when they came in. `None` says nothing: [`Admission::manifest`] decides.
    #[must_use]
    pub fn recalled(
        &self,
        in_force: &InForce,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<Arc<Admitted<Manifest>>> {
        let kept = self.looks.images.recall(repository, digest)?;
        in_force.judge.admits_still(&kept.value, repository, digest, self.clock.now()).cloned()
    }

    /// Keeps what a look from that moment on has found, and plans its renewal: who is answered from memory does not.
    ///
    /// What was looked for to renew it is not kept: who asks next keeps it, and plans the next renewal. Where nobody does there is none.
    pub(super) fn keep(&self, in_force: &InForce, admitted: &Arc<Admitted<Manifest>>, since: Moment, effort: Effort) {
        if matches!(effort, Effort::Beyond(_)) {
            return;
        }
        self.plan_renewal(in_force, admitted);
        let Some(kept) = in_force.judge.keep(admitted, self.clock.now()) else { return };
        let (bytes, rests_on) = (kept.held_bytes(), kept.rests_on().cloned().collect::<Vec<_>>());
        let name = (admitted.repository(), admitted.digest());
        self.looks.images.keep(name, kept, (since, rests_on.into_iter()), bytes);
    }

    /// From now on nothing is answered from memory that rests on this manifest: what is asked of it is looked up again. To be called after
    /// a manifest, its verdict or its edges were taken out of the store.
    pub fn forget(&self, digest: &Digest) {
        self.looks.images.forget(digest);
    }

    /// A manifest that has permitted this blob before.
    pub(super) fn parent_of(&self, repository: &Repository, blob: &Digest) -> Option<Digest> {
        self.looks.parents.recall(repository, blob).map(|found| found.value.clone())
    }

    /// Remembers where to look first.
    pub(super) fn keep_parent(&self, repository: &Repository, blob: &Digest, parent: &Digest) {
        let (nothing, moment) = (std::iter::empty::<Digest>(), self.looks.parents.moment());
        self.looks.parents.keep((repository, blob), parent.clone(), (moment, nothing), 0);
    }
}
