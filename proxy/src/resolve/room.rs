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
pub(super) struct Room {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    bytes_max: u64,
    /// `limits.manifest_bytes_max`.
    one_max: u64,
    wait: Duration,
}

/// Room that is taken, until this or the bytes that it went to are gone.
pub(super) struct Taken(OwnedSemaphorePermit);

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes_max = limits.manifest_memory_bytes_max;
        let small = bytes_max / SMALL_SHARE;
        let units = |bytes: u64| usize::try_from(bytes / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let share = |bytes| Arc::new(Semaphore::new(units(bytes)));
        let (small, large) = (share(small), share(bytes_max - small));
        Self { small, large, bytes_max, one_max: limits.manifest_bytes_max, wait: limits.queue_timeout }
    }

    /// Takes room for so many bytes, as soon as there is some.
    ///
    /// # Errors
    /// 503 where there is none within `limits.queue_timeout`: who holds one manifest and waits for room for the next may wait for another
    /// who does the same.
    pub(super) async fn take(&self, bytes: u64) -> Result<Taken, ApiError> {
        let taking = Arc::clone(self.share(bytes)).acquire_many_owned(units(bytes));
        match timeout(self.wait, taking).await {
            Ok(Ok(permit)) => Ok(Taken(permit)),
            Ok(Err(_)) | Err(_) => Err(self.full()),
        }
    }

    /// The same where there is some at once, and nobody waits for it.
    fn take_now(&self, bytes: u64) -> Option<Taken> {
        Arc::clone(self.share(bytes)).try_acquire_many_owned(units(bytes)).ok().map(Taken)
    }

    fn share(&self, bytes: u64) -> &Arc<Semaphore> {
        if bytes <= SMALL_BYTES { &self.small } else { &self.large }
    }

    /// What upstream has under `reference`, with room for as much as may come of it. Nobody knows before how much that is: where it is no
    /// small one, and there is no room for it at once, it is left and fetched again when there is some.
    ///
    /// # Errors
    /// As [`Self::take`]; within, what upstream said.
    pub(super) async fn fetched(
        &self,
        upstream: &Upstream,
        repository: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Result<(Fetched, Taken), UpstreamError>, ApiError> {
        let (small, large) = (self.take(SMALL_BYTES).await?, OnceLock::new());
        let more = || {
            let turn = upstream.large_manifests().try_acquire().ok()?;
            Some((turn, self.take_now(self.one_max)?))
        };
        let may =
            |bytes| bytes <= SMALL_BYTES || large.get().is_some() || more().is_some_and(|more| large.set(more).is_ok());
        let fetched = upstream.manifest_where(repository, reference, &may).await;
        match fetched {
            Ok(None) => {}
            Ok(Some(fetched)) => return Ok(Ok((fetched, large.into_inner().map_or(small, |(_, taken)| taken)))),
            Err(error) => return Ok(Err(error)),
        }
        drop(small);
        let Ok(_turn) = timeout(self.wait, upstream.large_manifests().acquire()).await else { return Err(self.full()) };
        let taken = self.take(self.one_max).await?;
        Ok(upstream.manifest(repository, reference).await.map(|fetched| (fetched, taken)))
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
    pub(super) fn go_with(mut self, addressed: Addressed) -> Addressed {
        let needed = usize::try_from((addressed.bytes().len() as u64).div_ceil(UNIT)).unwrap_or(usize::MAX);
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
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
        let room = Room::new(&limits);
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
        let room = Room::new(&limits);
        let large = room.take_now(6 * SMALL_BYTES).unwrap().go_with(content(6 * SMALL_BYTES));
        assert!(room.take_now(SMALL_BYTES + 1).is_none());
        assert!(room.take(SMALL_BYTES + 1).await.is_err());
        let all = [room.take(SMALL_BYTES).await, room.take(SMALL_BYTES).await];
        assert!(all.iter().all(Result::is_ok), "a quarter is theirs");
        drop(large);
        assert!(room.take(6 * SMALL_BYTES).await.is_ok());
    }
}
