//! Facts in sled, for those who want it. The only file that names it; `docs/decisions/0008-sled-is-not-the-default.md` tells why.
//!
//! All tables lie in one tree, because sled writes a batch at once to one tree only. It has no snapshots: what a reader that is
//! still there may want to see again is kept in memory, commit by commit. Its `flush` does not make anything durable, so the files
//! are synced here.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::File,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use sled::{Batch, Config, Db, IVec};

use super::{
    engine::{
        Durability, Entry, FactsError, FactsStore, KeyRange, Order, Reads, Writes, batch::merged, failed, is_empty,
    },
    table::Table,
};
use crate::{StoreError, directory, error::is_full};

/// What sled may hold in memory, bytes; it is known to hold more.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// How often, and how long apart, its lock is asked for: five seconds in all.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// An open directory of facts.
pub(super) struct Sled {
    tree: Db,
    disk: Mutex<Disk>,
    history: Arc<RwLock<History>>,
}

impl Sled {
    /// Opens the directory at `path`. `thorough` walks all of it.
    pub(super) fn open(path: &Path, thorough: bool) -> Result<Arc<dyn FactsStore>, StoreError> {
        // It syncs on a timer of its own otherwise, too late for whoever waits and in vain for everybody else.
        let config = Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let tree = opened(&config).map_err(facts("open"))?;
        if thorough {
            tree.verify_integrity().map_err(facts("check"))?;
        }
        let disk = Mutex::new(Disk::of(path)?);
        Ok(Arc::new(Self { tree, disk, history: Arc::default() }))
    }

    /// Makes an empty directory at `path`, which must not exist.
    pub(super) fn create(path: &Path) -> Result<(), StoreError> {
        directory::make_directory(path)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.tree.flush().map_err(facts("write"))?;
        lock(&self.disk).sync()
    }
}

impl FactsStore for Sled {
    fn read(&self) -> Result<Box<dyn Reads>, StoreError> {
        let mut history = write(&self.history);
        let instant = history.now;
        *history.readers.entry(instant).or_default() += 1;
        Ok(Box::new(Snapshot { tree: self.tree.clone(), history: Arc::clone(&self.history), instant }))
    }

    /// Readers may see it a moment before it is durable; after a failed sync they see nothing any more.
    fn apply(&self, writes: &Writes, durability: Durability) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut before = BTreeMap::new();
        let mut history = write(&self.history);
        for ((table, key), value) in writes {
            let key = place(*table, key);
            before.insert(key.clone(), self.tree.get(&key).map_err(facts("write"))?);
            match value {
                Some(value) => batch.insert(key, value.as_slice()),
                None => batch.remove(key),
            }
        }
        self.tree.apply_batch(batch).map_err(facts("write"))?;
        history.went_on(before);
        drop(history);
        match durability {
            Durability::Now => self.sync(),
            Durability::Later => Ok(()),
        }
    }

    fn make(&self, _: &[Table]) -> Result<(), StoreError> {
        self.sync()?;
        lock(&self.disk).sync_names()
    }
}

/// Its threads let go of its lock a moment after its last handle is gone. Who else may have the store is settled by our own lock.
fn opened(config: &Config) -> sled::Result<Db> {
    for _ in 0..LOCK_TRIES {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
    config.open()
}

/// What readers may still want to see as it was.
#[derive(Default)]
struct History {
    /// How many commits there were since the store was opened.
    now: u64,
    /// By the number of the commit: what was there before it.
    before: BTreeMap<u64, BTreeMap<Vec<u8>, Option<IVec>>>,
    /// By the instant they look at: how many readers.
    readers: BTreeMap<u64, usize>,
}

impl History {
    fn went_on(&mut self, before: BTreeMap<Vec<u8>, Option<IVec>>) {
        self.now += 1;
        if !self.readers.is_empty() {
            self.before.insert(self.now, before);
        }
    }

    fn left(&mut self, instant: u64) {
        let others = self.readers.get(&instant).map_or(0, |count| count.saturating_sub(1));
        if others > 0 {
            self.readers.insert(instant, others);
        } else {
            self.readers.remove(&instant);
        }
        // Nobody looks at an instant before the oldest reader's.
        let oldest = self.readers.keys().next().copied().unwrap_or(u64::MAX);
        self.before.retain(|number, _| *number > oldest);
    }
}

/// A reader that sees what was there at one instant.
struct Snapshot {
    tree: Db,
    history: Arc<RwLock<History>>,
    instant: u64,
}

impl Snapshot {
    /// The commits that it must not see, the oldest first.
    fn later<'a>(&self, history: &'a History) -> impl DoubleEndedIterator<Item = &'a BTreeMap<Vec<u8>, Option<IVec>>> {
        history.before.range(self.instant + 1..).map(|(_, before)| before)
    }
}

