//! One response's way through a blob: what may be sent next, and from where.

use std::{fs::File, ops::Range, sync::Arc};

use bytes::Bytes;
use oci::{Digest, Hasher};
use storage::{Blob, Blobs, Progress};

use super::{
    COPY_BYTES, HOLDBACK_BYTES,
    parts::{Part, Parts},
    segment::{Pool, Segment},
    share,
};
use crate::{
    admission::PermitGuard,
    error::ApiError,
    fill::{Content, Fill, Passing},
    listen::{stream::Revoked, zero_copy::Link},
};

/// From here on a piece is worth a call of its own, bytes; less goes out together with what is around it.
const ZERO_COPY_BYTES_MIN: usize = 16 * 1024;

/// What is left of a response.
pub struct Reading {
    source: Source,
    parts: Parts,
    guard: PermitGuard,
    pool: Pool,
}

enum Source {
    Filling(Arc<Fill>),
    /// Nobody else's, and in no file.
    Passing(Box<Passing>),
    Stored(Blob),
    /// `storage.verify_reads = "always"`: these very bytes are hashed while they are sent.
    Checked(Box<Checked>),
}

struct Checked {
    blob: Blob,
    blobs: Blobs,
    hasher: Hasher,
    want: Digest,
}

impl Reading {
    /// `parts` of `content`, as long as `guard` allows. With `check`, what comes from the store is hashed again.
    ///
    /// # Errors
    /// When a fill fails before its first byte, or a stored blob is found damaged before the answer begins.
    pub(crate) async fn new(
        content: Content,
        parts: Parts,
        guard: PermitGuard,
        check: Option<Blobs>,
    ) -> Result<Self, ApiError> {
        let source = match (content, check) {
            (Content::Filling(fill), _) => {
                fill.started().await?;
                if parts.left() == 0 {
                    fill.committed().await?;
                }
                Source::Filling(fill)
            }
            (Content::Passing(mut passing), _) => {
                passing.begin(parts.end()).await?;
                Source::Passing(passing)
            }
            (Content::Stored(blob), None) => Source::Stored(blob),
            (Content::Stored(blob), Some(blobs)) => {
                let want = digest_of_ranges(&blob, &blobs, &parts).await?;
                let hasher = Hasher::new(want.algorithm());
                Source::Checked(Box::new(Checked { blob, blobs, hasher, want }))
            }
        };
        Ok(Self { source, parts, guard, pool: Pool::default() })
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> u64 {
        self.parts.left()
    }

    /// Whose permit it needs, for the log.
    pub(super) fn guard(&self) -> &PermitGuard {
        &self.guard
    }

    /// The next piece, where it can be had without waiting: nothing has changed about the permit, and nothing has to be read from disk,
    /// waited for or hashed.
    pub(super) fn at_once(&mut self) -> Option<Segment> {
        if !self.guard.still_holds() {
            return None;
        }
        let length = self.sendable(self.progress())?;
        self.cut(length)
    }

    /// The next piece, never an empty one: called while something is left.
    pub(super) async fn next(&mut self) -> Result<Segment, String> {
        loop {
            self.guard.check().await.map_err(|error| error.to_string())?;
            let progress = self.progress();
            if let (Progress::Failed, Source::Filling(fill)) = (progress, &self.source) {
                return Err(fill.reason().await.to_string());
            }
            let Some(length) = self.sendable(progress) else {
                self.grown().await?;
                continue;
            };
            if let Some(segment) = self.cut(length) {
                return Ok(segment);
            }
            let Some(Part::Range(range)) = self.parts.next().cloned() else {
                return Err("there is nothing left to send".to_owned());
            };
            let length = length.min(COPY_BYTES);
            let segment = self.read(range.start, length).await?;
            self.parts.take(length as u64);
            return Ok(segment);
        }
    }

    /// After the last byte was handed out: completes when it may not be sent any more.
    pub(super) fn revoked(self) -> Revoked {
        let mut guard = self.guard;
        Box::pin(async move {
            loop {
                guard.disturbed().await;
                if guard.check().await.is_err() {
                    return;
                }
            }
        })
    }

    fn progress(&self) -> Progress {
        match &self.source {
            Source::Filling(fill) => fill.growing().progress(),
            // Counts for itself what may be sent.
            Source::Passing(_) => Progress::Written(0),
            // As far as the bytes go: they were committed.
            Source::Stored(_) | Source::Checked(_) => Progress::Committed,
        }
    }

    /// How much of the next part may go out as one piece now; `None` where the file has to grow first.
    fn sendable(&self, progress: Progress) -> Option<usize> {
        let most = match self.parts.next()? {
            Part::Text(text) => text.len() as u64,
            Part::Range(range) => {
                let end = match (&self.source, progress) {
                    (Source::Passing(passing), _) => passing.sendable_to(range),
                    (_, Progress::Committed) => range.end,
                    (_, Progress::Written(written)) => written.min(kept_from(range)),
                    (_, Progress::Failed) => return None,
                };
                end.saturating_sub(range.start)
            }
        };
        (most > 0).then(|| usize::try_from(share(self.parts.left()).min(most)).unwrap_or(usize::MAX))
    }

    /// Waits until there is more of what is on its way, or the permit has to be looked at.
    async fn grown(&mut self) -> Result<(), String> {
        let Some(Part::Range(range)) = self.parts.next() else { return Ok(()) };
        match &mut self.source {
            Source::Filling(fill) => {
                // Bytes within the hold-back are waited for until the whole blob agrees.
                let beyond = if range.start < kept_from(range) { range.start } else { u64::MAX };
                tokio::select! {
                    biased;
                    _ = fill.growing().advance(beyond) => Ok(()),
                    () = self.guard.disturbed() => Ok(()),
                }
            }
            Source::Passing(passing) => tokio::select! {
                biased;
                more = passing.more(range.start) => more.map_err(|error| error.to_string()),
                () = self.guard.disturbed() => Ok(()),
            },
            Source::Stored(_) | Source::Checked(_) => Ok(()),
        }
    }

    /// `length` bytes of the next part, where nobody has to wait for them.
    fn cut(&mut self, length: usize) -> Option<Segment> {
        let range = match self.parts.next()? {
            Part::Text(_) => {
                return match self.parts.take(length as u64)? {
                    Part::Text(text) => Some(text.into()),
                    Part::Range(_) => None,
                };
            }
            Part::Range(range) => range.clone(),
        };
        if let Source::Passing(passing) = &mut self.source {
            let bytes = passing.take(range.start, length);
            self.parts.take(bytes.len() as u64);
            return (!bytes.is_empty()).then(|| bytes.into());
        }
        let file = self.file()?;
        let segment: Segment = match Link::here().filter(|_| length >= ZERO_COPY_BYTES_MIN) {
            Some(link) => link.range(file, range.start, length).into(),
            None => self.pool.read_cached(file, range.start, length.min(COPY_BYTES))?.into(),
        };
        self.parts.take(bytes::Buf::remaining(&segment) as u64);
        Some(segment)
    }

    /// The file that may be sent as it is.
    fn file(&self) -> Option<&Arc<File>> {
        match &self.source {
            Source::Filling(fill) => fill.growing().file(),
            Source::Stored(blob) => blob.file(),
            Source::Checked(_) | Source::Passing(_) => None,
        }
    }

    async fn read(&mut self, start: u64, length: usize) -> Result<Segment, String> {
        if let Some(file) = self.file() {
            return self.read_file(Arc::clone(file), start, length).await;
        }
        let store = |error: storage::StoreError| crate::error::chain(&error);
        let bytes = match &mut self.source {
            Source::Filling(fill) => fill.growing().read_at(start, length).await.map_err(store)?,
            Source::Stored(blob) => blob.read_at(start, length).await.map_err(store)?,
            Source::Passing(passing) => passing.take(start, length),
            Source::Checked(checked) => {
                let last = self.parts.ranges().map(|range| range.end - range.start).sum::<u64>() == length as u64;
                checked.read(start, length, last).await?
            }
        };
        if bytes.len() == length { Ok(bytes.into()) } else { Err(SHORT.to_owned()) }
    }

    async fn read_file(&self, file: Arc<File>, start: u64, length: usize) -> Result<Segment, String> {
        let pool = self.pool.clone();
        let read = storage::work::run(move || pool.read(&file, start, length)).await;
        let segment: Segment = match read {
            Ok(Ok(read)) => read.into(),
            Ok(Err(error)) => return Err(format!("cannot read the stored blob: {error}")),
            Err(stopped) => return Err(format!("cannot read the stored blob: {stopped}")),
        };
        if bytes::Buf::remaining(&segment) == length { Ok(segment) } else { Err(SHORT.to_owned()) }
    }
}

const SHORT: &str = "the stored blob is shorter than its size";

/// From where on a range of a growing file is kept back.
fn kept_from(range: &Range<u64>) -> u64 {
    range.end - HOLDBACK_BYTES.min(range.end.saturating_sub(range.start))
}

impl Checked {
    /// The last bytes are handed out only where all that went before them, and they, are what came in.
    async fn read(&mut self, start: u64, length: usize, last: bool) -> Result<Bytes, String> {
        let store = |error: storage::StoreError| crate::error::chain(&error);
        let bytes = self.blob.read_at(start, length).await.map_err(store)?;
        self.hasher.update(&bytes);
        if last && self.hasher.clone().finish() != self.want {
            self.blobs.verify(self.blob.digest()).await.map_err(store)?;
            return Err("the stored blob is not what it was when it came in".to_owned());
        }
        Ok(bytes)
    }
}

/// Hashes the whole blob, and apart from it the bytes in the ranges of `parts`, which are read again when they are sent.
async fn digest_of_ranges(blob: &Blob, blobs: &Blobs, parts: &Parts) -> Result<Digest, ApiError> {
    if parts.ranges().eq([&(0..blob.size())]) {
        return Ok(blob.digest().clone());
    }
    // In the order in which they are sent, as they ascend and do not overlap.
    let sent = blobs.hash_ranges(blob, parts.ranges().cloned().collect()).await?;
    let damaged = || ApiError::Fault { message: format!("stored blob {} is damaged and was set aside", blob.digest()) };
    sent.ok_or_else(damaged)
}
