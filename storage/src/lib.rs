//! Bytes by digest, facts by key, in one directory that one process owns.
//!
//! ```text
//! <storage>/                    0700; refused where others may write to it
//! ├── control.sock              where the server that owns the store answers commands; 0600
//! ├── lock                      held by the process that owns the store; second one refused
//! ├── format                    what wrote the tree; another version's is refused
//! ├── unsynced                  there while blobs may be half, as fsync was "never" and no scrub has seen all of them since
//! ├── blobs/
//! │   ├── sha256/<hex>          complete, hashed, synced; replaced or unlinked, never written to
//! │   └── sha512/<hex>
//! ├── ingest/<digest>.<n>       being written; removed at start
//! ├── ingest/<digest>.<m>.<u>.part  what upstream u has sent of a blob of m bytes; taken up again when it is wanted from there
//! ├── quarantine/<digest>       once a blob, then rotten; kept for a person to look at
//! ├── facts.redb                tags, tag history, manifests, verdicts, evidence notes, edges, contents, uses, pins
//! ├── facts.suspect             facts gave wrong answers: the next start checks the whole file
//! ├── facts.damaged-<n>         what such a check, or opening, found damaged
//! └── trust/                    trust roots; has a lock of its own, so that a command can write here beside a server
//! ```
//!
//! It knows how to keep what it is given: nothing visible is half written, nothing acknowledged is lost by kill -9 or a power cut,
//! nothing that has rotted is taken for sound, and an error is never a miss. It refuses to know what any of it is worth: verdicts
//! and evidence notes are bytes to it, edges are only kept apart, and no clock is read.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

mod blobs;
mod directory;
mod error;
mod facts;
mod gc;
mod ingest;
mod ledger;
pub mod pages;
mod scrub;
mod told;
mod trust;
pub mod work;

pub use blobs::{Blob, Blobs};
pub use error::{IngestError, StoreError};
pub use facts::{
    Amount, Change, Content, ContentClass, Edge, EdgeKind, Edges, EvidenceNote, Facts, FactsError, FactsIn, FactsState,
    Loss, ManifestFact, Snapshot, StoredVerdict, TagEvent, TagFact, TagLook, TagServed, TagTarget, Totals, Usage,
};
pub use gc::{Account, Budget, Freed, Keeper, Left, Marks, Sweep};
pub use ingest::{Growing, Ingest, Progress};
pub use ledger::Ledger;
pub use scrub::{Pass, Scrub, Step};
pub use told::Told;
pub use trust::{TrustDirectory, TrustLock};

use blobs::{Files, Memory};
use directory::Directory;

/// An open store. The lock is held until it, its handles, and everything begun through them are dropped.
#[derive(Debug, Clone)]
pub struct Store {
    blobs: Blobs,
    facts: Facts,
    facts_state: FactsState,
    /// None where the store is in memory.
    directory: Option<Arc<Directory>>,
}

impl Store {
    /// Opens the store in `path`, makes it where there is none, and removes what a killed process left half written. Blocks.
    /// A tag's history keeps `tag_history_max` events.
    pub fn open(path: &Path, tag_history_max: usize) -> Result<Self, StoreError> {
        Self::open_with(path, &Options::new(tag_history_max))
    }

    /// As [`open`](Self::open), with everything that can be chosen.
    pub fn open_with(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let directory = Arc::new(Directory::open(path)?);
        let (facts, facts_state) = Facts::open(Arc::clone(&directory), options)?;
        Ok(Self {
            blobs: Blobs::new(Files::new(Arc::clone(&directory), options.fsync, options.min_free_bytes)?),
            facts,
            facts_state,
            directory: Some(directory),
        })
    }

    /// A store that needs no disk and is gone with its last handle; everything else it keeps to as [`open`](Self::open)'s does.
    pub fn in_memory(tag_history_max: usize) -> Result<Self, StoreError> {
        let facts = Facts::in_memory(tag_history_max)?;
        Ok(Self { blobs: Blobs::new(Memory::default()), facts, facts_state: FactsState::New, directory: None })
    }

    /// Where the server that owns the store in `path` answers commands, where one does.
    ///
    /// # Errors
    /// Where others can write into the directory: they could answer in the server's place.
    pub fn socket_of(path: &Path) -> Result<Option<PathBuf>, StoreError> {
        directory::socket_of(path)
    }

    /// Puts a socket that only the owner of the store can open where [`Store::socket_of`] finds it: `bind` makes it where it is told
    /// to, and never where others could reach it before it is closed to them.
    ///
    /// # Errors
    /// When it cannot be made: a store in memory has no place for it; the name of the directory may be too long for a socket.
    pub fn socket<T>(&self, bind: impl FnOnce(&Path) -> std::io::Result<T>) -> Result<Socket<T>, StoreError> {
        let nowhere = || StoreError::io("bind", "control.sock")(std::io::ErrorKind::Unsupported.into());
        let directory = self.directory.clone().ok_or_else(nowhere)?;
        let making = directory.socket_in_the_making()?;
        let listener = bind(&making).map_err(StoreError::io("bind", &making))?;
        let path = directory.install_socket()?;
        Ok(Socket { listener, path, directory })
    }

    /// Bytes by digest.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// What is not yet written down, and the byte budget.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        self.blobs.ledger()
    }

    /// Facts by key.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What opening the facts has met with: worth a line in the log, and a count.
    #[must_use]
    pub fn facts_state(&self) -> &FactsState {
        &self.facts_state
    }
}

/// What can be chosen of a store in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many tags are kept.
    pub tags_max: usize,
    /// How many events a tag's history keeps.
    pub tag_history_max: usize,
    /// How many images are kept of those that a tag was answered with, the last ones.
    pub tag_targets_max: usize,
    /// What is on disk when an answer is given.
    pub fsync: Fsync,
    /// What keeps the facts.
    pub facts: FactsIn,
    /// What blobs that arrive bit by bit leave free of the disk, bytes.
    pub min_free_bytes: u64,
}

/// Tags kept, where nobody says otherwise.
const TAGS: usize = 1_000_000;
/// Images kept of those that a tag was answered with, where nobody says otherwise.
const TAG_TARGETS: usize = 8;

impl Options {
    /// The safe choices.
    #[must_use]
    pub fn new(tag_history_max: usize) -> Self {
        Self {
            tags_max: TAGS,
            tag_history_max,
            tag_targets_max: TAG_TARGETS,
            fsync: Fsync::Always,
            facts: FactsIn::Redb,
            min_free_bytes: 0,
        }
    }
}

/// What is on disk when an answer is given. A process that is killed loses at most the facts of a second in any case but the first,
/// in which it loses nothing; the names are about a machine that loses power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Everything that was acknowledged.
    Always,
    /// The content of blobs, before they have their names. Names and facts follow within seconds; what is lost is asked for anew.
    Content,
    /// Nothing for sure: a blob's name may stand for half of it, so whoever opens it has to hash it.
    Never,
}

/// A socket in the store's directory. Its name goes when this is dropped, and the lock is held until then.
#[derive(Debug)]
pub struct Socket<T> {
    /// What listens.
    pub listener: T,
    /// Where.
    pub path: PathBuf,
    directory: Arc<Directory>,
}

impl<T> Drop for Socket<T> {
    fn drop(&mut self) {
        // A name that stays is replaced by the next server, and nobody answers there until then.
        if let Err(error) = self.directory.remove_socket() {
            tracing::warn!("the control socket stays behind: {error}");
        }
    }
}
