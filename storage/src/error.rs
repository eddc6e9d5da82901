//! What can go wrong with a store. None of it is ever a miss: a blob or fact that is not there is `None`, not an error.

use std::{io, path::PathBuf};

use oci::{Digest, DigestMismatch};

use crate::facts::FactsError;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One process owns a store; another one does already.
    #[error("store {} is in use by another process", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// Whoever can write into the store decides what is served.
    #[error("store directory {} can be written to by others: want mode 0700, got {mode:04o}", path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory was written by another version, or is no store.
    #[error("store {} has format {got}, this build reads and writes {want}", path.display())]
    OtherFormat {
        /// The store's directory.
        path: PathBuf,
        /// What this build writes.
        want: String,
        /// What was found.
        got: String,
    },
    /// There are facts, and nowhere the blobs they speak of.
    #[error(
        "store {} has facts, but no directory {}: mount what it lies on, or make it to go on without its blobs",
        path.display(), blobs.display()
    )]
    NoBlobs {
        /// The store's directory.
        path: PathBuf,
        /// Where they should lie.
        blobs: PathBuf,
    },
    /// Its facts lie in another kind of file than the configuration says: they would be forgotten.
    #[error("store {} keeps its facts in {got}, the configuration wants {want}", path.display())]
    OtherFacts {
        /// The store's directory.
        path: PathBuf,
        /// Where the configuration wants them.
        want: &'static str,
        /// Where they are.
        got: &'static str,
    },
    /// The configuration asks for what was left out of this build.
    #[error("cannot open {}: this build has no {what}; one made with `--features {what}` has", path.display())]
    NotBuilt {
        /// What was to be opened.
        path: PathBuf,
        /// The feature it needs.
        what: &'static str,
    },
    /// Something else lies where the store keeps a file or directory: a symbolic link, a pipe, a device.
    #[error("store path {} is not a {want}", path.display())]
    Unexpected {
        /// Where.
        path: PathBuf,
        /// What should lie there.
        want: &'static str,
    },
    /// A stored blob has rotted. It was moved to `quarantine/`, so the next lookup is an honest miss.
    #[error("stored blob is damaged and was moved to quarantine: want {want}, got {got} after {bytes} bytes")]
    Corrupt {
        /// The digest it is stored under.
        want: Digest,
        /// The digest of what is on disk.
        got: Digest,
        /// How many bytes are on disk.
        bytes: u64,
    },
    /// A stored blob became shorter while it was read.
    #[error("stored blob {digest} ends early: want {want} bytes, got {got}")]
    Truncated {
        /// The blob.
        digest: Digest,
        /// Its size when it was opened, bytes.
        want: u64,
        /// Where it ends now, bytes.
        got: u64,
    },
    /// A stored blob is larger than its reader wants to hold in memory.
    #[error("stored blob {digest} is too large to be read at once: want at most {want_max} bytes, got {got}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The reader's limit, bytes.
        want_max: u64,
        /// The blob's size, bytes.
        got: u64,
    },
    /// The key-value store failed.
    #[error("cannot {operation} facts")]
    Facts {
        /// What was tried, as a verb.
        operation: &'static str,
        /// What it said.
        source: FactsError,
    },
    /// A stored fact has rotted, or was written by something else.
    #[error("a fact in table {table} is unreadable: {why}")]
    FactUnreadable {
        /// The table it lies in.
        table: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The thread that works on the disk ended before it answered: the process is stopping, or it panicked.
    #[error("the store stopped before it could {operation}")]
    Stopped {
        /// What it should have done, as a verb.
        operation: &'static str,
    },
}

impl StoreError {
    /// Whether the system has no file descriptor left: nothing is wrong with the store, and others are given back.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "only the file system runs out of them")]
    pub fn is_out_of_files(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                let out = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
                source.raw_os_error().is_some_and(|error| out.contains(&error))
            }
            _ => false,
        }
    }

    pub(crate) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { operation, path, source }
    }

    /// Whether only damage of the facts file can have brought this about.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::FactUnreadable { .. })
            || matches!(self, Self::Facts { source, .. } if source.is_corrupted())
    }

    /// Whether the disk, a quota or a file size limit is used up: content can still be streamed without keeping it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        if let Self::Io { source, .. } = self {
            return is_full(source.kind());
        }
        matches!(self, Self::Facts { source, .. } if source.is_full())
    }
}

pub(crate) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Why content did not get into the store. Nothing of it is visible under its digest, unless only the very last step failed, the
/// sync of the directory: then the whole of it may be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The bytes are not what their digest says.
    #[error(transparent)]
    Mismatch(#[from] DigestMismatch),
    /// Fewer bytes came than announced.
    #[error("content of {digest} ends early: want {want} bytes, got {got}")]
    Short {
        /// The blob.
        digest: Digest,
        /// Its announced size, bytes.
        want: u64,
        /// What came, bytes.
        got: u64,
    },
    /// More bytes came than announced.
    #[error("content of {digest} goes on past its end: want {want} bytes, got at least {got}")]
    Long {
        /// The blob.
        digest: Digest,
        /// Its announced size, bytes.
        want: u64,
        /// What came, bytes.
        got: u64,
    },
    /// An earlier write of the same ingest had failed, and said why then.
    #[error("ingest of {digest} has failed before")]
    Ended {
        /// The blob.
        digest: Digest,
    },
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}