impl Reads for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = place(table, key);
        let history = read(&self.history);
        let found = match self.later(&history).find_map(|before| before.get(&key)) {
            Some(before) => before.clone(),
            None => self.tree.get(&key).map_err(facts("read"))?,
        };
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: &KeyRange, order: Order, limit: usize) -> Result<Vec<Entry>, StoreError> {
        if is_empty(range) {
            return Ok(Vec::new());
        }
        let (from, to) = places(table, range);
        let prefix = place(table, &[]).len();
        let bare = |key: &[u8]| key.get(prefix..).unwrap_or_default().to_vec();
        let history = read(&self.history);
        let mut before = BTreeMap::new();
        // The oldest of these commits is asked last, and so holds.
        for commit in self.later(&history).rev() {
            let of_range = commit.range((from.clone(), to.clone()));
            before.extend(of_range.map(|(key, value)| (bare(key), value.as_ref().map(|it| it.to_vec()))));
        }
        let there = |limit| {
            let found = self.tree.range((from.clone(), to.clone()));
            let entry = |found: sled::Result<(IVec, IVec)>| {
                found.map(|(key, value)| (bare(&key), value.to_vec())).map_err(facts("read"))
            };
            match order {
                Order::Ascending => found.take(limit).map(entry).collect(),
                Order::Descending => found.rev().take(limit).map(entry).collect(),
            }
        };
        merged(there, &before, order, limit)
    }

    /// It knows no number: this walks through the table as it is now.
    fn count(&self, table: Table) -> Result<usize, StoreError> {
        let mut keys = self.tree.scan_prefix(place(table, &[])).keys();
        keys.try_fold(0, |count, key| key.map(|_| count + 1)).map_err(facts("read"))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        write(&self.history).left(self.instant);
    }
}

/// Its files, which it does not sync by itself.
struct Disk {
    path: PathBuf,
    log: File,
    /// Values that are too large for its log lie in files of their own, which are written once.
    large: BTreeSet<OsString>,
}

impl Disk {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let log = directory::open_file_writable(&path.join("db"))?;
        Ok(Self { path: path.to_owned(), log, large: BTreeSet::new() })
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let path = self.path.join("blobs");
        let large: BTreeSet<OsString> = directory::list(&path)?.collect::<Result<_, _>>()?;
        for name in large.difference(&self.large) {
            sync_file(&path.join(name))?;
        }
        if !large.is_subset(&self.large) {
            directory::sync_directory(&path)?;
        }
        self.large = large;
        self.log.sync_data().map_err(disk("sync"))
    }

    /// Everything in a directory that was just made.
    fn sync_names(&self) -> Result<(), StoreError> {
        for name in directory::list(&self.path)? {
            sync_file(&self.path.join(name?))?;
        }
        directory::sync_directory(&self.path)
    }
}

/// One that has left meanwhile needs none: sled removes what it no longer refers to.
fn sync_file(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return directory::sync_directory(path);
    }
    match directory::open_file(path)? {
        Some((file, _)) => file.sync_all().map_err(disk("sync")),
        None => Ok(()),
    }
}

/// Where an entry lies: no table's name holds a zero byte.
fn place(table: Table, key: &[u8]) -> Vec<u8> {
    [table.name().as_bytes(), &[0], key].concat()
}

fn places(table: Table, (from, to): &KeyRange) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let here = |key: &Vec<u8>| place(table, key);
    let from = if *from == Bound::Unbounded { Bound::Included(place(table, &[])) } else { from.as_ref().map(here) };
    let end = || Bound::Excluded([table.name().as_bytes(), &[1]].concat());
    (from, if *to == Bound::Unbounded { end() } else { to.as_ref().map(here) })
}

/// Turns what sled said into our error.
fn facts(operation: &'static str) -> impl Fn(sled::Error) -> StoreError {
    move |error| failed(operation, said(error))
}

fn said(error: sled::Error) -> FactsError {
    match error {
        sled::Error::Io(error) => refused(&error),
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) | sled::Error::CollectionNotFound(_) => {
            FactsError::corrupted(&error.to_string())
        }
        sled::Error::Unsupported(_) => FactsError::new(&error.to_string()),
    }
}

/// The disk refused under it: as severe as if sled had said so.
fn disk(operation: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |error| failed(operation, refused(&error))
}

fn refused(error: &io::Error) -> FactsError {
    let text = error.to_string();
    if is_full(error.kind()) { FactsError::full(&text) } else { FactsError::new(&text) }
}

// A panic elsewhere leaves these values whole: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
