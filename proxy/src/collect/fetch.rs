//! Single things from upstream or the store: a manifest, a blob.

use std::{sync::PoisonError, time::Duration};

use oci::{Addressed, Algorithm, Descriptor, ManifestLimits, Reference, Repository, UntrustedManifest};

use super::{Collector, Nothing};
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
        self.doubted_manifest(repository, reference).await.map(|(manifest, _)| manifest)
    }

    /// The same, and why these may not be the bytes that were published, where upstream names others by their digest: what they prove
    /// counts, what they lack does not.
    pub(super) async fn doubted_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(UntrustedManifest, Option<String>), Nothing> {
        let upstream = self.upstream(repository)?;
        let fetched = self.manifests.fetched(upstream, repository.path(), reference).await;
        let fetched = fetched.map_err(|full| Nothing::Unasked(full.to_string()))?;
        let (fetched, room) = fetched.map_err(|error| self.unasked(&error))?;
        let damaged = |why: String| format!("manifest {reference}: {why}");
        let (addressed, doubt) = match reference {
            Reference::Digest(digest) => {
                let checked = Addressed::check(digest, fetched.bytes);
                (checked.map_err(|error| Nothing::Unasked(damaged(error.to_string())))?, None)
            }
            Reference::Tag(_) => {
                let told = fetched.digest.as_ref().map(|told| Addressed::check(told, fetched.bytes.clone()));
                let doubt = match told {
                    Some(told) => told.err().map(|error| error.to_string()),
                    None => Some("upstream does not tell its digest".to_owned()),
                };
                (Addressed::hash(Algorithm::Sha256, fetched.bytes), doubt)
            }
        };
        let addressed = room.go_with(addressed);
        let limits = ManifestLimits {
            layers_max: self.limits.signature_layers_max,
            manifests_max: self.limits.referrers_count_max,
            json_depth_max: self.limits.json_depth_max,
        };
        match UntrustedManifest::parse(addressed.clone(), fetched.content_type.as_deref(), &limits) {
            // Without a digest to compare with, what reads well is taken for what was published.
            Ok(manifest) => Ok((manifest, doubt.filter(|_| fetched.digest.is_some()).map(damaged))),
            // That these bytes were published, their digest says; what type they are called on the way, nobody vouches for.
            Err(error) if doubt.is_none() && UntrustedManifest::parse(addressed, None, &limits).is_err() => {
                Err(Nothing::Flawed(damaged(error.to_string())))
            }
            Err(error) => Err(Nothing::Unasked(damaged(error.to_string()))),
        }
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
        let bytes = fetched.map_err(|error| match self.unasked(&error) {
            // A manifest that points at nothing is a flaw of its own, not an empty place.
            Nothing::Empty => Nothing::Flawed(format!("piece {} is missing upstream", blob.digest)),
            nothing @ (Nothing::Unasked(_) | Nothing::Flawed(_)) => nothing,
        })?;
        let checked = if blob.size <= HASHED_ON_THE_SPOT_MAX {
            Addressed::check(&blob.digest, bytes)
        } else {
            let digest = blob.digest.clone();
            let hashed = storage::work::run(move || Addressed::check(&digest, bytes)).await;
            hashed.map_err(|_| Nothing::Unasked("hashing ended without a result".to_owned()))?
        };
        let checked = checked.map_err(|error| Nothing::Unasked(error.to_string()))?;
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest.clone());
        Ok(checked)
    }

    /// Who is asked about `repository`, by its own client and credentials only.
    pub(super) fn upstream(&self, repository: &Repository) -> Result<&Upstream, Nothing> {
        let upstream = self.upstreams.get(repository.upstream()).map(AsRef::as_ref);
        upstream.ok_or_else(|| Nothing::Unasked(format!("upstream {} is not configured", repository.upstream())))
    }
}
