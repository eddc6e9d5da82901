//! Media types, compared as text; the few that decide something have a name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A media type without parameters, in the spelling that was published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(String);

impl MediaType {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// Docker's image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's manifest list.
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The four types of manifest that are understood, in the order in which an upstream is asked for them.
    pub const MANIFESTS: [&'static str; 4] =
        [Self::OCI_INDEX, Self::DOCKER_LIST, Self::OCI_MANIFEST, Self::DOCKER_MANIFEST];
    /// The empty JSON object, as a config that says nothing.
    pub const EMPTY_JSON: &'static str = "application/vnd.oci.empty.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &'static str = "application/vnd.oci.image.config.v1+json";
    /// One cosign signature in the legacy layout: a simple signing payload.
    pub const SIMPLE_SIGNING: &'static str = "application/vnd.dev.cosign.simplesigning.v1+json";
    /// A DSSE envelope, as on cosign's `.att` layers.
    pub const DSSE: &'static str = "application/vnd.dsse.envelope.v1+json";
    /// What every Sigstore bundle's media type begins with.
    pub const SIGSTORE_BUNDLE_PREFIX: &'static str = "application/vnd.dev.sigstore.bundle";

    /// The type written in `text`; parameters (`; charset=…`) and the white space around are dropped.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.split(';').next().unwrap_or_default().trim().to_owned())
    }

    /// The type as published.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of the two kinds of index.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Whether this is one of the two kinds of image manifest.
    #[must_use]
    pub fn is_image(&self) -> bool {
        matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
