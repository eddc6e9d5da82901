//! Transparency logs: Rekor v1 with promises to log entries (SET), Rekor v2 without, both with proofs that entries are in the tree.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    key::{Key, KeyKind, Keys},
    merkle::{Hash, Tree},
};

/// Entries of older trees are counted by Rekor v1 too, so that an entry's index is not its place in this tree.
const INDEX_OFFSET: u64 = 14_000_000;
/// What was in the tree before anything was signed.
const FIRST_ENTRIES: u8 = 5;
/// Length of an Ed25519 key without what surrounds it in DER.
const ED25519_BYTES: usize = 32;

/// Which Rekor it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Generation {
    V1,
    V2,
}

pub(super) struct Log {
    pub(super) key: Key,
    pub(super) generation: Generation,
    tree: Mutex<Tree>,
}

/// An entry as the log answers it. The fields are what a flaw changes afterwards.
pub(super) struct Entry {
    pub(super) body: Vec<u8>,
    /// Seconds since 1970; version 2 gives none.
    pub(super) integrated_time: Option<u64>,
    pub(super) index: u64,
    pub(super) log_id: [u8; 32],
    /// Empty from version 2.
    pub(super) set: Vec<u8>,
    pub(super) proof: Proof,
}

pub(super) struct Proof {
    pub(super) index: u64,
    pub(super) size: usize,
    pub(super) root: Hash,
    pub(super) path: Vec<Hash>,
    pub(super) checkpoint: String,
}

/// What a SET is over. Canonical JSON: the fields are in the order of their names.
#[derive(Serialize)]
struct Promise<'a> {
    body: &'a str,
    #[serde(rename = "integratedTime")]
    integrated_time: u64,
    #[serde(rename = "logID")]
    log_id: String,
    #[serde(rename = "logIndex")]
    index: u64,
}

impl Log {
    pub(super) fn new(generation: Generation, keys: &Keys) -> Self {
        let kind = match generation {
            Generation::V1 => KeyKind::P256,
            Generation::V2 => KeyKind::Ed25519,
        };
        let mut tree = Tree::default();
        (0..FIRST_ENTRIES).for_each(|number| tree.push(&[number]));
        Self { key: keys.key(kind), generation, tree: Mutex::new(tree) }
    }

    /// Where it is, and the name by which it signs.
    pub(super) fn name(&self) -> &'static str {
        match self.generation {
            Generation::V1 => "rekor.sigstore.test",
            Generation::V2 => "log2025-1.rekor.sigstore.test",
        }
    }

    /// By what the trust root and entries name it: of version 1 the hash of its key, of version 2 the key's identity in signed notes.
    pub(super) fn id(&self) -> [u8; 32] {
        match self.generation {
            Generation::V1 => self.key.id(),
            Generation::V2 => {
                let der = self.key.public_der();
                let raw = der.iter().skip(der.len() - ED25519_BYTES).copied().collect::<Vec<_>>();
                let name = Sha256::new().chain_update(self.name()).chain_update("\n\u{1}");
                name.chain_update(raw).finalize().into()
            }
        }
    }

    /// Takes a body in at `at` (seconds since 1970) and answers with all that it has to say about it.
    pub(super) fn append(&self, body: Vec<u8>, at: u64) -> Entry {
        let mut tree = self.tree();
        let position = tree.size();
        tree.push(&body);
        let size = tree.size();
        let (root, path) = (tree.root(size), tree.path(position, size));
        let (place, id) = (position as u64, self.id());
        let proof = Proof { index: place, size, root, path, checkpoint: self.checkpoint(size, root, id) };
        let (index, integrated_time, set) = match self.generation {
            Generation::V1 => {
                let index = INDEX_OFFSET + place;
                (index, Some(at), self.promise(&body, at, id, index))
            }
            Generation::V2 => (place, None, Vec::new()),
        };
        Entry { body, integrated_time, index, log_id: id, set, proof }
    }

    /// A SET. `id` is this log's own unless it pretends to be another.
    pub(super) fn promise(&self, body: &[u8], at: u64, id: [u8; 32], index: u64) -> Vec<u8> {
        let promise = Promise { body: &STANDARD.encode(body), integrated_time: at, log_id: hex::encode(id), index };
        let promise = serde_json::to_vec(&promise).expect("texts and numbers are JSON");
        self.key.sign(&promise)
    }

    /// A signed note about the tree. `id` is this log's own unless it pretends to be another.
    pub(super) fn checkpoint(&self, size: usize, root: Hash, id: [u8; 32]) -> String {
        let tree = match self.generation {
            Generation::V1 => " - 1193050959916656506",
            Generation::V2 => "",
        };
        let name = self.name();
        let text = format!("{name}{tree}\n{size}\n{}\n", STANDARD.encode(root));
        let [a, b, c, d, ..] = id;
        let mut signature = vec![a, b, c, d];
        signature.extend(self.key.sign(text.as_bytes()));
        format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signature))
    }

    /// The note about the tree as it was when its last entry was not in it yet.
    pub(super) fn older_checkpoint(&self, size: usize) -> String {
        let root = self.tree().root(size - 1);
        self.checkpoint(size - 1, root, self.id())
    }

    /// The way from the entry at `index` to the root of the tree of that size.
    pub(super) fn path(&self, index: usize, size: usize) -> Vec<Hash> {
        self.tree().path(index, size)
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
