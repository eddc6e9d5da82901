//! Content on its way into the store: hashed while it is written, visible only when all of it is right.
//!
//! One [`Ingest`] writes; any number of [`Growing`] follow. Chunks go into a short queue, from which one job on a blocking thread
//! writes them and tells the followers, while another hashes them. What was interrupted and kept is taken up again where it ended;
//! nothing of it counts as right before all of it was hashed anew.

use std::{io::IoSlice, sync::Arc};

use bytes::Bytes;
use oci::{Addressed, Digest, DigestMismatch, Hasher, UpstreamName};

pub use self::growing::{Growing, Progress};
use self::lane::{Fate, Lane};
use crate::{
    Blob, ContentClass, IngestError, StoreError,
    blobs::{self, BlobStore, blocking},
    ledger::Announced,
};

mod growing;
mod lane;
#[cfg(test)]
mod tests;

/// The one writer of a blob. Dropping it without [`commit`](Self::commit) fails the followers and discards what was written, or keeps
/// it where it was begun by [`Blobs::resume`](crate::Blobs::resume).
#[derive(Debug)]
pub struct Ingest {
    draft: Draft,
    accepted: u64,
    taken_up: u64,
}

impl Ingest {
    pub(crate) fn begin(
        store: &dyn BlobStore,
        digest: Digest,
        size: u64,
        announced: Announced,
    ) -> Result<Self, StoreError> {
        let content = store.create(&digest, size)?;
        Ok(Self::with(content, 0, digest, size, announced, false))
    }

    /// What is not to stay in the store is not kept half either.
    pub(crate) fn resume(
        store: &dyn BlobStore,
        digest: Digest,
        size: u64,
        upstream: &UpstreamName,
        announced: Announced,
    ) -> Result<Self, StoreError> {
        let kept = if announced.keeps() { store.resume(&digest, size, upstream)? } else { None };
        match kept {
            Some((content, there)) => Ok(Self::with(content, there, digest, size, announced, true)),
            None => Self::begin(store, digest, size, announced),
        }
    }

    fn with(
        content: Arc<dyn blobs::Draft>,
        there: u64,
        digest: Digest,
        size: u64,
        mut announced: Announced,
        keep: bool,
    ) -> Self {
        announced.came(there);
        let lane = Lane::new(content, Hasher::new(digest.algorithm()), there);
        Self { draft: Draft { lane, digest, size, announced, keep }, accepted: there, taken_up: there }
    }

    /// What it will be stored under.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.draft.digest
    }

    /// The announced size, bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.draft.size
    }

    /// How many bytes were accepted: where an interrupted transfer has to go on.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.accepted
    }

    /// How many of these bytes were there from an earlier time, when nobody knows what has happened to them since.
    #[must_use]
    pub fn taken_up(&self) -> u64 {
        self.taken_up
    }

    /// Fails the followers and discards what was written, whichever way it was begun.
    pub fn discard(mut self) {
        self.draft.keep = false;
    }

    /// A handle for one who reads what is being written.
    #[must_use]
    pub fn growing(&self) -> Growing {
        Growing::new(self.draft.digest.clone(), self.draft.size, Arc::clone(&self.draft.lane))
    }

    /// Says against which budget it is counted once it is stored. What the edges to it say is a word of any manifest, admitted or not.
    pub fn count_as(&mut self, class: ContentClass) {
        self.draft.announced.count_as(class);
    }

    /// Takes the next bytes; waits while too many are under way to the disk. An error of the disk may show in a later call.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), IngestError> {
        let accepted = self.accepted + chunk.len() as u64;
        if accepted > self.draft.size {
            self.draft.lane.end(false);
            return Err(IngestError::Long { digest: self.draft.digest.clone(), want: self.draft.size, got: accepted });
        }
        if chunk.is_empty() {
            return Ok(());
        }
        self.draft.announced.came(accepted);
        if self.draft.lane.push(chunk).await {
            self.accepted = accepted;
            return Ok(());
        }
        Err(self.draft.failure())
    }

    /// Checks size and digest, makes the file durable and visible, and only then tells the followers. Where the returned future
    /// is dropped it still runs to one end or the other.
    pub async fn commit(self) -> Result<Blob, IngestError> {
        let Self { mut draft, accepted, .. } = self;
        if accepted != draft.size {
            return Err(IngestError::Short { digest: draft.digest.clone(), want: draft.size, got: accepted });
        }
        if !draft.lane.drained(accepted).await {
            return Err(draft.failure());
        }
        draft.announced.room().await;
        blocking("commit an ingest", move || draft.commit()).await
    }
}

/// Content that is not yet published, together with whoever follows it. Dropped, it fails the followers and discards or keeps the
/// content.
#[derive(Debug)]
struct Draft {
    lane: Arc<Lane>,
    digest: Digest,
    size: u64,
    announced: Announced,
    keep: bool,
}

impl Draft {
    fn commit(mut self) -> Result<Blob, IngestError> {
        let got = self.lane.digest();
        // Whatever fails from here on, none of it is worth keeping.
        self.keep = false;
        if got != self.digest {
            return Err(DigestMismatch { want: self.digest.clone(), got, bytes: self.size }.into());
        }
        // Before the sync at the end: it would not hear of an error that an earlier one was told.
        if !self.lane.settled() {
            return Err(self.failure());
        }
        // What is not kept is right all the same: who follows it gets the whole of it, and who comes later another download.
        let content: Arc<dyn blobs::Content> = if self.announced.keeps() {
            let published = self.lane.content().publish()?;
            self.announced.stored(&self.digest);
            published
        } else {
            Arc::clone(self.lane.content()) as Arc<dyn blobs::Content>
        };
        self.lane.end(true);
        Ok(Blob::new(self.digest.clone(), self.size, content))
    }

    fn failure(&mut self) -> IngestError {
        match self.lane.take_error() {
            Some(error) => {
                // Kept, it would take the room that others lack, and could not be gone on with either.
                self.keep &= !error.is_full();
                error.into()
            }
            None => IngestError::Ended { digest: self.digest.clone() },
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Does nothing after a commit: what has ended stays ended.
        self.lane.end(false);
        let is_kept = self.keep && self.lane.state().written > 0;
        self.lane.give_up(if is_kept { Fate::Kept } else { Fate::Discarded });
    }
}

/// Stores bytes that are already in memory and already hashed.
pub(crate) fn put(store: &dyn BlobStore, content: &Addressed) -> Result<(), StoreError> {
    // Announced without a size: what others leave free of the disk is for this.
    let draft = store.create(content.digest(), 0)?;
    let published = write_whole(&*draft, content.bytes());
    // Does nothing where it was published.
    draft.discard();
    published
}

fn write_whole(draft: &dyn blobs::Draft, bytes: &[u8]) -> Result<(), StoreError> {
    draft.write_at(0, &mut [IoSlice::new(bytes)])?;
    draft.publish().map(drop)
}
