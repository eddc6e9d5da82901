//! What a pass has done.

use std::collections::HashSet;

use oci::{Digest, Repository};

use crate::{Amount, Usage};

/// What has left, or would.
#[derive(Debug, Default)]
pub struct Freed {
    /// Layers.
    pub layers: Amount,
    /// Manifests, configs and evidence.
    pub metadata: Amount,
    /// Piece by piece.
    pub what: Vec<Left>,
}

/// One thing that has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// A layer. The image stays known, unless it is among those that have left.
    Layer {
        /// The image it left with.
        image: Usage,
        /// The layer.
        digest: Digest,
    },
    /// A manifest, with verdicts, edges, and the blobs that nobody else needs.
    Image {
        /// The repository it was in.
        repository: Repository,
        /// The manifest.
        digest: Digest,
    },
}

impl Freed {
    /// A layer of `bytes` bytes.
    pub(super) fn layer(&mut self, image: Usage, digest: Digest, bytes: u64) {
        self.layers.add(bytes);
        self.what.push(Left::Layer { image, digest });
    }
}

/// What a comparison of facts and directory has found.
#[derive(Debug, Default)]
pub struct Account {
    /// Blobs that are there.
    pub blobs: u64,
    /// Of these, how many were not written down and now are.
    pub added: u64,
    /// How many were written down and are not there.
    pub struck_off: u64,
    /// Blobs that no manifest reaches.
    pub unreached: HashSet<Digest>,
}
