//! The key-value store, behind get, scan and commit. The only file that names it.

use std::{
    fmt,
    fs::File,
    io,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use super::table::{self, Table};
use crate::{StoreError, directory, error::is_full};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

/// Memory for cached pages. Lookups of a hit touch a few dozen pages; a store of 10^5 images is half a gigabyte on disk.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

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

    fn new(text: &str) -> Self {
        Self { text: text.into(), full: false, corrupted: false }
    }

    fn corrupted(text: &str) -> Self {
        Self { corrupted: true, ..Self::new(text) }
    }

    fn said(error: &redb::Error) -> Self {
        let mut this = Self::new(&error.to_string());
        if let redb::Error::Io(error) = error {
            this.full = is_full(error.kind());
            // That is how it says that the file does not begin as its files do.
            this.corrupted = error.kind() == io::ErrorKind::InvalidData;
        }
        this.corrupted |= matches!(
            error,
            redb::Error::Corrupted(_)
                | redb::Error::RepairAborted
                | redb::Error::TableTypeMismatch { .. }
                | redb::Error::TypeDefinitionChanged { .. }
                | redb::Error::TableDoesNotExist(_)
        );
        this
    }
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for FactsError {}

type OpenDatabase = dyn Fn(File) -> Result<Database, DatabaseError> + Send + Sync;

/// The open file of facts.
pub(crate) struct Engine {
    path: PathBuf,
    open: Box<OpenDatabase>,
    state: RwLock<State>,
}

enum State {
    Open(Arc<Database>),
    /// Given up because the disk was full; opened again by whoever comes next.
    Closed,
    /// Given up for this process: after a failed sync nobody knows what is on disk, and only a fresh start reads it anew.
    Failed(FactsError),
}

impl Engine {
    /// Opens the file at `path`, which exists and is no link. `thorough` walks all of it.
    pub(crate) fn open(path: &Path, thorough: bool) -> Result<Self, StoreError> {
        Self::open_with(path, thorough, Box::new(open_database))
    }

    fn open_with(path: &Path, thorough: bool, open: Box<OpenDatabase>) -> Result<Self, StoreError> {
        let mut database = open_guarded(path, &open)?;
        if thorough {
            let checked = catch_unwind(AssertUnwindSafe(|| database.check_integrity()));
            let sound = match checked {
                Ok(checked) => checked.map_err(facts("check"))?,
                Err(_) => return Err(failed("check", FactsError::corrupted("the check panicked"))),
            };
            if !sound {
                tracing::warn!(path = %path.display(), "the facts file was damaged and has been repaired");
            }
        }
        Ok(Self { path: path.to_owned(), open, state: RwLock::new(State::Open(Arc::new(database))) })
    }

    /// Makes an empty file of facts at `path`, which must not exist, with all tables and `meta`, durably except for its name.
    pub(crate) fn create(path: &Path, meta: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
        drop(directory::create_file(path)?);
        let engine = Self::open(path, false)?;
        engine.commit(|batch| {
            for table in Table::ALL {
                batch.open(table)?;
            }
            meta.iter().try_for_each(|(key, value)| batch.put(Table::Meta, key, value))
        })
    }

    /// A snapshot: everything read through it is of one instant.
    pub(crate) fn view(&self) -> Result<View, StoreError> {
        let database = self.database("read")?;
        let transaction = database.begin_read().map_err(facts("read"))?;
        Ok(View { transaction })
    }

    /// All that `work` writes, durable when this returns; nothing of it on any error.
    pub(crate) fn commit(&self, work: impl FnOnce(&mut Batch) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let database = self.database("write")?;
        // A damaged page can make the store panic. The waiting requests still get an answer.
        let done = catch_unwind(AssertUnwindSafe(|| commit(&database, work)))
            .unwrap_or_else(|_| Err(failed("write", FactsError::corrupted("the store panicked"))));
        drop(database);
        if let Err(StoreError::Facts { source, .. }) = &done {
            self.give_up(source);
        }
        done
    }

    fn give_up(&self, error: &FactsError) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = if error.is_full() { State::Closed } else { State::Failed(error.clone()) };
    }

    fn database(&self, operation: &'static str) -> Result<Arc<Database>, StoreError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(database) => return Ok(Arc::clone(database)),
            State::Failed(error) => return Err(failed(operation, error.clone())),
            State::Closed => {}
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(database) = &*state {
            return Ok(Arc::clone(database));
        }
        // Refused by the file's own lock as long as a snapshot from before is alive; the next caller tries again.
        let database = Arc::new(open_guarded(&self.path, &self.open)?);
        *state = State::Open(Arc::clone(&database));
        Ok(database)
    }
}

