//! Single things from upstream or the store: a manifest, a blob.

use std::{sync::PoisonError, time::Duration};

use oci::{Addressed, Algorithm, Descriptor, ManifestLimits, Reference, Repository, UntrustedManifest};

use super::{Collector, Nothing, unasked};
use crate::{error::chain, upstream::Upstream};

/// The least speed at which a piece has to come, bytes per second: whoever waits for it holds room that others need.
const SPEED_MIN: u64 = 256 * 1024;
/// What is hashed in less than some milliseconds is hashed on the spot.
const HASHED_ON_THE_SPOT_MAX: u64 = 1 << 20;

impl Collector {
    /// A manifest of evidence, or of what lists it: many layers or entries may be junk, so that it may have more than an image.
    pub(super) async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<UntrustedManifest, Nothing> {
        let upstream = self.upstream(repository)?;
        let fetched = upstream.manifest(repository.path(), reference).await.map_err(|error| unasked(&error))?;
        let flawed = |why: String| Nothing::Flawed(format!("manifest {reference}: {why}"));
        let addressed = match reference {
            Reference::Tag(_) => Addressed::hash(Algorithm::Sha256, fetched.bytes),
            Reference::Digest(digest) => Addressed::check(digest, fetched.bytes).map_err(|e| flawed(e.to_string()))?,
        };
        let limits = ManifestLimits {
            layers_max: self.limits.signature_layers_max,
            manifests_max: self.limits.referrers_count_max,
            json_depth_max: self.limits.json_depth_max,
        };
        UntrustedManifest::parse(addressed, fetched.content_type.as_deref(), &limits)
            .map_err(|error| flawed(error.to_string()))
    }

    /// A blob of evidence: from the store where it is, else from upstream; never more than its descriptor says. Room for it has
    /// been made.
    pub(super) async fn blob(&self, repository: &Repository, blob: &Descriptor) -> Result<Addressed, Nothing> {
        match self.blobs.read(&blob.digest, blob.size).await {
            Ok(Some(addressed)) => return Ok(addressed),
            // Damage was set aside; what it should be is fetched again.
            Ok(None) | Err(storage::StoreError::Corrupt { .. }) => {}
            // More than the descriptor says is not what it points at.
            Err(error @ storage::StoreError::TooLarge { .. }) => return Err(Nothing::Flawed(error.to_string())),
            Err(error) => return Err(Nothing::Unasked(format!("store: {}", chain(&error)))),
        }
        let within = Duration::from_secs(blob.size / SPEED_MIN);
        let fetched = self.upstream(repository)?.whole_blob(repository.path(), &blob.digest, blob.size, within).await;
        let bytes = fetched.map_err(|error| match unasked(&error) {
            // A manifest that points at nothing is a flaw of its own, not an empty place.
            Nothing::Empty => Nothing::Flawed(format!("piece {} is missing upstream", blob.digest)),
            nothing @ (Nothing::Unasked(_) | Nothing::Flawed(_)) => nothing,
        })?;
        let checked = if blob.size <= HASHED_ON_THE_SPOT_MAX {
            Addressed::check(&blob.digest, bytes)
        } else {
            let digest = blob.digest.clone();
            let hashed = tokio::task::spawn_blocking(move || Addressed::check(&digest, bytes)).await;
            hashed.map_err(|_| Nothing::Unasked("hashing ended without a result".to_owned()))?
        };
        let checked = checked.map_err(|error| Nothing::Flawed(error.to_string()))?;
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest.clone());
        Ok(checked)
    }

    /// Who is asked about `repository`, by its own client and credentials only.
    pub(super) fn upstream(&self, repository: &Repository) -> Result<&Upstream, Nothing> {
        let upstream = self.upstreams.get(repository.upstream()).map(AsRef::as_ref);
        upstream.ok_or_else(|| Nothing::Unasked(format!("upstream {} is not configured", repository.upstream())))
    }
}
