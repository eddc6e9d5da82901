//! Facts by key: tags and their history, which manifests a repository has, verdicts, notes on evidence, typed edges.
//!
//! Reads go through a [`Snapshot`] and may run inline in async code. Writes go to one thread, which puts all that has gathered
//! into one durable commit, and are answered after it; in a simulation ([`work::in_place`](crate::work::in_place)) whoever asks commits.

use std::{fmt, path::PathBuf, sync::Arc};

pub use self::{
    change::Change,
    contents::{Amount, Content, ContentClass, Totals},
    engine::FactsError,
    links::{Edge, EdgeKind, Edges},
    loss::Loss,
    open::FactsIn,
    served::{TagLook, TagServed, TagTarget},
    tags::{TagEvent, TagFact},
    uses::Usage,
    verdicts::{EvidenceNote, ManifestFact, StoredVerdict},
};
use self::{
    engine::{Engine, Entry, FactsStore, KeyRange, Order, View},
    memory::Memory,
    table::Table,
    writer::Writer,
};
use crate::{Options, StoreError, directory::Directory};

mod change;
mod codec;
mod contents;
mod engine;
mod links;
mod loss;
mod memory;
mod migrate;
mod open;
mod redb;
mod served;
#[cfg(feature = "sled")]
mod sled;
mod table;
mod tags;
mod uses;
mod verdicts;
mod writer;

/// The facts of a store. A cheap handle; it keeps the store locked.
#[derive(Debug, Clone)]
pub struct Facts {
    writer: Arc<Writer>,
}

/// What opening the facts has met with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactsState {
    /// They were there and could be read.
    Intact,
    /// There was no file of facts; the store begins with none.
    New,
    /// There was no file of facts, but blobs. The store begins with none as where it was damaged, and blobs are kept for their return.
    Lost,
    /// The file was damaged. The store begins with none: tags are asked for anew, verdicts are made anew, tag history is lost.
    SetAside {
        /// Where the damaged file lies now, for a person to look at.
        moved_to: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
}

impl Facts {
    pub(crate) fn open(directory: Arc<Directory>, options: &Options) -> Result<(Self, FactsState), StoreError> {
        let (engine, state) = open::open(&directory, options.facts)?;
        let writer = Arc::new(Writer::start(Some(directory), engine, options)?);
        Ok((Self { writer }, state))
    }

    pub(crate) fn in_memory(tag_history_max: usize) -> Result<Self, StoreError> {
        let memory: Arc<dyn FactsStore> = Arc::new(Memory::default());
        let engine = Engine::new(move || Ok(Arc::clone(&memory)))?;
        let writer = Arc::new(Writer::start(None, engine, &Options::new(tag_history_max))?);
        Ok(Self { writer })
    }

    /// Everything read through the snapshot is of this instant. Drop it before streaming a body: it keeps old pages alive.
    pub fn read(&self) -> Result<Snapshot, StoreError> {
        let view = self.writer.engine().view();
        let view = view.inspect_err(|error| self.writer.notice(error))?;
        Ok(Snapshot { view, writer: Arc::clone(&self.writer) })
    }

    /// Why the facts were given up until the next start, where they were: after a failed write or sync nobody knows what is on disk.
    #[must_use]
    pub fn failure(&self) -> Option<FactsError> {
        self.writer.engine().failure()
    }

    /// Makes all `changes`, in their order, or none; durable when this returns, as far as [`Fsync`](crate::Fsync) says. Where the returned future is dropped they may
    /// still be made. After the disk has failed, every later call fails too, until the process starts again; after it was full,
    /// the next call tries again.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.writer.apply(changes).await
    }
}

/// The facts as they were at one instant. `None` is an honest "not known"; what cannot be read is an error.
pub struct Snapshot {
    view: View,
    /// Keeps the store locked too: nobody else may open the file while this looks at it.
    writer: Arc<Writer>,
}

impl Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.noticed(self.view.get(table, key))
    }

    fn scan(&self, table: Table, range: KeyRange, order: Order, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.noticed(self.view.scan(table, range, order, limit))
    }

    fn count(&self, table: Table) -> Result<usize, StoreError> {
        self.view.count(table)
    }

    /// Damage is an error for the reader, and a reason to look at the whole file at the next start.
    fn noticed<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        read.inspect_err(|error| self.writer.notice(error))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
