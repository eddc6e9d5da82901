//! What may be served as evidence: signatures and attestations of an admitted image, byte for byte, and nothing that could run.
//!
//! The types that a manifest states prove nothing: cosign's own signatures carry an image config, and podman looks at nothing
//! else. What counts is that every layer is the JSON its type claims.

use std::fmt;

use oci::{Addressed, Descriptor, Digest, ManifestKind, MediaType, Tag, UntrustedManifest, json};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

/// Deepest nesting of a layer. Software bills of materials nest a dozen deep.
const JSON_DEPTH_MAX: usize = 64;
/// Longest config in bytes. Cosign writes an image config of some hundred.
const CONFIG_BYTES_MAX: usize = 64 << 10;
/// What follows `sha256-<hex>.` in cosign's tags.
const TAG_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// How a manifest of evidence was found to belong to its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceLink {
    /// By this tag; it must be one of cosign's for the subject.
    Tag(Tag),
    /// By its own `subject` field.
    Subject,
}

/// Why a manifest is not served as evidence. It is then judged like any other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEvidence {
    /// The subject's admission has ended, or is not in force any more.
    #[error("the subject is not admitted any more")]
    SubjectEnded,
    /// It belongs to another image, or to none.
    #[error("the manifest does not belong to subject {subject}")]
    OtherSubject {
        /// The subject it was asked for.
        subject: Digest,
    },
    /// An index is never evidence.
    #[error("the manifest is an index")]
    Index,
    /// Nothing in it.
    #[error("the manifest has no layer")]
    NoLayer,
    /// A layer of a type that is not on the configured list.
    #[error("layer {digest} has media type \"{}\", which is not served as evidence", media_type.escape_default())]
    MediaType {
        /// Of the layer.
        digest: Digest,
        /// Of the layer.
        media_type: String,
    },
    /// A blob was not handed over whole.
    #[error("blob {digest} was not read, or does not have the size that its manifest says")]
    Unread {
        /// Of the blob.
        digest: Digest,
    },
    /// A blob is not what its type claims.
    #[error("blob {digest} is not {what}")]
    Disguised {
        /// Of the blob.
        digest: Digest,
        /// What it should be.
        what: &'static str,
    },
}

/// Whether `manifest` is evidence about `subject`:
///
/// 1. it is a single image manifest with at least one layer;
/// 2. it belongs to the subject: by its `subject` field, which must not name another, or by cosign's tag;
/// 3. its config is a small JSON object;
/// 4. every layer has a type on the list and is the JSON which that type claims;
/// 5. no blob could be read as an archive besides.
pub(crate) fn check(
    subject: &Digest,
    manifest: &UntrustedManifest,
    link: &EvidenceLink,
    blobs: &[Addressed],
    media_types: &[String],
) -> Result<(), NotEvidence> {
    // 1.
    let ManifestKind::Image { config, layers } = manifest.kind() else {
        return Err(NotEvidence::Index);
    };
    if layers.is_empty() {
        return Err(NotEvidence::NoLayer);
    }
    // 2.
    if !belongs(subject, manifest.subject(), link) {
        return Err(NotEvidence::OtherSubject { subject: subject.clone() });
    }
    // 3. and 5.
    let bytes = find(config, blobs)?;
    if bytes.len() > CONFIG_BYTES_MAX || !is_object(bytes) || could_be_archive(bytes) {
        return Err(NotEvidence::Disguised { digest: config.digest.clone(), what: "a small JSON object" });
    }
    // 4. and 5.
    layers.iter().try_for_each(|layer| check_layer(layer, find(layer, blobs)?, media_types))
}

fn belongs(subject: &Digest, named: Option<&Descriptor>, link: &EvidenceLink) -> bool {
    let names_it = named.map(|descriptor| &descriptor.digest == subject);
    match link {
        EvidenceLink::Subject => names_it == Some(true),
        EvidenceLink::Tag(tag) => {
            let stem = format!("{}-{}.", subject.algorithm(), subject.hex());
            let suffix = tag.as_str().strip_prefix(&stem);
            names_it != Some(false) && suffix.is_some_and(|suffix| TAG_SUFFIXES.contains(&suffix))
        }
    }
}

fn find<'a>(descriptor: &Descriptor, blobs: &'a [Addressed]) -> Result<&'a [u8], NotEvidence> {
    blobs
        .iter()
        .find(|blob| blob.digest() == &descriptor.digest && blob.bytes().len() as u64 == descriptor.size)
        .map(|blob| blob.bytes().as_ref())
        .ok_or_else(|| NotEvidence::Unread { digest: descriptor.digest.clone() })
}

