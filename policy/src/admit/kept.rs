//! An admission kept in memory, so that the next answer need not look it up again.

use std::sync::Arc;

use oci::{Digest, Repository, UnixTime};

use super::{Admitted, Judge, Manifest, admitted::Grounds};
use crate::record::PolicyFinding;

/// Which judge. Two of them are never the same one, whatever they judge by; the mark is held for as long as anything refers to it, so that
/// none is given twice.
#[derive(Clone, Default)]
pub(super) struct Mark(Arc<()>);

impl Mark {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// An admission that a judge saw to count, and which judge that was. It says nothing until that judge is asked again:
/// [`Judge::admits_still`].
pub struct Kept {
    admitted: Arc<Admitted<Manifest>>,
    by: Mark,
    at: UnixTime,
}

impl Kept {
    /// The manifests that it rests on: its own, and the indexes it was reached through. Whoever loses one of them loses this.
    pub fn rests_on(&self) -> impl Iterator<Item = &Digest> {
        self.admitted.path().iter().chain([self.admitted.digest()])
    }

    /// About how much memory it holds, in bytes; more rather than less.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let manifest = self.admitted.value().manifest();
        // The bytes as published, and the same again, twice, for what was parsed of them: texts as long as they are, and their places.
        let document = manifest.addressed().bytes().len().saturating_mul(3);
        let pointers = manifest.points_at().count().saturating_mul(POINTER_BYTES);
        let grounds = held_bytes(self.admitted.grounds());
        document.saturating_add(pointers).saturating_add(grounds)
    }
}

/// Of one descriptor besides its texts, in bytes.
const POINTER_BYTES: usize = 256;
/// Of grounds, of a finding and of a place besides their texts, in bytes.
const PLACES_BYTES: usize = 512;

/// About how much memory grounds and what they rest on hold, in bytes.
fn held_bytes(grounds: &Grounds) -> usize {
    // As text, and as much again for the places of the texts.
    let of = |finding: &PolicyFinding| serde_json::to_vec(finding).map_or(0, |text| 2 * text.len()) + PLACES_BYTES;
    let findings: usize = grounds.findings.iter().map(of).sum();
    let warning = grounds.warning.as_ref().map_or(0, String::len);
    let path = grounds.path.len() * PLACES_BYTES;
    let index = grounds.index.as_deref().map_or(0, held_bytes);
    PLACES_BYTES + findings + warning + path + index + grounds.guards.held_bytes()
}

impl Judge {
    /// Keeps an admission. `None` where it does not count now: it may have been made under what is in force no more.
    #[must_use]
    pub fn keep(&self, admitted: &Arc<Admitted<Manifest>>, now: UnixTime) -> Option<Kept> {
        self.in_force(admitted, now).then(|| Kept { admitted: Arc::clone(admitted), by: self.mark.clone(), at: now })
    }

    /// The admission that was kept, where it counts:
    ///
    /// 1. it is about this repository and this digest;
    /// 2. this very judge saw it to be made under what he judges by. A judge never changes, so neither has the fingerprint;
    /// 3. it was not kept in the future and has not ended, and the trust root is as usable as what was found takes for granted.
    #[must_use]
    pub fn admits_still<'a>(
        &self,
        kept: &'a Kept,
        repository: &Repository,
        digest: &Digest,
        now: UnixTime,
    ) -> Option<&'a Arc<Admitted<Manifest>>> {
        let admitted = &kept.admitted;
        let counts = admitted.repository() == repository // 1.
            && admitted.digest() == digest
            && kept.by.is(&self.mark) // 2.
            && kept.at <= now // 3.
            && self.lasts(admitted.grounds(), now);
        counts.then_some(admitted)
    }
}
