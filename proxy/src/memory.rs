//! What was looked up, kept in memory: bounded in bytes, read without a lock, and gone when it is forgotten.
//!
//! ```text
//!  moment ── look it up in the store ── keep ──> recall … recall
//!                      │                           │
//!                forget(digest)              forget(digest)
//!                      └── what was read before is never recalled ──┘
//! ```
//!
//! It decides nothing: whoever recalls something asks whether it still counts.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use moka::{Equivalent, sync::Cache};
use oci::Repository;

/// Values by repository and name within it, at most so many bytes of them.
pub(crate) struct Memory<N, V> {
    entries: Cache<(Repository, N), Arc<Remembered<V>>>,
    forgotten: Forgotten,
}

/// A point in the row of things forgotten: what is read after it knows of all before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(u64);

/// A value, and what became of it since.
pub(crate) struct Remembered<V> {
    /// As it was kept.
    pub(crate) value: V,
    /// From before it was looked up.
    since: Moment,
    /// What must not have been forgotten since.
    rests_on: Box<[u64]>,
    bytes: u32,
}

/// A key that need not be made to be looked for.
#[derive(Hash)]
struct Wanted<'a, N>(&'a Repository, &'a N);

impl<N: Eq> Equivalent<(Repository, N)> for Wanted<'_, N> {
    fn equivalent(&self, key: &(Repository, N)) -> bool {
        *self.0 == key.0 && *self.1 == key.1
    }
}

impl<N: Hash + Eq + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Memory<N, V> {
    /// Room for `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let weight = |_: &(Repository, N), entry: &Arc<Remembered<V>>| entry.bytes;
        Self { entries: Cache::builder().max_capacity(bytes_max).weigher(weight).build(), forgotten: Forgotten::new() }
    }

    /// To be asked before something is looked up that shall be kept.
    pub(crate) fn moment(&self) -> Moment {
        self.forgotten.moment()
    }

    /// What is kept under this name, unless something that it rests on was forgotten after it was looked up.
    pub(crate) fn recall(&self, repository: &Repository, name: &N) -> Option<Arc<Remembered<V>>> {
        let wanted = Wanted(repository, name);
        let found = self.entries.get(&wanted)?;
        if self.forgotten.none_since(found.since, &found.rests_on) {
            return Some(found);
        }
        self.entries.invalidate(&wanted);
        None
    }

    /// Keeps what was looked up since that moment, and takes about `bytes` of memory.
    pub(crate) fn keep<D: Hash>(
        &self,
        (repository, name): (&Repository, &N),
        value: V,
        (since, rests_on): (Moment, impl Iterator<Item = D>),
        bytes: usize,
    ) {
        let rests_on = rests_on.map(|on| self.forgotten.name(&on)).collect();
        let bytes = u32::try_from(bytes.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX);
        let remembered = Remembered { value, since, rests_on, bytes };
        self.entries.insert((repository.clone(), name.clone()), Arc::new(remembered));
    }

    /// From now on nothing is recalled that rests on this and was looked up before.
    pub(crate) fn forget(&self, what: &impl Hash) {
        self.forgotten.forget(self.forgotten.name(what));
    }
}

/// Of one entry besides its value, in bytes: a key of two names, and the places in tables and queues that lead to it.
const ENTRY_BYTES: usize = 768;

/// When things were last forgotten. Some share a place: then more is looked up again than need be, never less.
struct Forgotten {
    latest: AtomicU64,
    places: Box<[AtomicU64]>,
    /// Nobody outside can choose what shares a place.
    hasher: RandomState,
}

/// A power of two.
const PLACES: u64 = 4096;

