//! Evidence that was looked at as content, so that it need not be read again for every request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use oci::{Digest, Repository};
use policy::{Admitted, EvidenceManifest};

/// Manifests of evidence remembered at one time.
const SEEN_MAX: usize = 1024;
/// A larger manifest is looked at each time.
const BYTES_MAX: usize = 64 * 1024;

/// What was found to be evidence of an admitted subject: byte for byte what its manifest claims, which does not change. Whether it may
/// be served does: the admission says under what it was made, and whoever asks compares that with what is in force.
#[derive(Default)]
pub(super) struct Seen {
    manifests: Mutex<HashMap<Key, Known>>,
}

/// Repository, subject, manifest.
type Key = (Repository, Digest, Digest);

struct Known {
    /// Under which configuration; the list of media types is part of it.
    generation: u64,
    evidence: Arc<Admitted<EvidenceManifest>>,
}

impl Seen {
    /// The evidence under this key, where it was looked at under this generation.
    pub(super) fn get(&self, key: &Key, generation: u64) -> Option<Arc<Admitted<EvidenceManifest>>> {
        let manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        let known = manifests.get(key).filter(|known| known.generation == generation)?;
        Some(Arc::clone(&known.evidence))
    }

    /// Remembers it, unless it is too large.
    pub(super) fn put(&self, key: Key, generation: u64, evidence: &Arc<Admitted<EvidenceManifest>>) {
        if evidence.value().manifest().addressed().bytes().len() > BYTES_MAX {
            return;
        }
        let mut manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        if manifests.len() >= SEEN_MAX {
            // Each costs one look to know again.
            manifests.clear();
        }
        manifests.insert(key, Known { generation, evidence: Arc::clone(evidence) });
    }
}
