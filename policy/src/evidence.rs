//! What upstream offers for a digest, before anybody judged it.
//!
//! Nothing in here is believed: not the annotations, not the media types, not that a piece speaks about the digest it was found
//! under.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use oci::{Addressed, Digest, Repository};
use serde::{Deserialize, Serialize};

/// What is to be looked at before an image can be judged; empty where policy decides without evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The places to ask. Places that nobody wants asked are not asked: a large attestation that no policy reads costs nothing.
    pub origins: BTreeSet<Origin>,
    /// A policy looks at the image's config, of an index at its children's.
    pub configs: bool,
}

impl Wanted {
    /// Whether evidence makes no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty() && !self.configs
    }
}

/// The union of all that upstream offers for one digest. No piece hides another; a piece that is no good spoils nothing.
#[derive(Debug, Clone, Default)]
pub struct UntrustedEvidence {
    /// What was found, in any order.
    pub pieces: Vec<UntrustedPiece>,
    /// The places that answered.
    pub asked: Vec<Origin>,
    /// The places that could not be asked. Never counted as empty.
    pub unasked: Vec<Unasked>,
    /// Pieces that were there and could not be read, one clause each. Told in refusals.
    pub flawed: Vec<String>,
    /// The configs of the image, of an index those of its children; where [`Wanted::configs`] asks for them.
    pub configs: UntrustedConfigs,
}

/// The configs of an image or of an index's children: hashed, not judged.
#[derive(Debug, Clone, Default)]
pub enum UntrustedConfigs {
    /// Nobody asked for them, or they could not be had.
    #[default]
    Unasked,
    /// All of them, by the digest of the manifest that names each.
    Asked(Vec<Addressed>),
    /// They are there and cannot be read: one clause.
    Flawed(String),
}

/// One piece of evidence.
#[derive(Debug, Clone)]
pub struct UntrustedPiece {
    /// The layer's bytes.
    pub bytes: Addressed,
    /// What it claims to be.
    pub form: Form,
    /// Where it was found.
    pub origin: Origin,
}

/// What a piece of evidence claims to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// A layer of cosign's legacy `.sig`: a simple signing payload, everything else in the layer's annotations.
    CosignSignature {
        /// The layer's annotations.
        annotations: BTreeMap<String, String>,
    },
    /// A layer of cosign's legacy `.att`: a DSSE envelope, what vouches for it in the layer's annotations.
    CosignAttestation {
        /// The layer's annotations.
        annotations: BTreeMap<String, String>,
    },
    /// A Sigstore bundle.
    Bundle,
}

impl Form {
    /// Names one piece of evidence: signatures over one image may have the same bytes, and differ in their annotations only.
    #[must_use]
    pub fn piece(&self, bytes: &Digest) -> Digest {
        let (kind, annotations) = match self {
            Self::CosignSignature { annotations } => ("signature", Some(annotations)),
            Self::CosignAttestation { annotations } => ("attestation", Some(annotations)),
            Self::Bundle => ("bundle", None),
        };
        let mut named = format!("{kind} {bytes}");
        // Each with its length: none can be taken for the end of another.
        for (key, value) in annotations.into_iter().flatten() {
            let _ = write!(named, "\n{} {key} {} {value}", key.len(), value.len());
        }
        Digest::sha256(named.as_bytes())
    }
}

/// Where evidence lies: what kind of place, and where that is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The kind of place.
    pub source: Source,
    /// Where cosign's tags are; referrers are always beside the image.
    #[serde(default, skip_serializing_if = "Location::is_beside")]
    pub location: Location,
}

impl Origin {
    /// A place in the image's own repository.
    #[must_use]
    pub fn beside(source: Source) -> Self {
        Self { source, location: Location::default() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.source, self.location)
    }
}

/// Where cosign's tags are looked up: `source` of an authority. By default beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Another repository than the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// What stands before `sha256-<hex>` in the tag.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag_prefix: String,
}

impl Location {
    /// Whether it is the image's own repository, without a prefix.
    #[must_use]
    pub fn is_beside(&self) -> bool {
        self.repository.is_none() && self.tag_prefix.is_empty()
    }
}

/// Empty where it is beside the image.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(repository) = &self.repository {
            write!(f, " in {repository}")?;
        }
        if !self.tag_prefix.is_empty() {
            write!(f, " with prefix \"{}\"", self.tag_prefix)?;
        }
        Ok(())
    }
}

/// A kind of place that evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The tag `sha256-<hex>.sig`.
    CosignTag,
    /// The tag `sha256-<hex>.att`.
    CosignAttestationTag,
    /// The referrers API.
    ReferrersApi,
    /// The referrers tag schema, `sha256-<hex>`.
    ReferrersTag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CosignTag => "cosign tag",
            Self::CosignAttestationTag => "cosign attestation tag",
            Self::ReferrersApi => "referrers API",
            Self::ReferrersTag => "referrers tag",
        })
    }
}

/// A place that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unasked {
    /// Which place.
    pub origin: Origin,
    /// Why not: one clause, no upstream text.
    pub why: String,
}

/// The digest of a piece's bytes: how records and refusals name it.
impl UntrustedPiece {
    /// Of its bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.bytes.digest()
    }
}
