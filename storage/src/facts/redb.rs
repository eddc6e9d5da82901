//! Facts in one file of redb. The only file that names it.

use std::{fs::File, io, path::Path, sync::Arc};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _, ReadableTableMetadata as _,
    TableDefinition, WriteTransaction,
};

use super::{
    engine::{Durability, Entry, FactsError, FactsStore, KeyRange, Order, Reads, Writes, failed, guarded},
    table::Table,
};
use crate::{StoreError, directory, error::is_full};

/// Memory for cached pages. Lookups of a hit touch a few dozen pages; a store of 10^5 images is a gigabyte on disk, which the system caches
/// as well. A process that passes through it was seen to take two or three times as much.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

type OpenDatabase = dyn Fn(File) -> Result<Database, DatabaseError> + Send + Sync;

type OpenTable<'a> = redb::Table<'a, &'static [u8], &'static [u8]>;

/// An open file of facts.
pub(super) struct Redb {
    database: Database,
}

impl Redb {
    /// Opens the file at `path`, which exists and is no link. `thorough` walks all of it.
    pub(super) fn open(path: &Path, thorough: bool) -> Result<Arc<dyn FactsStore>, StoreError> {
        let mut this = Self::open_with(path, &open_database)?;
        if thorough {
            this.check(path)?;
        }
        Ok(Arc::new(this))
    }

    /// Makes an empty file at `path`, which must not exist.
    pub(super) fn create(path: &Path) -> Result<(), StoreError> {
        directory::create_file(path).map(drop)
    }

    fn open_with(path: &Path, open: &OpenDatabase) -> Result<Self, StoreError> {
        let file = directory::open_file_writable(path)?;
        open(file).map(|database| Self { database }).map_err(facts("open"))
    }

    fn check(&mut self, path: &Path) -> Result<(), StoreError> {
        if !guarded("check", || self.database.check_integrity().map_err(facts("check")))? {
            tracing::warn!(path = %path.display(), "the facts file was damaged and has been repaired");
        }
        Ok(())
    }

    fn write(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_write().map_err(facts("write"))?;
        transaction.set_durability(promised(durability)).map_err(facts("write"))?;
        // Opening after a crash takes milliseconds only if the last durable commit had this; it brings two-phase commit with it.
        transaction.set_quick_repair(true);
        work(&transaction)?;
        transaction.commit().map_err(facts("write"))
    }
}

impl FactsStore for Redb {
    fn read(&self) -> Result<Box<dyn Reads>, StoreError> {
        Ok(Box::new(self.database.begin_read().map_err(facts("read"))?))
    }

    fn apply(&self, writes: &Writes, durability: Durability) -> Result<(), StoreError> {
        self.write(durability, |transaction| {
            let mut open: Option<(Table, OpenTable<'_>)> = None;
            for ((table, key), value) in writes {
                let mut into = match open.take() {
                    Some((of, it)) if of == *table => it,
                    _ => transaction.open_table(definition(*table)).map_err(facts("write"))?,
                };
                match value {
                    Some(value) => into.insert(key.as_slice(), value.as_slice()).map(drop),
                    None => into.remove(key.as_slice()).map(drop),
                }
                .map_err(facts("write"))?;
                open = Some((*table, into));
            }
            Ok(())
        })
    }

    fn make(&self, tables: &[Table]) -> Result<(), StoreError> {
        self.write(Durability::Now, |transaction| {
            tables
                .iter()
                .try_for_each(|table| transaction.open_table(definition(*table)).map(drop).map_err(facts("write")))
        })
    }
}

impl Reads for ReadTransaction {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let open = self.open_table(definition(table)).map_err(facts("read"))?;
        let found = open.get(key).map_err(facts("read"))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, table: Table, (from, to): &KeyRange, order: Order, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let open = self.open_table(definition(table)).map_err(facts("read"))?;
        let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let mut found = open.range::<&[u8]>(bounds).map_err(facts("read"))?;
        let mut entries = Vec::new();
        while entries.len() < limit {
            let next = match order {
                Order::Ascending => found.next(),
                Order::Descending => found.next_back(),
            };
            let Some((key, value)) = next.transpose().map_err(facts("read"))? else {
                break;
            };
            entries.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(entries)
    }

    fn count(&self, table: Table) -> Result<usize, StoreError> {
        let open = self.open_table(definition(table)).map_err(facts("read"))?;
        Ok(usize::try_from(open.len().map_err(facts("read"))?).unwrap_or(usize::MAX))
    }
}

fn open_database(file: File) -> Result<Database, DatabaseError> {
    Builder::new().set_cache_size(CACHE_BYTES).create_file(file)
}

fn promised(durability: Durability) -> redb::Durability {
    match durability {
        Durability::Now => redb::Durability::Immediate,
        Durability::Later => redb::Durability::None,
    }
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

/// Turns what redb said into our error.
fn facts<E: Into<redb::Error>>(operation: &'static str) -> impl Fn(E) -> StoreError {
    move |error| failed(operation, said(&error.into()))
}

fn said(error: &redb::Error) -> FactsError {
    let text = error.to_string();
    if let redb::Error::Io(error) = error {
        if is_full(error.kind()) {
            return FactsError::full(&text);
        }
        // That is how it says that the file does not begin as its files do.
        if error.kind() == io::ErrorKind::InvalidData {
            return FactsError::corrupted(&text);
        }
    }
    let is_damage = matches!(
        error,
        redb::Error::Corrupted(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableDoesNotExist(_)
    );
    if is_damage { FactsError::corrupted(&text) } else { FactsError::new(&text) }
}

#[cfg(test)]
mod tests;
