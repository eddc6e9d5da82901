//! What a pass has done.

use std::collections::HashSet;

use oci::{Digest, Repository};

use crate::{Amount, ContentClass, Usage};

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
    /// A layer; the image it left with is still known.
    Layer {
        /// The image.
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
    pub(super) fn left(&mut self, what: Left, bytes: u64) {
        self.layers.add(bytes);
        self.what.push(what);
    }

    pub(super) fn amount(&mut self, class: ContentClass) -> &mut Amount {
        match class {
            ContentClass::Layer => &mut self.layers,
            ContentClass::Metadata => &mut self.metadata,
        }
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
