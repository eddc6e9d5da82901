//! What is written in one commit: reads see the writes before them.

use std::{cell::RefCell, collections::BTreeMap, ops::Bound};

use super::{Entry, KeyRange, Order, Place, Reads, Writes};
use crate::{
    StoreError,
    facts::table::{self, Table},
};

/// Writes that are made together, on top of what was there.
pub(crate) struct Batch {
    before: Box<dyn Reads>,
    writes: RefCell<Writes>,
}

impl Batch {
    pub(super) fn new(before: Box<dyn Reads>) -> Self {
        Self { before, writes: RefCell::default() }
    }

    pub(super) fn finish(self) -> Writes {
        self.writes.into_inner()
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed = match self.writes.borrow().get(&(table, key.to_vec())) {
            Some(written) => written.clone(),
            None => self.before.get(table, key)?,
        };
        sealed.map(|sealed| table::unseal(table, key, sealed)).transpose()
    }

    /// The first key of `range`; its value may be damaged.
    pub(crate) fn first_key(&self, table: Table, range: KeyRange) -> Result<Option<Vec<u8>>, StoreError> {
        self.end_key(table, &range, Order::Ascending)
    }

    /// The first `limit` keys of `range`; their values may be damaged.
    pub(crate) fn keys(&self, table: Table, range: &KeyRange, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let entries = self.scan_sealed(table, range, Order::Ascending, limit)?;
        Ok(entries.into_iter().map(|(key, _)| key).collect())
    }

    /// The last key of `range`; its value may be damaged.
    pub(crate) fn last_key(&self, table: Table, range: KeyRange) -> Result<Option<Vec<u8>>, StoreError> {
        self.end_key(table, &range, Order::Descending)
    }

    /// How many entries a table will have.
    pub(crate) fn count(&self, table: Table) -> Result<usize, StoreError> {
        let mut count = self.before.count(table)?;
        let writes = self.writes.borrow();
        for ((_, key), value) in writes.range((table, Vec::new())..).take_while(|((of, _), _)| *of == table) {
            match (self.before.get(table, key)?, value) {
                (None, Some(_)) => count += 1,
                (Some(_), None) => count = count.saturating_sub(1),
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
        Ok(count)
    }

    pub(crate) fn put(&self, table: Table, key: &[u8], value: &[u8]) {
        let sealed = table::seal(table, key, value);
        self.writes.borrow_mut().insert((table, key.to_vec()), Some(sealed));
    }

    pub(crate) fn remove(&self, table: Table, key: &[u8]) {
        self.writes.borrow_mut().insert((table, key.to_vec()), None);
    }

    fn end_key(&self, table: Table, range: &KeyRange, order: Order) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.scan_sealed(table, range, order, 1)?.into_iter().next().map(|(key, _)| key))
    }

    /// The first entries of `range`, as they will be. No value is looked at.
    fn scan_sealed(
        &self,
        table: Table,
        range: &KeyRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        if is_empty(range) {
            return Ok(Vec::new());
        }
        let writes = self.writes.borrow();
        let written = || writes.range(in_table(table, range)).take_while(|((of, _), _)| *of == table);
        let written = written().map(|((_, key), value)| (key.clone(), value.clone())).collect();
        merged(|limit| self.before.scan(table, range, order, limit), &written, order, limit)
    }
}

/// The first entries of a range, where `written` has replaced or taken away some of those that are `there`.
pub(crate) fn merged(
    there: impl FnOnce(usize) -> Result<Vec<Entry>, StoreError>,
    written: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    order: Order,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    // Each removal can take away one of the entries that were there.
    let removed = written.values().filter(|value| value.is_none()).count();
    let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = there(limit.saturating_add(removed))?.into_iter().collect();
    for (key, value) in written {
        match value {
            Some(value) => merged.insert(key.clone(), value.clone()),
            None => merged.remove(key),
        };
    }
    let merged = merged.into_iter();
    Ok(match order {
        Order::Ascending => merged.take(limit).collect(),
        Order::Descending => merged.rev().take(limit).collect(),
    })
}

/// Whether no key can be in it: the standard library's ordered maps panic at most of these.
pub(crate) fn is_empty(range: &KeyRange) -> bool {
    match range {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
    }
}

/// The same range of one table's keys; unbounded, it ends where another table begins.
pub(crate) fn in_table(table: Table, (from, to): &KeyRange) -> (Bound<Place>, Bound<Place>) {
    let here = |key: &Vec<u8>| (table, key.clone());
    let from = if *from == Bound::Unbounded { Bound::Included((table, Vec::new())) } else { from.as_ref().map(here) };
    (from, to.as_ref().map(here))
}