impl Forgotten {
    fn new() -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { latest: AtomicU64::new(0), places, hasher: RandomState::new() }
    }

    fn name(&self, of: &impl Hash) -> u64 {
        self.hasher.hash_one(of)
    }

    fn moment(&self) -> Moment {
        Moment(self.latest.load(Ordering::SeqCst))
    }

    fn place(&self, name: u64) -> Option<&AtomicU64> {
        self.places.get(usize::try_from(name % PLACES).ok()?)
    }

    fn forget(&self, name: u64) {
        // Who asks for the moment from here on looks up what is there now.
        let moment = self.latest.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(place) = self.place(name) {
            place.fetch_max(moment, Ordering::SeqCst);
        }
    }

    fn none_since(&self, since: Moment, names: &[u64]) -> bool {
        let is_older = |place: &AtomicU64| place.load(Ordering::Acquire) <= since.0;
        names.iter().all(|name| self.place(*name).is_some_and(is_older))
    }
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    const MAX: u64 = 1 << 20;

    fn repository() -> Repository {
        "cgr.dev/chainguard/nginx".parse().unwrap()
    }

    fn keep(memory: &Memory<Digest, u32>, digest: &Digest, value: u32, since: Moment) {
        memory.keep((&repository(), digest), value, (since, [digest].into_iter()), 2048);
    }

    fn recalled(memory: &Memory<Digest, u32>, digest: &Digest) -> Option<u32> {
        memory.recall(&repository(), digest).map(|found| found.value)
    }

    #[test]
    fn what_is_forgotten_is_looked_up_again() {
        let (memory, one, other) = (Memory::new(MAX), Digest::sha256(b"1"), Digest::sha256(b"2"));
        keep(&memory, &one, 1, memory.moment());
        keep(&memory, &other, 2, memory.moment());
        memory.forget(&one);
        assert_eq!((recalled(&memory, &one), recalled(&memory, &other)), (None, Some(2)));
        keep(&memory, &one, 3, memory.moment());
        assert_eq!(recalled(&memory, &one), Some(3));
    }

    #[test]
    fn a_look_that_began_before_something_was_forgotten_keeps_nothing() {
        let (memory, digest) = (Memory::new(MAX), Digest::sha256(b"1"));
        let began = memory.moment();
        memory.forget(&digest);
        keep(&memory, &digest, 1, began);
        assert_eq!(recalled(&memory, &digest), None);
    }

    #[test]
    fn whatever_it_rests_on_takes_it_along() {
        let (memory, child, index) = (Memory::new(MAX), Digest::sha256(b"child"), Digest::sha256(b"index"));
        memory.keep((&repository(), &child), 1, (memory.moment(), [&index, &child].into_iter()), 2048);
        memory.forget(&index);
        assert_eq!(recalled(&memory, &child), None);
    }

    #[test]
    fn another_repository_recalls_nothing() {
        let (memory, digest) = (Memory::new(MAX), Digest::sha256(b"1"));
        keep(&memory, &digest, 1, memory.moment());
        let other: Repository = "cgr.dev/chainguard/nginx2".parse().unwrap();
        assert!(memory.recall(&other, &digest).is_none());
    }

    #[test]
    fn a_hundred_thousand_names_stay_within_the_bound() {
        let memory = Memory::new(MAX);
        let mut most = 0;
        for number in 0..100_000_u32 {
            let digest = Digest::sha256(&number.to_le_bytes());
            keep(&memory, &digest, number, memory.moment());
            if number % 1000 == 0 {
                memory.entries.run_pending_tasks();
                most = most.max(memory.entries.weighted_size());
            }
        }
        memory.entries.run_pending_tasks();
        assert!((1..=MAX).contains(&most), "{most} bytes");
        assert!(memory.entries.entry_count() <= MAX / 2048, "{} entries", memory.entries.entry_count());
    }

    #[test]
    fn what_is_larger_than_all_room_is_not_kept() {
        let (memory, digest) = (Memory::new(MAX), Digest::sha256(b"1"));
        memory.keep((&repository(), &digest), 1, (memory.moment(), [&digest].into_iter()), usize::MAX);
        memory.entries.run_pending_tasks();
        assert_eq!(recalled(&memory, &digest), None);
    }
}
