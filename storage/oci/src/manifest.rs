//! Manifests: parsed to be judged, never written again.

use std::collections::BTreeMap;

use oci_spec::image::{ImageIndex, ImageManifest};
use serde_json::Value;

use crate::{Addressed, Descriptor, Digest, MediaType, NameError, json};

/// What a manifest from outside may hold at most.
#[derive(Debug, Clone, Copy)]
pub struct ManifestLimits {
    /// Layers of an image.
    pub layers_max: usize,
    /// Children of an index.
    pub manifests_max: usize,
    /// Nesting of the JSON document.
    pub json_depth_max: usize,
}

/// A manifest whose bytes match their digest and which can be read in one way only. Nobody has judged it.
#[derive(Debug, Clone)]
pub struct UntrustedManifest {
    addressed: Addressed,
    media_type: MediaType,
    kind: ManifestKind,
    subject: Option<Descriptor>,
    artifact_type: Option<MediaType>,
    annotations: BTreeMap<String, String>,
}

/// The two shapes of manifest.
#[derive(Debug, Clone)]
pub enum ManifestKind {
    /// An image or another artifact: one config, any number of layers.
    Image {
        /// The configuration blob.
        config: Descriptor,
        /// The layer blobs, in order.
        layers: Vec<Descriptor>,
    },
    /// An index (manifest list): children by digest.
    Index {
        /// The children.
        manifests: Vec<Descriptor>,
    },
}

/// Why bytes are not taken as a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not JSON, or JSON that two parsers may read differently.
    #[error("manifest {digest} cannot be read")]
    Json {
        /// Of the bytes.
        digest: Digest,
        /// What is wrong, and where.
        #[source]
        source: json::JsonError,
    },
    /// A field is missing or has another type than the specification says.
    #[error("manifest {digest} does not have the shape of its media type {media_type}")]
    Shape {
        /// Of the bytes.
        digest: Digest,
        /// What it claims to be.
        media_type: MediaType,
        /// What is wrong, and where.
        #[source]
        source: json::JsonFault,
    },
    /// The document could be taken for two things.
    #[error("manifest {digest} is ambiguous: {what}")]
    Ambiguous {
        /// Of the bytes.
        digest: Digest,
        /// Which two things; foreign text in it is shortened and escaped.
        what: String,
    },
    /// A media type that is not understood.
    #[error("manifest {digest} has a media type that is not understood: \"{media_type}\"")]
    Unsupported {
        /// Of the bytes.
        digest: Digest,
        /// What it claims to be, shortened and escaped.
        media_type: String,
    },
    /// A digest within it cannot be checked.
    #[error("manifest {digest} points at content by a malformed digest")]
    Pointer {
        /// Of the bytes.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: NameError,
    },
    /// More entries than the configuration allows.
    #[error("manifest {digest} has too many {noun}: {got}, at most {max}")]
    TooMany {
        /// Of the bytes.
        digest: Digest,
        /// `layers` or `manifests`.
        noun: &'static str,
        /// How many it has.
        got: usize,
        /// How many it may have.
        max: usize,
    },
}

impl UntrustedManifest {
    /// Reads a manifest. `content_type` is what the registry called it, where it said so.
    ///
    /// # Errors
    /// When the document is malformed, may be read in two ways (an image and an index, two media types, keys twice or in
    /// another case), or exceeds `limits`.
    pub fn parse(
        addressed: Addressed,
        content_type: Option<&str>,
        limits: &ManifestLimits,
    ) -> Result<Self, ManifestError> {
        let digest = addressed.digest().clone();
        let document: Value = json::parse(addressed.bytes(), limits.json_depth_max)
            .map_err(|source| ManifestError::Json { digest: digest.clone(), source })?;
        let ambiguous = |what: String| ManifestError::Ambiguous { digest: digest.clone(), what };
        check_keys(&document).map_err(ambiguous)?;
        let media_type = media_type_of(&document, content_type).map_err(ambiguous)?;
        if !media_type.is_index() && !media_type.is_image() {
            return Err(ManifestError::Unsupported { digest, media_type: json::shown(media_type.as_str()) });
        }
        check_shape(&document, &media_type).map_err(ambiguous)?;
        if media_type.is_index() {
            Self::index(addressed, media_type, document, limits)
        } else {
            Self::image(addressed, media_type, document, limits)
        }
    }

    fn image(
        addressed: Addressed,
        media_type: MediaType,
        document: Value,
        limits: &ManifestLimits,
    ) -> Result<Self, ManifestError> {
        let digest = addressed.digest().clone();
        let spec: ImageManifest = serde_json::from_value(document).map_err(|source| ManifestError::Shape {
            digest: digest.clone(),
            media_type: media_type.clone(),
            source: json::JsonFault::of(&source),
        })?;
        at_most(&digest, "layers", spec.layers().len(), limits.layers_max)?;
        let pointer = |source| ManifestError::Pointer { digest: digest.clone(), source };
        Ok(Self {
            kind: ManifestKind::Image {
                config: spec.config().try_into().map_err(pointer)?,
                layers: spec
                    .layers()
                    .iter()
                    .map(|layer| layer.try_into().map_err(pointer))
                    .collect::<Result<_, _>>()?,
            },
            subject: spec.subject().as_ref().map(Descriptor::try_from).transpose().map_err(pointer)?,
            artifact_type: spec.artifact_type().as_ref().map(|t| MediaType::new(t.as_ref())),
            annotations: spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            addressed,
            media_type,
        })
    }

