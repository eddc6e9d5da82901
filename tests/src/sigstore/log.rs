//! A transparency log like Rekor v1: entries, the promise to log them (SET), and the proof that they are in the tree.

use std::sync::{Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    key::{Key, KeyKind},
    merkle::{self, Hash},
};

/// Entries of older trees are counted too, so that an entry's index is not its place in this tree.
const INDEX_OFFSET: u64 = 14_000_000;
const NAME: &str = "rekor.sigstore.test";
const TREE: &str = "rekor.sigstore.test - 1193050959916656506";
/// What was in the tree before anything was signed.
const FIRST_ENTRIES: u8 = 5;

pub(super) struct Log {
    pub(super) key: Key,
    leaves: Mutex<Vec<Hash>>,
}

/// An entry as the log answers it. The fields are what a flaw changes afterwards.
pub(super) struct Entry {
    pub(super) body: Vec<u8>,
    /// Seconds since 1970.
    pub(super) integrated_time: u64,
    pub(super) index: u64,
    pub(super) log_id: [u8; 32],
    pub(super) set: Vec<u8>,
    pub(super) proof: Proof,
}

pub(super) struct Proof {
    pub(super) index: usize,
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
    pub(super) fn new() -> Self {
        let leaves = (0..FIRST_ENTRIES).map(|n| merkle::leaf(&[n])).collect();
        Self { key: Key::generate(KeyKind::P256), leaves: Mutex::new(leaves) }
    }

    /// Takes a body in at `at` (seconds since 1970) and answers with all that it has to say about it.
    pub(super) fn append(&self, body: Vec<u8>, at: u64) -> Entry {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        let position = leaves.len();
        leaves.push(merkle::leaf(&body));
        let root = merkle::root(&leaves);
        let index = INDEX_OFFSET + position as u64;
        let log_id = self.key.id();
        let proof = Proof {
            index: position,
            size: leaves.len(),
            root,
            path: merkle::path(position, &leaves),
            checkpoint: self.checkpoint(leaves.len(), root, log_id),
        };
        Entry { set: self.promise(&body, at, log_id, index), body, integrated_time: at, index, log_id, proof }
    }

    /// A SET. `id` is this log's own unless it pretends to be another.
    pub(super) fn promise(&self, body: &[u8], at: u64, id: [u8; 32], index: u64) -> Vec<u8> {
        let promise = Promise { body: &STANDARD.encode(body), integrated_time: at, log_id: hex::encode(id), index };
        let promise = serde_json::to_vec(&promise).expect("texts and numbers are JSON");
        self.key.sign(&promise)
    }

    /// A signed note about the tree. `id` is this log's own unless it pretends to be another.
    pub(super) fn checkpoint(&self, size: usize, root: Hash, id: [u8; 32]) -> String {
        let text = format!("{TREE}\n{size}\n{}\n", STANDARD.encode(root));
        let [a, b, c, d, ..] = id;
        let mut signature = vec![a, b, c, d];
        signature.extend(self.key.sign(text.as_bytes()));
        format!("{text}\n\u{2014} {NAME} {}\n", STANDARD.encode(signature))
    }
}
