//! What may be served as evidence beside an admitted image.

use serde::Deserialize;

use crate::{ConfigError, notes::Notes, sources::Sources};

/// `[evidence]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    /// Layer media types that a manifest may have to be served as evidence of an admitted subject; all layers must, and each must be
    /// the JSON that its type claims. The list replaces the default one.
    pub media_types: Vec<String>,
}

/// Simple signing, DSSE, Sigstore bundles, in-toto, SPDX, CycloneDX, Syft.
const DEFAULT: [&str; 8] = [
    "application/vnd.dev.cosign.simplesigning.v1+json",
    "application/vnd.dsse.envelope.v1+json",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.in-toto+json",
    "application/spdx+json",
    "text/spdx+json",
    "application/vnd.cyclonedx+json",
    "application/vnd.syft+json",
];

/// Layers that a container engine would unpack and run.
const RUNNABLE: [&str; 3] =
    ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.", "application/vnd.docker.container."];

impl Default for Evidence {
    fn default() -> Self {
        Self { media_types: DEFAULT.map(String::from).into() }
    }
}

impl Evidence {
    /// Refuses what could run, tells what is beyond the defaults.
    pub(crate) fn check(self, sources: &Sources, notes: &mut Notes) -> Result<Self, ConfigError> {
        for (index, media_type) in self.media_types.iter().enumerate() {
            let key = format!("evidence.media_types[{index}]");
            if !is_media_type(media_type) {
                return Err(sources.unexpected(
                    &key,
                    "a lower-case media type such as \"application/spdx+json\"",
                    media_type,
                ));
            }
            if RUNNABLE.iter().any(|prefix| media_type.starts_with(prefix)) {
                return Err(sources.unexpected(
                    &key,
                    "a media type of signatures, attestations or SBOMs, never of image layers",
                    media_type,
                ));
            }
            if !DEFAULT.contains(&media_type.as_str()) {
                notes.weakened(format!(
                    "evidence.media_types: layers of type {media_type} are served beside admitted images"
                ));
            }
        }
        Ok(self)
    }
}

/// `type/subtype`, lower case, without parameters.
fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&^_.+-".contains(&b))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}
