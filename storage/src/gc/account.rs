//! What a pass has done.

use std::collections::HashSet;

use oci::{Digest, Repository};

use crate::{Amount, Usage};

/// How much has left, or would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Layers.
    pub layers: Amount,
    /// Manifests, configs and evidence.
    pub metadata: Amount,
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

/// What a comparison of facts and directory has found.
#[derive(Debug, Default)]
pub struct Account {
    /// Blobs that are there.
    pub blobs: u64,
    /// Of these, how many were not written down and now are.
    pub added: u64,
    /// How many were written down and are not there.
    pub struck_off: u64,
    /// Blobs that no manifest reaches, as far as they were noted: after the facts were lost that is every blob there is.
    pub unreached: HashSet<Digest>,
    /// There are more of these than were noted.
    pub has_more: bool,
}
