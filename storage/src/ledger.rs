//! What is not yet written down: uses, blobs that came and went, and how much is on its way in.
//!
//! A hit costs a look into a small map in memory, and no write. All that gathers is written in one commit every few seconds; what a
//! crash takes away of it is found again by looking through the directory, except the last uses.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use oci::{Digest, Repository, UnixTime};
use tokio::sync::{Notify, watch};

use crate::{Budget, Change, ContentClass, Totals};

/// Parts of the map of uses, each under a lock of its own.
const SHARDS: usize = 16;
/// Blobs that wait to be written down; where the facts cannot be written for long, the rest is found by looking through the directory.
const CONTENTS_MAX: usize = 64 * 1024;
/// Blobs that readers found rotten and nobody has asked for; more are fetched again by whoever needs them.
const ROTTEN_MAX: usize = 4096;
/// Where the metadata stays above its mark, as all of it is pinned or in use, room is asked for again after it was found so this often.
const METADATA_CALLED_EVERY: u64 = 12;
/// Uses that wait to be written down in one shard, repositories and images each.
const USES_MAX: usize = 16 * 1024;

/// How far room is made, in the budget and on disk, ahead of what has come of a blob, bytes. What a manifest declares is only a word.
pub(crate) const AHEAD_BYTES: u64 = 64 << 20;

type Uses = HashMap<Repository, HashMap<Digest, UnixTime>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    uses: [Mutex<Uses>; SHARDS],
    contents: Mutex<HashMap<Digest, Change>>,
    /// Set aside by readers.
    rotten: Mutex<HashSet<Digest>>,
    budget: RwLock<Budget>,
    /// Bytes of layers in the store: as written down, and what came since.
    held: AtomicU64,
    /// Of these, bytes for which room was found and which are not stored yet.
    promised: AtomicU64,
    /// Bytes of layers on their way in.
    in_flight: AtomicU64,
    /// How often in a row the metadata was found to be above its high mark.
    metadata_over: AtomicU64,
    /// Calls for room so far.
    calls: AtomicU64,
    pub(crate) called: Notify,
    /// Held while what has gathered is written down: who settles after that finds all of it there.
    pub(crate) settling: tokio::sync::Mutex<()>,
    /// Up to which call room was made, as far as it could be.
    answered: watch::Sender<u64>,
    /// Somebody makes room.
    is_kept: AtomicBool,
}

impl Ledger {
    /// A manifest was used in a repository. Written down later, if the manifest is known there.
    pub fn used(&self, repository: &Repository, digest: &Digest, at: UnixTime) {
        let Some(shard) = self.shard(digest) else { return };
        let mut uses = lock(shard);
        if let Some(known) = uses.get_mut(repository).and_then(|images| images.get_mut(digest)) {
            *known = at.max(*known);
        } else if uses.len() < USES_MAX {
            let images = uses.entry(repository.clone()).or_default();
            if images.len() < USES_MAX {
                images.insert(digest.clone(), at);
            }
        }
    }

    /// When a manifest was used last, where that is not written down yet.
    pub(crate) fn unsettled_use(&self, repository: &Repository, digest: &Digest) -> Option<UnixTime> {
        lock(self.shard(digest)?).get(repository)?.get(digest).copied()
    }

    fn shard(&self, digest: &Digest) -> Option<&Mutex<Uses>> {
        let mut hasher = DefaultHasher::new();
        digest.hash(&mut hasher);
        self.uses.get(usize::try_from(hasher.finish()).unwrap_or_default() % SHARDS)
    }

    /// A blob is in the store from now on.
    pub(crate) fn stored(&self, digest: &Digest, size: u64, class: Option<ContentClass>) {
        if class != Some(ContentClass::Metadata) {
            self.held.fetch_add(size, Ordering::Relaxed);
        }
        self.note(digest, Change::Stored { digest: digest.clone(), size, class });
    }

    /// A blob has left the store.
    pub(crate) fn removed(&self, digest: &Digest) {
        self.note(digest, Change::Removed { digest: digest.clone() });
    }

