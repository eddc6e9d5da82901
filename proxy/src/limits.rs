//! The configured limits in the form that parsers want.

use config::Limits;
use oci::ManifestLimits;

/// What a manifest may hold.
#[must_use]
pub fn manifest_limits(limits: &Limits) -> ManifestLimits {
    ManifestLimits {
        layers_max: limits.manifest_layers_max,
        manifests_max: limits.index_manifests_max,
        json_depth_max: limits.json_depth_max,
    }
}
