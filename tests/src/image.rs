//! Images to serve: manifests, indexes, layers, and the manifests that carry evidence, in the bytes that real tools write.
//!
//! An [`Image`] is a manifest with everything below it; [`Image::push`] puts all of that into an upstream [`Registry`].

mod build;
mod chainguard_like;
mod evidence;
pub mod layer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use oci::{Addressed, Algorithm, Descriptor, Digest, MediaType, Platform};
use serde::Serialize;

use crate::upstream::Registry;

pub use build::{Builder, Flavor, IndexBuilder, index, index_builder, runnable, single};
pub use chainguard_like::{Publisher, corpus_manifest};
pub use evidence::{
    attestation_manifest, bundle_referrer, bundle_referrer_as_seen, cosign_tag, referrers_tag, referrers_tag_index,
    referrers_tag_index_of_old, signature_manifest,
};
pub use layer::{Entry, filler, tar};

/// A manifest or index, and everything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The manifest's bytes.
    pub manifest: Bytes,
    /// The manifest's media type.
    pub media_type: MediaType,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Config and layers, config first; empty for an index.
    pub blobs: Vec<(Digest, Bytes)>,
    /// The manifests of an index.
    pub children: Vec<Image>,
    /// What kind of artifact the manifest says it is.
    pub artifact_type: Option<MediaType>,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// For which platform it is.
    pub platform: Option<Platform>,
}

impl Image {
    /// What an index, or a referrers answer, says of it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest.clone(),
            size: self.manifest.len() as u64,
            artifact_type: self.artifact_type.clone(),
            annotations: self.annotations.clone(),
            platform: self.platform.clone(),
        }
    }

    /// The manifest as something whose digest is known.
    #[must_use]
    pub fn addressed(&self) -> Addressed {
        Addressed::hash(self.digest.algorithm(), self.manifest.clone())
    }

    /// The config, where there is one.
    #[must_use]
    pub fn config(&self) -> Option<&(Digest, Bytes)> {
        self.blobs.first()
    }

    /// The layers.
    #[must_use]
    pub fn layers(&self) -> &[(Digest, Bytes)] {
        self.blobs.get(1..).unwrap_or_default()
    }

    /// The digest of this manifest and of every one below it.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        let below = self.children.iter().flat_map(Self::digests);
        std::iter::once(self.digest.clone()).chain(below).collect()
    }

    /// Stores it, with all that is below it, in `registry`; the tag then points at it.
    pub fn push(&self, registry: &Registry, repository: &str, tag: Option<&str>) {
        for child in &self.children {
            child.push(registry, repository, None);
        }
        for (digest, bytes) in &self.blobs {
            registry.put_blob_as(repository, digest, bytes.clone());
        }
        registry.put_manifest_as(repository, &self.digest, self.media_type.as_str(), self.manifest.clone());
        if let Some(tag) = tag {
            registry.put_tag(repository, tag, &self.digest);
        }
    }
}

/// A descriptor with its fields in the order of go-containerregistry.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    media_type: String,
    size: u64,
    digest: Digest,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

/// A manifest or an index, likewise.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u8,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Pointer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Pointer>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Pointer>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Pointer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

impl Pointer {
    fn to(media_type: &str, digest: &Digest, bytes: &Bytes) -> Self {
        Self {
            media_type: media_type.to_owned(),
            size: bytes.len() as u64,
            digest: digest.clone(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

impl From<&Descriptor> for Pointer {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.to_string(),
            size: descriptor.size,
            digest: descriptor.digest.clone(),
            annotations: descriptor.annotations.clone(),
            platform: descriptor.platform.clone(),
            artifact_type: descriptor.artifact_type.as_ref().map(ToString::to_string),
        }
    }
}

impl Document {
    /// The bytes, and their digest.
    fn write(&self, algorithm: Algorithm) -> (Bytes, Digest) {
        let bytes = serde_json::to_vec(self).expect("texts and numbers are JSON");
        let digest = Digest::of(algorithm, &bytes);
        (bytes.into(), digest)
    }
}
