//! One stored blob, open.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use oci::{Digest, Hasher};

use super::{Content, blocking};
use crate::StoreError;

/// How much is read at a time while hashing, bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// A stored blob, held open: it stays readable when it is replaced, evicted or quarantined meanwhile.
#[derive(Debug, Clone)]
pub struct Blob {
    digest: Digest,
    size: u64,
    content: Arc<dyn Content>,
}

impl Blob {
    pub(crate) fn new(digest: Digest, size: u64, content: Arc<dyn Content>) -> Self {
        Self { digest, size, content }
    }

    /// The digest it is stored under.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size when it was opened, bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The open file that holds it, from its first byte on; `None` where its bytes are not in a file.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<File>> {
        self.content.file()
    }

    /// Reads `length` bytes from `offset` on, fewer where the blob ends; that much memory is used at once.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        if let Some(bytes) = self.content.read_cached(offset, length.min(self.rest(offset))) {
            return Ok(bytes);
        }
        let blob = self.clone();
        blocking("read a blob", move || blob.read_now(offset, length)).await
    }

    /// Hashes the next `length` bytes from `offset` on into `hasher`; how many there were.
    pub(crate) async fn hash_part(
        &self,
        mut hasher: Hasher,
        offset: u64,
        length: usize,
    ) -> Result<(Hasher, u64), StoreError> {
        let blob = self.clone();
        blocking("hash a blob", move || {
            let chunk = blob.read_now(offset, length)?;
            hasher.update(&chunk);
            Ok((hasher, chunk.len() as u64))
        })
        .await
    }

    /// Hashes the whole of it: the digest of what is there, and how many bytes. `each` chunk is shown, with its offset; an error of it
    /// ends the work. Blocks.
    pub(super) fn hash(
        &self,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(Digest, u64), StoreError> {
        let mut hasher = Hasher::new(self.digest.algorithm());
        let mut offset = 0;
        while offset < self.size {
            let chunk = match self.read_now(offset, CHUNK_BYTES) {
                Ok(chunk) => chunk,
                // Shorter than its size said: rotten, as with any other wrong byte.
                Err(StoreError::Truncated { got, .. }) => return Ok((hasher.finish(), got)),
                Err(error) => return Err(error),
            };
            hasher.update(&chunk);
            each(offset, &chunk)?;
            offset += chunk.len() as u64;
        }
        Ok((hasher.finish(), offset))
    }

    /// How many bytes there are from `offset` on.
    fn rest(&self, offset: u64) -> usize {
        usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX)
    }

    pub(super) fn read_now(&self, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let want = length.min(self.rest(offset));
        let bytes = self.content.read_at(offset, want).map_err(StoreError::io("read", self.digest.to_string()))?;
        if bytes.len() < want {
            return Err(StoreError::Truncated {
                digest: self.digest.clone(),
                want: self.size,
                got: offset + bytes.len() as u64,
            });
        }
        Ok(bytes)
    }
}
