//! Room in memory for manifests, from the first byte of each to the last handle on it: most are a kilobyte, and who sends four megabytes for
//! each of a thousand pulls must not get four gigabytes of ours.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
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
    upstream::{Fetched, Flaw, Kind, Upstream, UpstreamError},
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
    /// Of each upstream, small and large, in bytes.
    shares_bytes: (u64, u64),
    /// By the name of the upstream, of which there are as many as the configuration has ever had.
    shares: Mutex<HashMap<String, Arc<Share>>>,
}

/// What one upstream may have of it.
struct Share {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// Room that is taken, until this or the bytes that it went to are gone.
pub(crate) struct Taken {
    common: OwnedSemaphorePermit,
    /// Of the share of the upstream that has sent it.
    own: Option<OwnedSemaphorePermit>,
}

impl ManifestRoom {
    /// As much as `limits` say.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let bytes_max = limits.manifest_memory_bytes_max;
        // Room for one of two upstreams at least.
        let small = (bytes_max / SMALL_SHARE).max(2 * SMALL_BYTES);
        let large = bytes_max.saturating_sub(small);
        let semaphore = |bytes| Arc::new(Semaphore::new(units(bytes) as usize));
        let least = limits.manifest_cache_bytes_max.saturating_add(limits.manifest_bytes_max.saturating_mul(2));
        Self {
            small: semaphore(small),
            large: semaphore(large),
            bytes_max,
            one_max: limits.manifest_bytes_max,
            wait: limits.queue_timeout,
            shares_bytes: (small / 2, (large / 2).max(least)),
            shares: Mutex::default(),
        }
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
        let (share, one_max) = (self.share_of(upstream.name()), self.one_max);
        let (small, large) = (self.take_of(&share.small, SMALL_BYTES).await?, OnceLock::new());
        let more = || {
            let own = Arc::clone(&share.large).try_acquire_many_owned(units(one_max)).ok()?;
            Some(Taken { own: Some(own), ..self.take_now(one_max)? })
        };
        let may = |bytes| {
            bytes <= SMALL_BYTES
                || (bytes <= one_max && (large.get().is_some() || more().is_some_and(|more| large.set(more).is_ok())))
        };
        let fetched = upstream.manifest_where(repository, reference, &may).await;
        match fetched {
            Ok(None) => {}
            Ok(Some(fetched)) => return Ok(Ok((fetched, large.into_inner().unwrap_or(small)))),
            Err(error) => return Ok(Err(error)),
        }
        drop((small, large));
        let taken = self.take_of(&share.large, one_max).await?;
        let fetched = upstream.manifest_where(repository, reference, &|bytes| bytes <= one_max).await;
        let too_large = UpstreamError::Malformed { what: Kind::Manifest, why: Flaw::TooLarge(one_max) };
        Ok(fetched.and_then(|fetched| fetched.ok_or(too_large)).map(|fetched| (fetched, taken)))
    }

    /// Room out of an upstream's own share, and that of all.
    async fn take_of(&self, own: &Arc<Semaphore>, bytes: u64) -> Result<Taken, ApiError> {
        let own = timeout(self.wait, Arc::clone(own).acquire_many_owned(units(bytes))).await;
        let Ok(Ok(own)) = own else { return Err(self.full()) };
        Ok(Taken { own: Some(own), ..self.take(bytes).await? })
    }

    /// What the upstream of that name may have of the room: half of what is for small ones, and of the rest half, or what its manifests in
    /// the cache and an image with its index take. What another sends waits for no more than that.
    fn share_of(&self, upstream: &str) -> Arc<Share> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(upstream) {
            return Arc::clone(share);
        }
        let semaphore = |bytes| Arc::new(Semaphore::new(units(bytes) as usize));
        let (small, large) = self.shares_bytes;
        let share = Arc::new(Share { small: semaphore(small), large: semaphore(large) });
        shares.insert(upstream.to_owned(), Arc::clone(&share));
        share
    }

    fn full(&self) -> ApiError {
        ApiError::undecided(format!(
            "no room in memory for another manifest: {} bytes are in use (limits.manifest_memory_bytes_max)",
            self.bytes_max
        ))
    }
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
        // Of which 128 units are for small ones.
        let limits = Limits { manifest_memory_bytes_max: 8 * SMALL_BYTES, ..Limits::default() };
        let room = ManifestRoom::new(&limits);
        let held = room.take(SMALL_BYTES).await.unwrap().go_with(content(2000));
        let more = [room.take(62 * UNIT).await.unwrap(), room.take(64 * UNIT).await.expect("2000 bytes are two units")];
        let error = room.take(1).await.err().unwrap();
        assert!(error.to_string().contains("limits.manifest_memory_bytes_max"), "{error}");
        let other = held.bytes().clone();
        drop(held);
        assert!(room.take(1).await.is_err(), "somebody still sends them");
        drop(other);
        assert!(room.take(2 * UNIT).await.is_ok());
        drop(more);
    }

    /// Half of what is for small ones, and of the rest what it takes for an image with its index.
    #[tokio::test(start_paused = true)]
    async fn one_upstream_leaves_room_for_another() {
        let limits = Limits {
            manifest_memory_bytes_max: 64 << 20,
            manifest_cache_bytes_max: 1 << 20,
            manifest_bytes_max: 4 << 20,
            ..Limits::default()
        };
        let room = ManifestRoom::new(&limits);
        let (one, other) = (room.share_of("one"), room.share_of("other"));
        for (own, others, bytes, many) in
            [(&one.small, &other.small, SMALL_BYTES, 128), (&one.large, &other.large, 4 << 20, 6)]
        {
            let mut taken = Vec::new();
            while let Ok(more) = room.take_of(own, bytes).await {
                taken.push(more);
            }
            assert_eq!(taken.len(), many);
            assert!(room.take_of(others, bytes).await.is_ok());
        }
        assert!(Arc::ptr_eq(&one, &room.share_of("one")), "whatever configuration it is asked under");
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