    /// A reader has found a blob rotten, and it was set aside.
    pub(crate) fn rotted(&self, digest: &Digest) {
        self.removed(digest);
        let mut rotten = lock(&self.rotten);
        if rotten.len() < ROTTEN_MAX {
            rotten.insert(digest.clone());
        }
    }

    /// What readers have set aside since this was asked last: whoever asks sees to it that it is fetched again.
    #[must_use]
    pub fn take_rotten(&self) -> Vec<Digest> {
        lock(&self.rotten).drain().collect()
    }

    fn note(&self, digest: &Digest, change: Change) {
        let mut contents = lock(&self.contents);
        if contents.len() < CONTENTS_MAX || contents.contains_key(digest) {
            contents.insert(digest.clone(), change);
        }
    }

    /// All that waits to be written down; blobs before uses.
    pub(crate) fn drain(&self) -> Vec<Change> {
        let mut changes: Vec<Change> = lock(&self.contents).drain().map(|(_, change)| change).collect();
        for shard in &self.uses {
            let uses = std::mem::take(&mut *lock(shard));
            changes.extend(uses.into_iter().flat_map(|(repository, images)| {
                images.into_iter().map(move |(digest, at)| Change::Used { repository: repository.clone(), digest, at })
            }));
        }
        changes
    }

    /// What could not be written down. What happened to a blob since counts more.
    pub(crate) fn put_back(&self, changes: Vec<Change>) {
        let mut contents = lock(&self.contents);
        for change in changes {
            if contents.len() >= CONTENTS_MAX {
                return;
            }
            if let Change::Stored { digest, .. } | Change::Removed { digest } = &change {
                contents.entry(digest.clone()).or_insert(change);
            }
        }
    }

    /// The budget that is in force.
    #[must_use]
    pub fn budget(&self) -> Budget {
        *self.budget.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a budget into force.
    pub fn set_budget(&self, budget: Budget) {
        *self.budget.write().unwrap_or_else(PoisonError::into_inner) = budget;
        self.call();
    }

    /// What the store was found to hold.
    pub(crate) fn found(&self, totals: &Totals) {
        self.held.store(totals.layers.bytes.saturating_add(self.promised.load(Ordering::Relaxed)), Ordering::Relaxed);
        // Metadata waits for no room, so nobody else calls for it.
        if self.budget().metadata.is_none_or(|marks| totals.metadata.bytes <= marks.high) {
            self.metadata_over.store(0, Ordering::Relaxed);
        } else if self.metadata_over.fetch_add(1, Ordering::Relaxed).is_multiple_of(METADATA_CALLED_EVERY) {
            self.call();
        }
    }

    /// Bytes of blobs that are on their way into the store and will be kept.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Announces a blob of `size` bytes, so that room is made while it comes.
    pub(crate) fn announce(self: &Arc<Self>, size: u64) -> Announced {
        let keeps = self.budget().layers.is_none_or(|marks| size <= marks.max);
        Announced { ledger: Arc::clone(self), size, counted: 0, keeps, class: None, is_held: false }
    }

    /// Bytes of layers, when all that is on its way has come.
    fn expected(&self) -> u64 {
        self.held.load(Ordering::Relaxed).saturating_add(self.in_flight())
    }

    /// Asks for room. The number of this call.
    fn call(&self) -> u64 {
        let number = self.calls.fetch_add(1, Ordering::AcqRel) + 1;
        self.called.notify_one();
        number
    }

    /// Says that somebody makes room, until the answer is dropped.
    pub(crate) fn keep(self: &Arc<Self>) -> Keeping {
        self.is_kept.store(true, Ordering::Release);
        Keeping { ledger: Arc::clone(self) }
    }
}

/// Somebody makes room. Dropped: nobody does, and nobody waits for it.
pub(crate) struct Keeping {
    ledger: Arc<Ledger>,
}

impl Keeping {
    /// How many calls there were.
    pub(crate) fn calls(&self) -> u64 {
        self.ledger.calls.load(Ordering::Acquire)
    }

