//! Room in memory for manifests, from the first byte of each to the last handle on it: most are a kilobyte, and who sends four megabytes for
//! each of a thousand pulls must not get four gigabytes of ours.

use std::{sync::Arc, time::Duration};

use config::Limits;
use oci::Addressed;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::error::ApiError;

/// What room is counted in, bytes.
const UNIT: u64 = 1024;

/// What all manifests in memory share: `limits.manifest_memory_bytes_max`.
pub(super) struct Room {
    units: Arc<Semaphore>,
    bytes_max: u64,
    wait: Duration,
}

/// Room that is taken, until this or the bytes that it went to are gone.
pub(super) struct Taken(OwnedSemaphorePermit);

impl Room {
    pub(super) fn new(limits: &Limits) -> Self {
        let bytes_max = limits.manifest_memory_bytes_max;
        let units = usize::try_from(bytes_max / UNIT).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), bytes_max, wait: limits.queue_timeout }
    }

    /// Takes room for so many bytes, as soon as there is some.
    ///
    /// # Errors
    /// 503 where there is none within `limits.queue_timeout`: who holds one manifest and waits for room for the next may wait for another
    /// who does the same.
    pub(super) async fn take(&self, bytes: u64) -> Result<Taken, ApiError> {
        let units = Arc::clone(&self.units).acquire_many_owned(units(bytes));
        match timeout(self.wait, units).await {
            Ok(Ok(permit)) => Ok(Taken(permit)),
            Ok(Err(_)) | Err(_) => Err(ApiError::undecided(format!(
                "no room in memory for another manifest: {} bytes are in use (limits.manifest_memory_bytes_max)",
                self.bytes_max
            ))),
        }
    }
}

impl Taken {
    /// Goes with these bytes; what they do not need is let go of.
    pub(super) fn go_with(mut self, addressed: Addressed) -> Addressed {
        let needed = usize::try_from(units(addressed.bytes().len() as u64)).unwrap_or(usize::MAX);
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
        addressed.with(self)
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use oci::Algorithm;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_there_again_when_the_last_handle_on_the_bytes_is_gone() {
        let limits = Limits { manifest_memory_bytes_max: 10 * UNIT, ..Limits::default() };
        let room = Room::new(&limits);
        let bytes = Bytes::from(vec![0; 2000]);
        let held = room.take(8 * UNIT).await.unwrap().go_with(Addressed::hash(Algorithm::Sha256, bytes));
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
}
