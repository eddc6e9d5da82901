//! Which blobs are being filled. An entry is claimed before there is a file, so that nothing is locked while the disk is waited for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use super::{Fill, FillKey};

/// One entry for each blob: its fill, or nothing while somebody is about to begin one.
#[derive(Default)]
pub(super) struct Board {
    entries: Mutex<HashMap<FillKey, Option<Arc<Fill>>>>,
    /// Rung whenever an entry changes: whoever waits for a slot may want that very blob.
    changed: Notify,
}

/// The entry of one blob, and nobody else's; gone when this is dropped.
pub(super) struct Claim {
    board: Arc<Board>,
    key: FillKey,
}

impl Board {
    /// Completes at the next change after this was called, polled or not.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The fill of this blob that can be followed: not one that has failed and is about to leave.
    pub(super) fn fill(&self, key: &FillKey) -> Option<Arc<Fill>> {
        self.lock().get(key).cloned().flatten().filter(|fill| !fill.has_failed())
    }

    /// Leave to begin a fill of this blob, where nobody else has it.
    pub(super) fn claim(self: &Arc<Self>, key: &FillKey) -> Option<Claim> {
        let mut entries = self.lock();
        if entries.contains_key(key) {
            return None;
        }
        entries.insert(key.clone(), None);
        Some(Claim { board: Arc::clone(self), key: key.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FillKey, Option<Arc<Fill>>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whom to follow from now on; with nothing, who wants the blob waits.
    pub(super) fn show(&self, fill: Option<&Arc<Fill>>) {
        self.board.lock().insert(self.key.clone(), fill.cloned());
        self.board.changed.notify_waiters();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.board.lock().remove(&self.key);
        self.board.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use oci::Digest;
    use storage::ContentClass;

    use super::*;

    fn key(blob: &str) -> FillKey {
        let digest = Digest::sha256(blob.as_bytes());
        FillKey { upstream: "cgr.dev".parse().unwrap(), digest, size: 1, class: ContentClass::Layer }
    }

    #[test]
    fn a_blob_is_claimed_once_and_others_are_not_held_up() {
        let board = Arc::new(Board::default());
        let claim = board.claim(&key("one")).unwrap();
        assert!(board.claim(&key("one")).is_none() && board.fill(&key("one")).is_none());
        assert!(board.claim(&FillKey { size: 2, ..key("one") }).is_some());
        assert!(board.claim(&FillKey { upstream: "other.example".parse().unwrap(), ..key("one") }).is_some());
        let changed = board.changed();
        drop(claim);
        assert!(changed.now_or_never().is_some(), "who waits hears that nothing came of it");
        assert!(board.claim(&key("one")).is_some());
    }
}
