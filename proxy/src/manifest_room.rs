//! Room in memory for manifests, from the first byte of each to the last handle on it: most are a kilobyte, and who sends four megabytes for
//! each of a thousand pulls must not get four gigabytes of ours.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use config::Limits;
use oci::{Addressed, Reference, RepositoryPath};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    error::ApiError,
    upstream::{Fetched, Upstream, UpstreamError},
};

/// What room is counted in, bytes.
const UNIT: u64 = 1024;

/// Most manifests are not larger, and none of these waits for one that is; bytes.
const SMALL_BYTES: u64 = 64 << 10;
/// What is for those: a quarter.
const SMALL_SHARE: u64 = 4;

/// What all manifests in memory share: `limits.manifest_memory_bytes_max`.
pub struct ManifestRoom {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    bytes_max: u64,
    /// `limits.manifest_bytes_max`.
    one_max: u64,
    wait: Duration,
}

/// Room that is taken, until this or the bytes that it went to are gone.
pub(crate) struct Taken {
    common: OwnedSemaphorePermit,
    /// Of the share of the upstream that sends it, where it is large.
    own: Option<OwnedSemaphorePermit>,
}

impl ManifestRoom {
    /// As much as `limits` say.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let bytes_max = limits.manifest_memory_bytes_max;
        let small = bytes_max / SMALL_SHARE;
        let share = |bytes| Arc::new(Semaphore::new(units(bytes) as usize));
        let (small, large) = (share(small), share(bytes_max - small));
        Self { small, large, bytes_max, one_max: limits.manifest_bytes_max, wait: limits.queue_timeout }
    }

    /// Takes room for so many bytes, as soon as there is some.
    ///
    /// # Errors
    /// 503 where there is none within `limits.queue_timeout`: who holds one manifest and waits for room for the next may wait for another
    /// who does the same.
    pub(crate) async fn take(&self, bytes: u64) -> Result<Taken, ApiError> {
        let taking = Arc::clone(self.share(bytes)).acquire_many_owned(units(bytes));
        match timeout(self.wait, taking).await {
            Ok(Ok(common)) => Ok(Taken { common, own: None }),
            Ok(Err(_)) | Err(_) => Err(self.full()),
        }
    }

    /// The same where there is some at once, and nobody waits for it.
    fn take_now(&self, bytes: u64) -> Option<Taken> {
        let common = Arc::clone(self.share(bytes)).try_acquire_many_owned(units(bytes)).ok()?;
        Some(Taken { common, own: None })
    }

    fn share(&self, bytes: u64) -> &Arc<Semaphore> {
        if bytes <= SMALL_BYTES { &self.small } else { &self.large }
    }

    /// What upstream has under `reference`, with room for as much as may come of it. Nobody knows before how much that is: where it is no
    /// small one, and there is no room for it at once, it is left and fetched again when there is some.
    ///
    /// # Errors
    /// As [`Self::take`]; within, what upstream said.
    pub(crate) async fn fetched(
        &self,
        upstream: &Upstream,
        repository: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Result<(Fetched, Taken), UpstreamError>, ApiError> {
        let (small, large) = (self.take(SMALL_BYTES).await?, OnceLock::new());
        let (one_max, share) = (self.one_max, upstream.manifest_room());
        let more = || {
            let own = Arc::clone(share).try_acquire_many_owned(units(one_max)).ok()?;
            Some(Taken { own: Some(own), ..self.take_now(one_max)? })
        };
        let may =
            |bytes| bytes <= SMALL_BYTES || large.get().is_some() || more().is_some_and(|more| large.set(more).is_ok());
        let fetched = upstream.manifest_where(repository, reference, &may).await;
        match fetched {
            Ok(None) => {}
            Ok(Some(fetched)) => return Ok(Ok((fetched, large.into_inner().unwrap_or(small)))),
            Err(error) => return Ok(Err(error)),
        }
        drop(small);
        let own = timeout(self.wait, Arc::clone(share).acquire_many_owned(units(one_max))).await;
        let Ok(Ok(own)) = own else { return Err(self.full()) };
        let taken = Taken { own: Some(own), ..self.take(one_max).await? };
        Ok(upstream.manifest(repository, reference).await.map(|fetched| (fetched, taken)))
    }

    fn full(&self) -> ApiError {
        ApiError::undecided(format!(
            "no room in memory for another manifest: {} bytes are in use (limits.manifest_memory_bytes_max)",
            self.bytes_max
        ))
    }
}

/// What one upstream may have of the room for large ones, in the units in which that is counted: half, or what its manifests in the cache
/// and an image with its index take. Another's large manifests wait for no more than that.
pub(crate) fn share_of_one(limits: &Limits) -> Arc<Semaphore> {
    let large = limits.manifest_memory_bytes_max - limits.manifest_memory_bytes_max / SMALL_SHARE;
    let least = limits.manifest_cache_bytes_max.saturating_add(limits.manifest_bytes_max.saturating_mul(2));
    Arc::new(Semaphore::new(units((large / 2).max(least)) as usize))
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Taken {
    /// Goes with these bytes; what they do not need is let go of.
    pub(crate) fn go_with(mut self, addressed: Addressed) -> Addressed {
        let needed = units(addressed.bytes().len() as u64) as usize;
        for permit in std::iter::once(&mut self.common).chain(&mut self.own) {
            drop(permit.split(permit.num_permits().saturating_sub(needed)));
        }
        addressed.with(self)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use oci::Algorithm;

    use super::*;

    fn content(bytes: u64) -> Addressed {
        Addressed::hash(Algorithm::Sha256, Bytes::from(vec![0; usize::try_from(bytes).unwrap()]))
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_there_again_when_the_last_handle_on_the_bytes_is_gone() {
        let limits = Limits { manifest_memory_bytes_max: 40 * UNIT, ..Limits::default() };
        let room = ManifestRoom::new(&limits);
        let held = room.take(8 * UNIT).await.unwrap().go_with(content(2000));
        let more = room.take(8 * UNIT).await.expect("2000 bytes are two units");
        let error = room.take(1).await.err().unwrap();
        assert!(error.to_string().contains("limits.manifest_memory_bytes_max"), "{error}");
        drop(more);
        let other = held.bytes().clone();
        drop(held);
        assert!(room.take(9 * UNIT).await.is_err(), "somebody still sends them");
        drop(other);
        assert!(room.take(10 * UNIT).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn small_ones_do_not_wait_for_large_ones() {
        let limits = Limits { manifest_memory_bytes_max: 8 * SMALL_BYTES, ..Limits::default() };
        let room = ManifestRoom::new(&limits);
        let large = room.take_now(6 * SMALL_BYTES).unwrap().go_with(content(6 * SMALL_BYTES));
        assert!(room.take_now(SMALL_BYTES + 1).is_none());
        assert!(room.take(SMALL_BYTES + 1).await.is_err());
        let all = [room.take(SMALL_BYTES).await, room.take(SMALL_BYTES).await];
        assert!(all.iter().all(Result::is_ok), "a quarter is theirs");
        drop(large);
        assert!(room.take(6 * SMALL_BYTES).await.is_ok());
    }
}
