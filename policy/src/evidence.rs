//! What upstream offers for a digest, before anybody judged it.
//!
//! Nothing in here is believed: not the annotations, not the media types, not that a piece speaks about the digest it was found
//! under.

use std::{collections::BTreeMap, fmt};

use oci::Addressed;
use serde::{Deserialize, Serialize};

/// The union of all that upstream offers for one digest. No piece hides another; a piece that is no good spoils nothing.
#[derive(Debug, Clone, Default)]
pub struct UntrustedEvidence {
    /// What was found, in any order.
    pub pieces: Vec<UntrustedPiece>,
    /// The places that answered.
    pub asked: Vec<Source>,
    /// The places that could not be asked. Never counted as empty.
    pub unasked: Vec<Unasked>,
    /// Pieces that were there and could not be read, one clause each. Told in refusals.
    pub flawed: Vec<String>,
}

/// One piece of evidence that could be a signature.
#[derive(Debug, Clone)]
pub enum UntrustedPiece {
    /// A layer of cosign's legacy layout: a simple signing payload, everything else in the layer's annotations.
    CosignSignature {
        /// The layer's bytes.
        payload: Addressed,
        /// The layer's annotations.
        annotations: BTreeMap<String, String>,
        /// Where it was found.
        source: Source,
    },
    /// A Sigstore bundle.
    Bundle {
        /// The layer's bytes.
        bytes: Addressed,
        /// Where it was found.
        source: Source,
    },
}

impl UntrustedPiece {
    /// Where it was found.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::CosignSignature { source, .. } | Self::Bundle { source, .. } => *source,
        }
    }
}

/// A kind of place that evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The tag `sha256-<hex>.sig`.
    CosignTag,
    /// The referrers API.
    ReferrersApi,
    /// The referrers tag schema, `sha256-<hex>`.
    ReferrersTag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CosignTag => "cosign tag",
            Self::ReferrersApi => "referrers API",
            Self::ReferrersTag => "referrers tag",
        })
    }
}

/// A place that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unasked {
    /// Which place.
    pub source: Source,
    /// Why not: one clause, no upstream text.
    pub why: String,
}
