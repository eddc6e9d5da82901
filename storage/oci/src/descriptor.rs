//! Pointers to content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, MediaType, NameError};

/// A pointer to content: what it is, by which digest, how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content claims to be.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
    /// What kind of artifact a manifest carries, where the writer said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// For which platform the content is, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// The platform named by an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `GOARCH`, such as `amd64`.
    pub architecture: String,
    /// `GOOS`, such as `linux`.
    pub os: String,
    /// The variant of the architecture, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl TryFrom<&oci_spec::image::Descriptor> for Descriptor {
    type Error = NameError;

    /// Keeps what decides something; the digest must be one that can be checked.
    fn try_from(spec: &oci_spec::image::Descriptor) -> Result<Self, NameError> {
        Ok(Self {
            media_type: MediaType::new(spec.media_type().as_ref()),
            digest: spec.digest().to_string().parse()?,
            size: spec.size(),
            artifact_type: spec.artifact_type().as_ref().map(|artifact_type| MediaType::new(artifact_type.as_ref())),
            annotations: spec.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect(),
            platform: spec.platform().as_ref().map(|platform| Platform {
                architecture: platform.architecture().to_string(),
                os: platform.os().to_string(),
                variant: platform.variant().clone(),
            }),
        })
    }
}
