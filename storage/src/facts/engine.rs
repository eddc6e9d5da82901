//! The key-value store, behind read and apply.
//!
//! What every store of facts has in common is here, once: that values are sealed, that a commit's own reads see its writes, that a
//! panic is an answer, and that nothing is believed after a failed sync. What differs is a [`FactsStore`].

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

pub(crate) use self::batch::{Batch, in_table, is_empty};
use super::table::{self, Table};
use crate::StoreError;

pub(super) mod batch;

/// Keys and values in tables. Nothing in here knows what they mean.
pub(crate) trait FactsStore: Send + Sync {
    /// All that is written at this instant, whatever is written later. Never waits for a writer.
    fn read(&self) -> Result<Box<dyn Reads>, StoreError>;
    /// Makes all of `writes` or none.
    fn apply(&self, writes: &Writes, durability: Durability) -> Result<(), StoreError>;
    /// Makes those of the tables that are missing, durably.
    fn make(&self, tables: &[Table]) -> Result<(), StoreError>;
}

/// When a commit must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When it is answered, together with all commits before it.
    Now,
    /// With the next one that is: until then a crash forgets the whole of it.
    Later,
}

/// What was written up to one instant.
pub(crate) trait Reads: Send + Sync {
    /// What is stored under a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// The first `limit` entries of `range`, in `order`. An empty range has none.
    fn scan(&self, table: Table, range: &KeyRange, order: Order, limit: usize) -> Result<Vec<Entry>, StoreError>;
    /// How many entries a table has.
    fn count(&self, table: Table) -> Result<usize, StoreError>;
}

/// A key of a table.
pub(crate) type Place = (Table, Vec<u8>);
/// What is stored under a key from now on; `None`: nothing is.
pub(crate) type Writes = BTreeMap<Place, Option<Vec<u8>>>;
/// Keys from the first bound to the second, in byte order.
pub(crate) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);
/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// What the key-value store said. Cheap to clone: one failed commit answers many.
#[derive(Debug, Clone)]
pub struct FactsError {
    text: Arc<str>,
    full: bool,
    corrupted: bool,
}

impl FactsError {
    /// Whether the disk or a quota is used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the file itself is damaged, as opposed to unreachable.
    #[must_use]
    pub fn is_corrupted(&self) -> bool {
        self.corrupted
    }

    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), full: false, corrupted: false }
    }

    pub(super) fn full(text: &str) -> Self {
        Self { full: true, ..Self::new(text) }
    }

    pub(super) fn corrupted(text: &str) -> Self {
        Self { corrupted: true, ..Self::new(text) }
    }
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for FactsError {}

/// Opens the store, again and again: after a full disk it is opened anew.
type Open = dyn Fn() -> Result<Arc<dyn FactsStore>, StoreError> + Send + Sync;

/// An open store of facts.
pub(crate) struct Engine {
    open: Box<Open>,
    state: RwLock<State>,
    /// Whose commit it is: one's reads would miss the other's writes, and a store that one of them found full fails the other for
    /// another reason, after which nothing would be believed.
    turn: Mutex<()>,
}

enum State {
    Open(Arc<dyn FactsStore>),
    /// Given up because the disk was full; opened again by whoever comes next.
    Closed,
    /// Given up for this process: after a failed sync nobody knows what is on disk, and only a fresh start reads it anew.
    Failed(FactsError),
}

impl Engine {
    /// The store that `open` opens, now and whenever it had to be closed.
    pub(crate) fn new(
        open: impl Fn() -> Result<Arc<dyn FactsStore>, StoreError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let store = guarded("open", &open)?;
        Ok(Self { open: Box::new(open), state: RwLock::new(State::Open(store)), turn: Mutex::new(()) })
    }

    /// A snapshot: everything read through it is of one instant.
    pub(crate) fn view(&self) -> Result<View, StoreError> {
        self.store("read")?.read().map(View)
    }

    /// All that `work` writes; nothing of it on any error.
    pub(crate) fn commit(
        &self,
        durability: Durability,
        work: impl FnOnce(&Batch) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.store("write")?;
        // A damaged page can make the store panic. The waiting requests still get an answer.
        let done = guarded("write", || {
            let batch = Batch::new(store.read()?);
            work(&batch)?;
            store.apply(&batch.finish(), durability)
        });
        drop(store);
        if let Err(StoreError::Facts { source, .. }) = &done {
            self.give_up(source);
        }
        done
    }

    /// Makes every earlier commit durable.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.commit(Durability::Now, |_| Ok(()))
    }

    /// Makes the tables that are missing.
    pub(crate) fn make(&self, tables: &[Table]) -> Result<(), StoreError> {
        let store = self.store("write")?;
        guarded("write", || store.make(tables))
    }

    /// Why the store was given up for this process, where it was.
    pub(crate) fn failure(&self) -> Option<FactsError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Failed(error) => Some(error.clone()),
            State::Open(_) | State::Closed => None,
        }
    }

    fn give_up(&self, error: &FactsError) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = if error.is_full() { State::Closed } else { State::Failed(error.clone()) };
    }

    fn store(&self, operation: &'static str) -> Result<Arc<dyn FactsStore>, StoreError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(store) => return Ok(Arc::clone(store)),
            State::Failed(error) => return Err(failed(operation, error.clone())),
            State::Closed => {}
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(store) = &*state {
            return Ok(Arc::clone(store));
        }
        // Refused by the store's own lock as long as a snapshot from before is alive; the next caller tries again.
        let store = guarded("open", &self.open)?;
        *state = State::Open(Arc::clone(&store));
        Ok(store)
    }
}

/// A panic of the key-value store is an error: only damage brings it about.
pub(super) fn guarded<T>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err(failed(operation, FactsError::corrupted("the store panicked"))))
}

pub(super) fn failed(operation: &'static str, source: FactsError) -> StoreError {
    StoreError::Facts { operation, source }
}

/// What is read of one instant.
pub(crate) struct View(Box<dyn Reads>);

impl View {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(table, key)?.map(|sealed| table::unseal(table, key, sealed)).transpose()
    }

    pub(crate) fn count(&self, table: Table) -> Result<usize, StoreError> {
        self.0.count(table)
    }

    pub(crate) fn scan(
        &self,
        table: Table,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let entries = self.0.scan(table, &range, order, limit)?.into_iter();
        entries.map(|(key, sealed)| table::unseal(table, &key, sealed).map(|value| (key, value))).collect()
    }
}
