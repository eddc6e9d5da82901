//! Bytes by digest. A blob is visible only once its size and digest were right and it was on disk.

use std::sync::Arc;

use oci::{Addressed, Digest, DigestMismatch};

pub use self::blob::Blob;
pub(crate) use self::blob::{read_at, read_cached};
use self::page::Page;
use crate::{
    Ingest, StoreError,
    directory::{self, Directory},
    ingest,
};

mod blob;
mod page;

/// The blobs of a store. A cheap handle; it keeps the store locked.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: Arc<Directory>,
}

impl Blobs {
    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        Self { directory }
    }

    /// Opens a blob; `None` is a miss. Its bytes are not looked at: compare its size with the descriptor's, or use
    /// [`read`](Self::read) or [`open_verified`](Self::open_verified).
    pub async fn open(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        self.run("open a blob", digest, open).await
    }

    /// Opens a blob after hashing the very file that is returned. Where it has rotted: [`StoreError::Corrupt`], once; then it is
    /// a miss.
    pub async fn open_verified(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        self.run("verify a blob", digest, |directory, digest| {
            let Some(blob) = open(directory, digest)? else {
                return Ok(None);
            };
            let (got, bytes) = blob.hash()?;
            if got == *digest {
                return Ok(Some(blob));
            }
            Err(set_aside(directory, digest, got, bytes)?)
        })
        .await
    }

    /// Reads a small blob whole and hashes it. Where it has rotted: [`StoreError::Corrupt`], once; then it is a miss.
    pub async fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Option<Addressed>, StoreError> {
        self.run("read a blob", digest, move |directory, digest| {
            let Some(blob) = open(directory, digest)? else {
                return Ok(None);
            };
            if blob.size() > bytes_max {
                return Err(StoreError::TooLarge { digest: digest.clone(), want_max: bytes_max, got: blob.size() });
            }
            let length = usize::try_from(blob.size()).unwrap_or(usize::MAX);
            match Addressed::check(digest, blob.read_now(0, length)?) {
                Ok(addressed) => Ok(Some(addressed)),
                Err(DigestMismatch { got, bytes, .. }) => Err(set_aside(directory, digest, got, bytes)?),
            }
        })
        .await
    }

    /// Stores bytes that match their digest; durable when this returns. Replaces whatever lay under that digest.
    pub async fn put(&self, addressed: &Addressed) -> Result<(), StoreError> {
        let (directory, addressed) = (Arc::clone(&self.directory), addressed.clone());
        blocking("store a blob", move || ingest::put(&directory, &addressed)).await
    }

    /// Begins to store a blob of `size` bytes that arrives bit by bit. Several at once for one digest do not disturb each other.
    pub async fn ingest(&self, digest: Digest, size: u64) -> Result<Ingest, StoreError> {
        let directory = Arc::clone(&self.directory);
        blocking("begin an ingest", move || Ingest::begin(directory, digest, size)).await
    }

    /// Hashes a stored blob again. `false`: it had rotted and is in quarantine now, or there is none.
    pub async fn verify(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.open_verified(digest).await {
            Ok(blob) => Ok(blob.is_some()),
            Err(StoreError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a blob out of sight, for a person to look at; those who have it open go on reading. Fine where there is none.
    pub async fn quarantine(&self, digest: &Digest) -> Result<(), StoreError> {
        self.run("quarantine a blob", digest, quarantine).await
    }

    /// Up to `limit` digests of stored blobs that come after `after`, in order of algorithm and hex. Fewer than `limit`: the end.
    /// Reads the whole directory but holds no more than `limit` names.
    pub async fn list_page(&self, after: Option<&Digest>, limit: usize) -> Result<Vec<Digest>, StoreError> {
        let (directory, page) = (Arc::clone(&self.directory), Page::new(after, limit));
        blocking("list blobs", move || page.fill(&directory)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        digest: &Digest,
        work: impl FnOnce(&Directory, &Digest) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (directory, digest) = (Arc::clone(&self.directory), digest.clone());
        blocking(operation, move || work(&directory, &digest)).await
    }
}

fn open(directory: &Directory, digest: &Digest) -> Result<Option<Blob>, StoreError> {
    let found = directory::open_file(&directory.blob(digest))?;
    Ok(found.map(|(file, size)| Blob::new(digest.clone(), size, file)))
}

fn quarantine(directory: &Directory, digest: &Digest) -> Result<(), StoreError> {
    let name = format!("{}-{}", digest.algorithm(), digest.hex());
    directory::rename_if_present(&directory.blob(digest), &directory.quarantine().join(name))
}

fn set_aside(directory: &Directory, want: &Digest, got: Digest, bytes: u64) -> Result<StoreError, StoreError> {
    quarantine(directory, want)?;
    Ok(StoreError::Corrupt { want: want.clone(), got, bytes })
}

/// Runs work on the disk where it cannot hold up the network.
pub(crate) async fn blocking<T, E>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::Stopped { operation }.into()),
    }
}
