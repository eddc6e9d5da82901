//! What all downloads together may have in memory on its way to the disk.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes, for all.
#[derive(Clone)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    max: u32,
}

/// Bytes that take their room until the last of them is dropped.
struct Held {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    pub(super) fn new(bytes_max: u64) -> Self {
        let max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(max as usize)), max }
    }

    /// Waits for room for `bytes`; a piece larger than all the room takes all of it.
    pub(super) async fn hold(&self, bytes: Bytes) -> Bytes {
        let cost = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.max);
        // Never closed; and where it were, the queue of the ingest still has its bound.
        let room = Arc::clone(&self.free).acquire_many_owned(cost).await.ok();
        Bytes::from_owner(Held { bytes, _room: room })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_held_is_bounded_and_comes_back() {
        let room = Room::new(10);
        let first = room.hold(Bytes::from_static(b"0123456")).await;
        assert!(room.hold(Bytes::from_static(b"0123")).now_or_never().is_none());
        let part = first.slice(2..3);
        drop(first);
        assert!(room.hold(Bytes::from_static(b"0123")).now_or_never().is_none(), "a part of it is still there");
        drop(part);
        assert_eq!(room.hold(Bytes::from_static(b"0123")).await, "0123");
        assert_eq!(room.hold(Bytes::from_static(b"more than there is room")).await, "more than there is room");
    }
}