    /// Room was made, as far as it could be, for those who had called by then.
    pub(crate) fn answered(&self, calls: u64) {
        self.ledger.answered.send_replace(calls);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.ledger.is_kept.store(false, Ordering::Release);
        self.ledger.answered.send_replace(u64::MAX);
    }
}

/// A blob that was announced. What has come of it, and a step ahead of that, is counted as on its way until this is dropped.
#[derive(Debug)]
pub(crate) struct Announced {
    ledger: Arc<Ledger>,
    size: u64,
    counted: u64,
    keeps: bool,
    /// As what it is counted; what the edges to it say where nobody knows.
    class: Option<ContentClass>,
    /// It is counted as held before it is stored, so that nobody else takes the room that was found for it.
    is_held: bool,
}

impl Announced {
    /// Whether it is to be kept. What is larger than the whole budget is not: all else would have to go for it, and it would be the
    /// next to go.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// So many bytes of it are there: they, and what may come soon, need room.
    pub(crate) fn came(&mut self, bytes: u64) {
        if !self.keeps || bytes <= self.counted {
            return;
        }
        let counted = bytes.saturating_add(AHEAD_BYTES).min(self.size);
        self.ledger.in_flight.fetch_add(counted.saturating_sub(self.counted), Ordering::Relaxed);
        self.counted = self.counted.max(counted);
        if self.ledger.expected() > self.ledger.budget().layers.map_or(u64::MAX, |marks| marks.high) {
            self.ledger.call();
        }
    }

    /// Waits until there is room, or as much of it as could be made. Where that is not enough, as what is there is pinned or somebody
    /// else's, it is not kept after all.
    pub(crate) async fn room(&mut self) {
        let max = self.ledger.budget().layers.map_or(u64::MAX, |marks| marks.max);
        if !self.keeps || (self.ledger.expected() <= max && self.hold(max)) {
            return;
        }
        self.called().await;
        if self.hold(max) {
            return;
        }
        self.give_up();
        tracing::info!(
            size = self.size,
            "a download is not kept: no room can be made for it (storage.max_bytes, pins)"
        );
    }

    /// Takes room for it, where there is some. By what is held, and not by all that is on its way: of several that do not fit together, the
    /// first ones fit.
    fn hold(&mut self, max: u64) -> bool {
        let fits = |held: u64| held.checked_add(self.size).filter(|sum| *sum <= max);
        self.is_held = self.ledger.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if self.is_held {
            self.ledger.promised.fetch_add(self.size, Ordering::Relaxed);
        }
        self.is_held
    }

    /// Asks for room, and waits until it was made as far as it can be.
    async fn called(&self) {
        let mut answered = self.ledger.answered.subscribe();
        let call = self.ledger.call();
        // Looked at last: who stops to make room afterwards answers everybody.
        if self.ledger.is_kept.load(Ordering::Acquire) {
            // The sender lives in the ledger, which lives in here.
            drop(answered.wait_for(|answered| *answered >= call).await);
        }
    }

    pub(crate) fn stored(&mut self, digest: &Digest) {
        self.ledger.stored(digest, self.size, self.class);
        self.let_go();
    }

    /// The room that was taken for it is counted otherwise by now, or nobody needs it.
    fn let_go(&mut self) {
        if std::mem::take(&mut self.is_held) {
            self.ledger.promised.fetch_sub(self.size, Ordering::Relaxed);
            let less = |held: u64| Some(held.saturating_sub(self.size));
            let _ = self.ledger.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    pub(crate) fn count_as(&mut self, class: ContentClass) {
        self.class = Some(class);
    }

    /// It will not be kept.
    fn give_up(&mut self) {
        if std::mem::take(&mut self.keeps) {
            self.ledger.in_flight.fetch_sub(self.counted, Ordering::Relaxed);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.let_go();
        self.give_up();
    }
}

/// A panic elsewhere leaves these values whole: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
