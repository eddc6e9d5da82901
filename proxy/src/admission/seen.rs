//! Evidence that was looked at as content, so that it need not be read again for every request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use oci::{Digest, Repository};
use policy::{Admitted, EvidenceManifest};

/// All manifests of evidence remembered at one time, in bytes: they keep their room (`manifest_room.rs`) meanwhile.
const SEEN_BYTES_MAX: usize = 4 << 20;
/// A larger manifest is looked at each time.
const BYTES_MAX: usize = 64 * 1024;

/// What was found to be evidence of an admitted subject: byte for byte what its manifest claims, which does not change. Whether it may
/// be served does: the admission says under what it was made, and whoever asks compares that with what is in force.
#[derive(Default)]
pub(super) struct Seen {
    known: Mutex<Manifests>,
}

#[derive(Default)]
struct Manifests {
    by_key: HashMap<Key, Known>,
    bytes: usize,
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
        let manifests = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = manifests.by_key.get(key).filter(|known| known.generation == generation)?;
        Some(Arc::clone(&known.evidence))
    }

    /// Remembers it, unless it is too large.
    pub(super) fn put(&self, key: Key, generation: u64, evidence: &Arc<Admitted<EvidenceManifest>>) {
        let bytes_of = |known: &Known| known.evidence.value().manifest().addressed().bytes().len();
        let known = Known { generation, evidence: Arc::clone(evidence) };
        let bytes = bytes_of(&known);
        if bytes > BYTES_MAX {
            return;
        }
        let mut manifests = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if manifests.bytes + bytes > SEEN_BYTES_MAX {
            // Each costs one look to know again.
            *manifests = Manifests::default();
        }
        manifests.bytes += bytes;
        if let Some(former) = manifests.by_key.insert(key, known) {
            manifests.bytes -= bytes_of(&former);
        }
    }
}