fn check_layer(layer: &Descriptor, bytes: &[u8], media_types: &[String]) -> Result<(), NotEvidence> {
    let media_type = layer.media_type.as_str();
    let form =
        media_types.iter().any(|listed| listed == media_type).then(|| Form::of(media_type)).flatten().ok_or_else(
            || NotEvidence::MediaType { digest: layer.digest.clone(), media_type: media_type.to_owned() },
        )?;
    if form.is(bytes) && !could_be_archive(bytes) {
        Ok(())
    } else {
        Err(NotEvidence::Disguised { digest: layer.digest.clone(), what: form.name() })
    }
}

/// The forms of evidence that are known by sight. A type on the configured list that is none of these is not served.
#[derive(Debug, Clone, Copy)]
enum Form {
    SimpleSigning,
    Dsse,
    Bundle,
    InToto,
    Spdx,
    CycloneDx,
}

/// The members by which the forms are told apart; everything else is skipped without being kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marks {
    critical: Option<Critical>,
    payload_type: Option<String>,
    payload: Option<String>,
    signatures: Option<Vec<IgnoredAny>>,
    media_type: Option<String>,
    verification_material: Option<Object>,
    dsse_envelope: Option<Object>,
    message_signature: Option<Object>,
    #[serde(rename = "_type")]
    kind: Option<String>,
    predicate_type: Option<String>,
    spdx_version: Option<String>,
    #[serde(rename = "@context")]
    context: Option<IgnoredAny>,
    #[serde(rename = "@graph")]
    graph: Option<Vec<IgnoredAny>>,
    bom_format: Option<String>,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(rename = "image")]
    _image: Object,
}

/// Some JSON object, skipped without being kept.
struct Object;

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

impl Form {
    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            MediaType::SIMPLE_SIGNING => Self::SimpleSigning,
            MediaType::DSSE => Self::Dsse,
            "application/vnd.in-toto+json" => Self::InToto,
            "application/spdx+json" | "text/spdx+json" => Self::Spdx,
            "application/vnd.cyclonedx+json" => Self::CycloneDx,
            bundle if bundle.starts_with(MediaType::SIGSTORE_BUNDLE_PREFIX) && bundle.ends_with("+json") => {
                Self::Bundle
            }
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::SimpleSigning => "a simple signing payload",
            Self::Dsse => "a DSSE envelope",
            Self::Bundle => "a Sigstore bundle",
            Self::InToto => "an in-toto statement",
            Self::Spdx => "an SPDX document",
            Self::CycloneDx => "a CycloneDX document",
        }
    }

    fn is(self, bytes: &[u8]) -> bool {
        let Ok(marks) = json::parse::<Marks>(bytes, JSON_DEPTH_MAX) else {
            return false;
        };
        let dsse = marks.payload_type.is_some() && marks.payload.is_some() && marks.signatures.is_some();
        match self {
            Self::SimpleSigning => marks.critical.is_some(),
            Self::Dsse => dsse,
            Self::Bundle => {
                let typed = marks.media_type.is_some_and(|text| text.starts_with(MediaType::SIGSTORE_BUNDLE_PREFIX));
                let signed = marks.dsse_envelope.is_some() != marks.message_signature.is_some();
                typed && signed && marks.verification_material.is_some()
            }
            // Cosign stores envelopes under the statement's type.
            Self::InToto => dsse || (marks.kind.is_some() && marks.predicate_type.is_some()),
            Self::Spdx => marks.spdx_version.is_some() || (marks.context.is_some() && marks.graph.is_some()),
            Self::CycloneDx => marks.bom_format.as_deref() == Some("CycloneDX"),
        }
    }
}

fn is_object(bytes: &[u8]) -> bool {
    json::parse::<Object>(bytes, JSON_DEPTH_MAX).is_ok()
}

/// Whether the first block is the header of a tar archive of the oldest kind, which has neither a mark nor a zero byte that JSON
/// could not have: its checksum agrees.
fn could_be_archive(bytes: &[u8]) -> bool {
    const BLOCK: usize = 512;
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let (Some(header), Some(field)) = (bytes.get(..BLOCK), bytes.get(CHECKSUM)) else {
        return false;
    };
    let Ok(field) = std::str::from_utf8(field) else {
        return false;
    };
    let Ok(stated) = i64::from_str_radix(field.trim_matches([' ', '\0']), 8) else {
        return false;
    };
    // The field itself counts as spaces; old writers took bytes as signed.
    let sum = |value: fn(u8) -> i64| -> i64 {
        header.iter().enumerate().map(|(at, byte)| value(if CHECKSUM.contains(&at) { b' ' } else { *byte })).sum()
    };
    stated == sum(i64::from) || stated == sum(|byte| i64::from(byte.cast_signed()))
}
