//! Facts as an older version wrote them.
//!
//! Format 1 had no contents, no uses, and its edges by child began with the repository. All of that is made from what is there; what
//! lies in the directory is compared with it later, in the background. Format 2 did not know what was served under tags, which nothing
//! tells afterwards: it begins with none. Begun again where it was interrupted: the format changes last.

use super::{
    engine::{Batch, Durability, Engine, Entry, Order},
    links,
    table::Table,
    verdicts,
};
use crate::{StoreError, facts::codec::Encoder};

/// What can be read.
pub(super) const FROM: [&[u8]; 2] = [FIRST, b"facts 2"];
const FIRST: &[u8] = b"facts 1";
/// Entries written in one commit.
const GROUP: usize = 4096;

pub(super) fn run(engine: &Engine, from: &[u8], done: impl FnOnce(&Batch)) -> Result<(), StoreError> {
    tracing::info!("the facts are of an older version: bringing them up to date");
    engine.make(&Table::ALL)?;
    if from == FIRST {
        each(engine, Table::Children, |batch, (key, value)| links::copy_to_child(batch, key, value))?;
        each(engine, Table::Manifests, |batch, (key, value)| verdicts::meet(batch, key, value))?;
    }
    engine.commit(Durability::Now, |batch| {
        done(batch);
        Ok(())
    })
}

fn each(
    engine: &Engine,
    table: Table,
    write: impl Fn(&Batch, &Entry) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let range = match after {
            Some(key) => Encoder::default().prefix_after(key),
            None => Encoder::default().prefix(),
        };
        let entries = engine.view()?.scan(table, range, Order::Ascending, GROUP)?;
        engine.commit(Durability::Now, |batch| entries.iter().try_for_each(|entry| write(batch, entry)))?;
        let Some((last, _)) = entries.into_iter().next_back() else { return Ok(()) };
        after = Some(last);
    }
}