    fn index(
        addressed: Addressed,
        media_type: MediaType,
        document: Value,
        limits: &ManifestLimits,
    ) -> Result<Self, ManifestError> {
        let digest = addressed.digest().clone();
        let spec: ImageIndex = serde_json::from_value(document).map_err(|source| ManifestError::Shape {
            digest: digest.clone(),
            media_type: media_type.clone(),
            source: json::JsonFault::of(&source),
        })?;
        at_most(&digest, "manifests", spec.manifests().len(), limits.manifests_max)?;
        let pointer = |source| ManifestError::Pointer { digest: digest.clone(), source };
        Ok(Self {
            kind: ManifestKind::Index {
                manifests: spec
                    .manifests()
                    .iter()
                    .map(|child| child.try_into().map_err(pointer))
                    .collect::<Result<_, _>>()?,
            },
            subject: spec.subject().as_ref().map(Descriptor::try_from).transpose().map_err(pointer)?,
            artifact_type: spec.artifact_type().as_ref().map(|t| MediaType::new(t.as_ref())),
            annotations: spec.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            addressed,
            media_type,
        })
    }

    /// The bytes with their digest.
    #[must_use]
    pub fn addressed(&self) -> &Addressed {
        &self.addressed
    }

    /// The digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        self.addressed.digest()
    }

    /// The media type, as the document and the registry agree.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Image or index.
    #[must_use]
    pub fn kind(&self) -> &ManifestKind {
        &self.kind
    }

    /// The manifest that this one speaks about, where it does.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// What kind of artifact this is, where the writer said.
    #[must_use]
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref()
    }

    /// Free text by key.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Everything that this manifest points at and that is fetched with it: config and layers, or children.
    pub fn points_at(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match &self.kind {
            ManifestKind::Image { config, layers } => (Some(config), layers),
            ManifestKind::Index { manifests } => (None, manifests),
        };
        config.into_iter().chain(rest)
    }
}

fn at_most(digest: &Digest, noun: &'static str, got: usize, max: usize) -> Result<(), ManifestError> {
    if got <= max {
        return Ok(());
    }
    Err(ManifestError::TooMany { digest: digest.clone(), noun, got, max })
}

/// The keys that decide what a client fetches next. In another case some clients would read them and we would not.
const STRUCTURAL_KEYS: [&str; 10] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "digest",
    "size",
    "urls",
];

fn check_keys(document: &Value) -> Result<(), String> {
    let top = document.as_object().ok_or("it is not a JSON object")?;
    let pointed = ["config", "subject"].iter().filter_map(|key| top.get(*key)?.as_object());
    let listed = ["layers", "manifests"]
        .iter()
        .filter_map(|key| top.get(*key)?.as_array())
        .flatten()
        .filter_map(Value::as_object);
    for key in std::iter::once(top).chain(pointed).chain(listed).flat_map(|object| object.keys()) {
        let folded = json::fold_key(key);
        if let Some(meant) = STRUCTURAL_KEYS.iter().find(|known| known.to_ascii_lowercase() == folded)
            && meant != key
        {
            return Err(format!("key \"{}\" may be read as \"{meant}\"", json::shown(key)));
        }
    }
    Ok(())
}

/// The media type that document and registry agree on; of one that says nothing the other's word is taken, and of two silent ones the shape's.
fn media_type_of(document: &Value, content_type: Option<&str>) -> Result<MediaType, String> {
    let inside = match document.get("mediaType") {
        None => None,
        Some(Value::String(text)) => Some(MediaType::new(text)),
        Some(_) => return Err("mediaType is not a string".to_owned()),
    };
    let outside = content_type.map(MediaType::new);
    match (inside, outside) {
        (Some(inside), Some(outside)) if inside != outside => Err(format!(
            "it calls itself \"{}\", the registry calls it \"{}\"",
            json::shown(inside.as_str()),
            json::shown(outside.as_str())
        )),
        (Some(media_type), _) | (None, Some(media_type)) => Ok(media_type),
        (None, None) if document.get("manifests").is_some() => Ok(MediaType::new(MediaType::OCI_INDEX)),
        (None, None) => Ok(MediaType::new(MediaType::OCI_MANIFEST)),
    }
}

fn check_shape(document: &Value, media_type: &MediaType) -> Result<(), String> {
    let forbidden: &[&str] = if media_type.is_index() {
        &["config", "layers", "fsLayers", "blobs"]
    } else {
        &["manifests", "fsLayers", "blobs"]
    };
    match forbidden.iter().find(|key| document.get(**key).is_some()) {
        Some(key) => Err(format!("a {media_type} with \"{key}\"")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
