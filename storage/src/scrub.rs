//! Looking for rot where no reader has come by. There is no clock in here: the caller sleeps between steps, and so sets the rate.

use std::collections::VecDeque;

use oci::{Digest, Hasher};

use crate::{Blob, Blobs, StoreError};

/// How many names are held at a time. Each page is a look at all names: of a million blobs some hundred such looks in a pass of hours.
const PAGE: usize = 8 * 1024;

/// Walks all blobs in order, again and again, and hashes each.
#[derive(Debug)]
pub struct Scrub {
    blobs: Blobs,
    last: Option<Digest>,
    queue: VecDeque<Digest>,
    current: Option<Current>,
    pass: Pass,
    /// Something could not be read in this walk.
    has_failed: bool,
}

#[derive(Debug)]
struct Current {
    blob: Blob,
    hasher: Hasher,
    offset: u64,
}

/// What one walk over all blobs has met so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Blobs whose bytes were right.
    pub sound: u64,
    /// Blobs that had rotted and are in quarantine now.
    pub quarantined: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// What a step of a scrub has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of a blob were read; it is not finished. `0`: a blob was opened, or had left or been replaced meanwhile.
    Read(u64),
    /// The last of its bytes were read, and the blob is sound.
    Sound(Digest),
    /// The last of its bytes were read; the blob had rotted and was moved to quarantine.
    Quarantined(Digest),
    /// Every blob has been looked at; the next step begins anew.
    PassEnded(Pass),
}

impl Scrub {
    /// A scrub of all blobs, from the first one on.
    #[must_use]
    pub fn new(blobs: Blobs) -> Self {
        Self { blobs, last: None, queue: VecDeque::new(), current: None, pass: Pass::default(), has_failed: false }
    }

    /// What this walk has met so far.
    #[must_use]
    pub fn pass(&self) -> Pass {
        self.pass
    }

    /// Reads at most `bytes_max` bytes. An error leaves that blob where it is, and the next step goes on behind it.
    pub async fn step(&mut self, bytes_max: usize) -> Result<Step, StoreError> {
        let step = self.next_step(bytes_max).await;
        self.has_failed |= step.is_err();
        step
    }

    async fn next_step(&mut self, bytes_max: usize) -> Result<Step, StoreError> {
        let Some(Current { blob, hasher, offset }) = self.current.take() else {
            return self.open_next().await;
        };
        // At least one, so that every walk ends.
        let (hasher, read) = match blob.hash_part(hasher, offset, bytes_max.max(1)).await {
            Ok(hashed) => hashed,
            Err(StoreError::Truncated { .. }) => return self.quarantine(&blob).await,
            Err(error) => return Err(error),
        };
        self.pass.bytes += read;
        let offset = offset + read;
        if offset < blob.size() {
            self.current = Some(Current { blob, hasher, offset });
            return Ok(Step::Read(read));
        }
        if hasher.finish() == *blob.digest() {
            self.pass.sound += 1;
            return Ok(Step::Sound(blob.digest().clone()));
        }
        self.quarantine(&blob).await
    }

    async fn open_next(&mut self) -> Result<Step, StoreError> {
        if self.queue.is_empty() {
            self.queue = self.blobs.list_page(self.last.as_ref(), PAGE).await?.into();
        }
        let Some(digest) = self.queue.pop_front() else {
            self.last = None;
            if !std::mem::take(&mut self.has_failed)
                && let Err(error) = self.blobs.hashed_all().await
            {
                tracing::warn!("the store goes on to be hashed at every read: {error}");
            }
            return Ok(Step::PassEnded(std::mem::take(&mut self.pass)));
        };
        self.last = Some(digest.clone());
        self.current = self.blobs.open(&digest).await?.map(|blob| Current {
            hasher: Hasher::new(digest.algorithm()),
            blob,
            offset: 0,
        });
        Ok(Step::Read(0))
    }

    async fn quarantine(&mut self, blob: &Blob) -> Result<Step, StoreError> {
        if !self.blobs.set_aside(blob).await? {
            // What lies there now is not what was hashed, and has its turn in the next walk.
            return Ok(Step::Read(0));
        }
        self.pass.quarantined += 1;
        Ok(Step::Quarantined(blob.digest().clone()))
    }
}
