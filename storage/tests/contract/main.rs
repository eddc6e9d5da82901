//! What every store keeps to, asked of it from outside.
#![expect(clippy::duplicate_mod, reason = "every implementation is asked the same")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests damage the store behind its back, and may stop at the first surprise"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, Repository, Tag, UnixTime};
use storage::{Blob, Edge, EdgeKind, FactsIn, Ingest, Options, Store, StoreError};
use tempfile::TempDir;

/// One implementation, and the parts of the contract that are asked of it. The parts are the same files for all.
macro_rules! suite {
    ($name:ident, $kind:ident, $($part:ident),+) => {
        #[path = "."]
        mod $name {
            #[allow(dead_code, reason = "each part takes what it needs")]
            const OTHER: storage::FactsIn = crate::$kind.other();

            fn place() -> crate::Place {
                crate::Place::new(crate::$kind)
            }

            $(mod $part;)+
        }
    };
}

mod crash;

const FILES: Kind = Kind::Files(FactsIn::Redb);
const MEMORY: Kind = Kind::Memory;
#[cfg(feature = "sled")]
const SLED: Kind = Kind::Files(FactsIn::Sled);

suite!(files, FILES, blobs, facts, followers, budget, dry_run, durable, kill, opening, resumed, rot, scrub);
suite!(memory, MEMORY, blobs, facts, followers);
#[cfg(feature = "sled")]
suite!(sled, SLED, blobs, facts, followers, durable, kill);

/// An implementation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Files(FactsIn),
    Memory,
}

impl Kind {
    const fn other(self) -> FactsIn {
        match self {
            Self::Files(FactsIn::Redb) => FactsIn::Sled,
            Self::Files(FactsIn::Sled) | Self::Memory => FactsIn::Redb,
        }
    }
}

const HISTORY_MAX: usize = 5;

/// A store in a directory of its own.
struct Place {
    kind: Kind,
    directory: TempDir,
}

impl Place {
    fn new(kind: Kind) -> Self {
        Self { kind, directory: tempfile::tempdir().unwrap() }
    }

    fn is_on_disk(&self) -> bool {
        self.kind != Kind::Memory
    }

    fn options(&self) -> Options {
        match self.kind {
            Kind::Files(facts) => Options { facts, ..Options::new(HISTORY_MAX) },
            Kind::Memory => Options::new(HISTORY_MAX),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Work that has answered may let go of the store a moment later, so that one just dropped may still be locked.
    fn open(&self) -> Store {
        if !self.is_on_disk() {
            return Store::in_memory(HISTORY_MAX).unwrap();
        }
        for _ in 0..500 {
            match Store::open_with(&self.path(), &self.options()) {
                Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
                opened => return opened.unwrap(),
            }
        }
        panic!("locked for five seconds");
    }

    /// The store after a restart; one in memory has none.
    fn reopen(&self, store: Store) -> Store {
        if !self.is_on_disk() {
            return store;
        }
        drop(store);
        self.open()
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        let algorithm = digest.algorithm().as_str();
        self.path().join("blobs").join(algorithm).join(digest.hex())
    }

    /// The names below a directory of the store.
    fn names(&self, directory: &str) -> Vec<String> {
        if !self.is_on_disk() {
            return Vec::new();
        }
        names(&self.path().join(directory))
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn addressed(bytes: impl Into<Bytes>) -> Addressed {
    Addressed::hash(Algorithm::Sha256, bytes.into())
}

/// Bytes that look like nothing and are different for every `seed`.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(byte).take(length).collect()
}

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn at(millis: u64) -> UnixTime {
    UnixTime::from_millis(millis)
}

fn edge(kind: EdgeKind, parent: &Digest, child: &Digest) -> Edge {
    Edge {
        kind,
        parent: parent.clone(),
        child: child.clone(),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        size: 1234,
    }
}

async fn whole(blob: &Blob) -> Bytes {
    let size = usize::try_from(blob.size()).unwrap();
    blob.read_at(0, size).await.unwrap()
}

/// Begins an ingest of `bytes` under `digest` and writes them in pieces of `piece` bytes.
async fn written(store: &Store, digest: &Digest, bytes: &Bytes, piece: usize) -> Ingest {
    let begun = store.blobs().ingest(digest.clone(), bytes.len() as u64);
    let mut ingest = begun.await.unwrap();
    for chunk in bytes.chunks(piece) {
        ingest.write(bytes.slice_ref(chunk)).await.unwrap();
    }
    ingest
}

/// A store that several tasks share.
fn shared(place: &Place) -> Arc<Store> {
    Arc::new(place.open())
}
