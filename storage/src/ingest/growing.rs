//! Reading a blob while it arrives.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use oci::Digest;

use super::lane::{Lane, State};
use crate::{StoreError, blobs::blocking};

/// A follower's handle on content that is being written. Nothing read through it is known to be right before
/// [`Progress::Committed`].
#[derive(Debug, Clone)]
pub struct Growing {
    digest: Digest,
    size: u64,
    lane: Arc<Lane>,
}

/// How far an ingest has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes are there to be read.
    Written(u64),
    /// All are there, their size and digest are right, and they are durable.
    Committed,
    /// There will be no more: the digest was another, the writer gave up, or the disk refused.
    Failed,
}

impl From<State> for Progress {
    fn from(state: State) -> Self {
        match state.committed {
            None => Self::Written(state.written),
            Some(true) => Self::Committed,
            Some(false) => Self::Failed,
        }
    }
}

impl Growing {
    pub(super) fn new(digest: Digest, size: u64, lane: Arc<Lane>) -> Self {
        Self { digest, size, lane }
    }

    /// What it will be stored under, if it is what it claims to be.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The announced size, bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The open file that holds what is written so far, from its first byte on; `None` where the bytes are not in a file.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<File>> {
        self.lane.content().file()
    }

    /// How far it has come by now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.lane.state().into()
    }

    /// Waits until more than `beyond` bytes are written, or the end. Once it has ended, it says how, whatever `beyond`.
    pub async fn advance(&self, beyond: u64) -> Progress {
        self.lane.until(|state| state.written > beyond || state.committed.is_some()).await.into()
    }

    /// Reads `length` bytes from `offset` on, fewer where no more are written yet; none at all are no error.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let written = self.lane.state().written;
        let there = usize::try_from(written.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = length.min(there);
        if want == 0 {
            return Ok(Bytes::new());
        }
        if let Some(bytes) = self.lane.content().read_cached(offset, want) {
            return Ok(bytes);
        }
        let (lane, digest) = (Arc::clone(&self.lane), self.digest.clone());
        blocking("read an ingest", move || {
            let read = lane.content().read_at(offset, want);
            let bytes = read.map_err(StoreError::io("read", digest.to_string()))?;
            if bytes.len() < want {
                return Err(StoreError::Truncated { digest, want: written, got: offset + bytes.len() as u64 });
            }
            Ok(bytes)
        })
        .await
    }
}
