//! Evidence that somebody asks for as content: whatever is there, without regard to what policies want.

use std::collections::BTreeSet;

use oci::{Addressed, Descriptor, Digest, Reference, Repository, UntrustedManifest};

use super::{Collector, Nothing, Room};
use crate::{error::ApiError, evidence_tag::evidence_tag};

/// Cosign writes no more signatures into one manifest.
const LAYERS_MAX: usize = 1000;

impl Collector {
    /// The digests of all that upstream lists about `subject`, by API and by tag, and whether that is all.
    ///
    /// # Errors
    /// When one of the two cannot be asked.
    pub async fn referrers_of(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<(Vec<Digest>, bool), ApiError> {
        let what = format!("referrers of {subject}");
        let undecided =
            |why: String| ApiError::undecided(format!("cannot fetch {what}: {why}")).limited(self.patience());
        let upstream = self.upstream(repository).map_err(|nothing| undecided(nothing.to_string()))?;
        let listed = upstream.referrers(repository.path(), subject).await;
        let listed = listed.map_err(|error| ApiError::from_upstream(&error, "MANIFEST_UNKNOWN", &what))?;
        let whole = listed.as_ref().is_none_or(|listed| listed.cut.is_none() && listed.skipped == 0);
        let descriptors = listed.map(|listed| listed.descriptors).unwrap_or_default();
        let mut digests: BTreeSet<_> = descriptors.into_iter().map(|descriptor| descriptor.digest).collect();
        if let Some(tag) = evidence_tag(subject, "") {
            match self.manifest(repository, &Reference::Tag(tag)).await {
                Ok(index) if index.media_type().is_index() => {
                    digests.extend(index.points_at().map(|descriptor| descriptor.digest.clone()));
                }
                Err(Nothing::Unasked(why)) => return Err(undecided(why)),
                Ok(_) | Err(Nothing::Empty | Nothing::Flawed(_)) => {}
            }
        }
        let whole = whole && digests.len() <= self.limits.referrers_count_max;
        Ok((digests.into_iter().take(self.limits.referrers_count_max).collect(), whole))
    }

    /// Every blob that `manifest` points at, for a look at what it is. `None` where that is more than evidence may be, or not to be
    /// had. They are in `room` until that is dropped.
    ///
    /// # Errors
    /// When upstream cannot be asked.
    pub async fn blobs_of(
        &self,
        repository: &Repository,
        manifest: &UntrustedManifest,
        room: &Room,
    ) -> Result<Option<Vec<Addressed>>, ApiError> {
        let pointed: Vec<&Descriptor> = manifest.points_at().collect();
        let one_max = self.limits.evidence_bytes_max.max(self.limits.attestation_bytes_max);
        let sizes = || pointed.iter().map(|blob| blob.size);
        let total = sizes().fold(0, u64::saturating_add);
        if sizes().any(|size| size > one_max)
            || total > self.limits.evidence_memory_bytes_max
            || pointed.len() > LAYERS_MAX
        {
            return Ok(None);
        }
        room.take(sizes().collect())
            .await
            .map_err(|why| ApiError::undecided(format!("cannot fetch evidence: {why}")))?;
        let mut blobs = Vec::with_capacity(pointed.len());
        for blob in pointed {
            match self.blob(repository, blob).await {
                Ok(addressed) => blobs.push(addressed),
                Err(Nothing::Unasked(why)) => {
                    let error = ApiError::undecided(format!("cannot fetch evidence blob {}: {why}", blob.digest));
                    return Err(error.limited(self.patience()));
                }
                Err(Nothing::Flawed(_) | Nothing::Empty) => return Ok(None),
            }
        }
        Ok(Some(blobs))
    }
}
