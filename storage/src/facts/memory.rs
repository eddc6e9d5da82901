//! Facts in memory: gone with the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    engine::{Durability, Entry, FactsStore, KeyRange, Order, Place, Reads, Writes, in_table, is_empty},
    table::Table,
};
use crate::StoreError;

/// Facts that need no disk. A snapshot shares what was there; the first commit beside one copies it.
#[derive(Default)]
pub(super) struct Memory {
    entries: RwLock<Arc<Entries>>,
}

type Entries = BTreeMap<Place, Vec<u8>>;

impl FactsStore for Memory {
    fn read(&self) -> Result<Box<dyn Reads>, StoreError> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(Arc::clone(&entries)))
    }

    fn apply(&self, writes: &Writes, _: Durability) -> Result<(), StoreError> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entries = Arc::make_mut(&mut entries);
        for (key, value) in writes {
            match value {
                Some(value) => entries.insert(key.clone(), value.clone()),
                None => entries.remove(key),
            };
        }
        Ok(())
    }

    fn make(&self, _: &[Table]) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Reads for Arc<Entries> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(Entries::get(self, &(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, range: &KeyRange, order: Order, limit: usize) -> Result<Vec<Entry>, StoreError> {
        if is_empty(range) {
            return Ok(Vec::new());
        }
        let found = self.range(in_table(table, range));
        let entry = |((_, key), value): (&Place, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match order {
            Order::Ascending => found.take_while(|((of, _), _)| *of == table).take(limit).map(entry).collect(),
            Order::Descending => found.rev().skip_while(|((of, _), _)| *of != table).take(limit).map(entry).collect(),
        })
    }

    fn count(&self, table: Table) -> Result<usize, StoreError> {
        Ok(self.range((table, Vec::new())..).take_while(|((of, _), _)| *of == table).count())
    }
}