fn open_database(file: File) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(CACHE_BYTES).create_file(file)
}

fn open_guarded(path: &Path, open: &OpenDatabase) -> Result<Database, StoreError> {
    let file = directory::open_file_writable(path)?;
    match catch_unwind(AssertUnwindSafe(|| open(file))) {
        Ok(opened) => opened.map_err(facts("open")),
        Err(_) => Err(failed("open", FactsError::corrupted("the store panicked"))),
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

/// Turns what the key-value store said into our error.
fn facts<E: Into<redb::Error>>(operation: &'static str) -> impl Fn(E) -> StoreError {
    move |error| failed(operation, FactsError::said(&error.into()))
}

fn failed(operation: &'static str, source: FactsError) -> StoreError {
    StoreError::Facts { operation, source }
}

fn commit(database: &Database, work: impl FnOnce(&mut Batch) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let mut transaction = database.begin_write().map_err(facts("write"))?;
    transaction.set_durability(Durability::Immediate).map_err(facts("write"))?;
    // Opening after a crash takes milliseconds only if the last durable commit had this; it brings two-phase commit with it.
    transaction.set_quick_repair(true);
    let mut batch = Batch { transaction };
    work(&mut batch)?;
    batch.transaction.commit().map_err(facts("write"))
}

/// What is read of one instant.
pub(crate) struct View {
    transaction: ReadTransaction,
}

impl View {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let open = self.transaction.open_table(definition(table)).map_err(facts("read"))?;
        get(&open, table, key)
    }

    /// Up to `limit` entries of `range`, in `order` of their keys.
    pub(crate) fn scan(
        &self,
        table: Table,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let open = self.transaction.open_table(definition(table)).map_err(facts("read"))?;
        scan(&open, table, &range, order, limit)
    }
}

/// What is written in one commit; reads see the writes before them.
pub(crate) struct Batch {
    transaction: WriteTransaction,
}

impl Batch {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.open(table)?, table, key)
    }

    /// The first key of `range`; its value may be damaged.
    pub(crate) fn first_key(&self, table: Table, range: KeyRange) -> Result<Option<Vec<u8>>, StoreError> {
        end_key(&self.open(table)?, &range, Order::Ascending)
    }

    /// The last key of `range`; its value may be damaged.
    pub(crate) fn last_key(&self, table: Table, range: KeyRange) -> Result<Option<Vec<u8>>, StoreError> {
        end_key(&self.open(table)?, &range, Order::Descending)
    }

    pub(crate) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let sealed = table::seal(table, key, value);
        self.open(table)?.insert(key, sealed.as_slice()).map_err(facts("write"))?;
        Ok(())
    }

    pub(crate) fn remove(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.open(table)?.remove(key).map_err(facts("write"))?;
        Ok(())
    }

    fn open(&self, table: Table) -> Result<redb::Table<'_, &'static [u8], &'static [u8]>, StoreError> {
        self.transaction.open_table(definition(table)).map_err(facts("write"))
    }
}

/// Keys from the first bound to the second, in byte order.
pub(crate) type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);
/// A key and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

fn get(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    name: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(found) = table.get(key).map_err(facts("read"))? else {
        return Ok(None);
    };
    table::unseal(name, key, found.value()).map(Some)
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    name: Table,
    range: &KeyRange,
    order: Order,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let mut found = range_of(table, range)?;
    let mut entries = Vec::new();
    while entries.len() < limit {
        let Some((key, value)) = next(&mut found, order)? else {
            break;
        };
        let value = table::unseal(name, key.value(), value.value())?;
        entries.push((key.value().to_vec(), value));
    }
    Ok(entries)
}

fn end_key(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: &KeyRange,
    order: Order,
) -> Result<Option<Vec<u8>>, StoreError> {
    let found = next(&mut range_of(table, range)?, order)?;
    Ok(found.map(|(key, _)| key.value().to_vec()))
}

type Found<'a> = redb::Range<'a, &'static [u8], &'static [u8]>;
type Guard<'a> = redb::AccessGuard<'a, &'static [u8]>;

fn range_of<'a>(
    table: &'a impl ReadableTable<&'static [u8], &'static [u8]>,
    (from, to): &KeyRange,
) -> Result<Found<'a>, StoreError> {
    let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
    table.range::<&[u8]>(bounds).map_err(facts("read"))
}

fn next<'a>(found: &mut Found<'a>, order: Order) -> Result<Option<(Guard<'a>, Guard<'a>)>, StoreError> {
    let next = match order {
        Order::Ascending => found.next(),
        Order::Descending => found.next_back(),
    };
    next.transpose().map_err(facts("read"))
}

#[cfg(test)]
mod tests;
