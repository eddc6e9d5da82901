//! Response bodies. Only [`crate::respond`] makes them.
//!
//! ```text
//!  upstream ──> growing file ──> Reading ──> hyper ──> client
//!                    │              │
//!       size + digest agree?    may this response still be sent?
//!       until then the last     (policy reloaded, verdict ended)
//!       bytes stay here         asked before every chunk
//! ```

use std::{
    fmt,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use metrics::counter;
use oci::{Digest, Hasher};
use storage::{Blob, Blobs, Progress};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    admission::PermitGuard,
    error::ApiError,
    fill::{Content, Fill},
    listen::stream::{self, Revoked, Turn as Whose},
};

/// The body of every response, and what it keeps as long as it is under way.
pub struct ServedBody(Inner, Option<OwnedSemaphorePermit>);

enum Inner {
    Whole(Bytes),
    /// A HEAD answer: tells the length, sends nothing.
    Length(u64),
    Stream(Stream),
}

/// A body that ended before its length: the client sees a connection (HTTP/1.1) or stream (HTTP/2) that broke, never a complete answer.
#[derive(Debug, thiserror::Error)]
#[error("body broken off after {sent} of {length} bytes: {why}")]
pub struct BodyBroken {
    sent: u64,
    length: u64,
    why: String,
}

/// How much is read and sent at a time, in bytes.
const CHUNK_BYTES: u64 = 256 * 1024;
/// The same where many hold a chunk or two at one time: the streams of an HTTP/2 connection, the followers of a download.
const SHARED_CHUNK_BYTES: u64 = 64 * 1024;
/// How much a response keeps back until the whole blob is known to be right, in bytes; all of it where the response is shorter.
const HOLDBACK_BYTES: u64 = 64 * 1024;

impl ServedBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Inner::Whole(bytes), None)
    }

    pub(crate) fn length(bytes: u64) -> Self {
        Self(Inner::Length(bytes), None)
    }

    pub(crate) fn stream(reading: Reading) -> Self {
        let length = reading.range.end - reading.range.start;
        Self(Inner::Stream(Stream { left: length, length, turn: Turn::Idle(Box::new(reading)) }), None)
    }

    /// Gives `slot` back when the body has ended or was given up.
    pub(crate) fn keep(&mut self, slot: OwnedSemaphorePermit) {
        self.1 = Some(slot);
    }
}

impl http_body::Body for ServedBody {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => {
                let length = usize::try_from(share(bytes.len() as u64)).unwrap_or(usize::MAX).min(bytes.len());
                stream::tell(Whose::Clients(None));
                Poll::Ready(Some(Ok(Frame::data(bytes.split_to(length)))))
            }
            Inner::Length(_) => Poll::Ready(None),
            Inner::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            // hyper asks this before it writes the length of a HEAD answer, and sends no body to HEAD whatever we say.
            Inner::Length(_) => false,
            Inner::Stream(stream) => stream.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Inner::Whole(bytes) => bytes.len() as u64,
            Inner::Length(length) => *length,
            Inner::Stream(stream) => stream.left,
        })
    }
}

impl fmt::Debug for ServedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServedBody")
    }
}

/// How much of the `left` bytes of a body its next frame carries. The last byte always travels alone: a body is forgotten as soon as its
/// last frame was accepted for sending, so that one must not hide how much the client has still to take, nor be more than the smallest
/// window lets through at once.
fn share(left: u64) -> u64 {
    let chunk = if stream::is_shared() { SHARED_CHUNK_BYTES } else { CHUNK_BYTES };
    left.saturating_sub(1).clamp(1, chunk)
}

struct Stream {
    left: u64,
    length: u64,
    turn: Turn,
}

type Step = (Box<Reading>, Result<Bytes, String>);

enum Turn {
    Idle(Box<Reading>),
    Busy(Pin<Box<dyn Future<Output = Step> + Send>>),
    Over,
}

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut step = match std::mem::replace(&mut self.turn, Turn::Over) {
            Turn::Idle(mut reading) => {
                stream::tell(Whose::Ours);
                Box::pin(async move {
                    let outcome = reading.next().await;
                    (reading, outcome)
                }) as Pin<Box<dyn Future<Output = Step> + Send>>
            }
            Turn::Busy(step) => step,
            // Nothing more comes, and that must not look like an end.
            Turn::Over => return Poll::Ready(Some(Err(self.broken("it has broken before".to_owned())))),
        };
        match step.as_mut().poll(context) {
            Poll::Pending => {
                self.turn = Turn::Busy(step);
                Poll::Pending
            }
            Poll::Ready((reading, Ok(bytes))) => {
                self.left -= (bytes.len() as u64).min(self.left);
                let revoked = if self.left == 0 {
                    Some(reading.revoked())
                } else {
                    self.turn = Turn::Idle(reading);
                    None
                };
                stream::tell(Whose::Clients(revoked));
                counter!("pratique_served_bytes_total").increment(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready((reading, Err(why))) => {
                let error = self.broken(why);
                counter!("pratique_bodies_broken_total").increment(1);
                tracing::warn!(repository = %reading.guard.repository(), digest = %reading.guard.digest(), "{error}");
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn broken(&self, why: String) -> BodyBroken {
        BodyBroken { sent: self.length - self.left, length: self.length, why }
    }
}

/// One response's way through a blob.
pub struct Reading {
    source: Source,
    range: Range<u64>,
    guard: PermitGuard,
}

enum Source {
    Filling(Arc<Fill>),
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
    /// `range` of `content`, as long as `guard` allows. With `check`, what comes from the store is hashed again.
    ///
    /// # Errors
    /// When a fill fails before its first byte, or a stored blob is found damaged before the answer begins.
    pub async fn new(
        content: Content,
        range: Range<u64>,
        guard: PermitGuard,
        check: Option<Blobs>,
    ) -> Result<Self, ApiError> {
        let source = match (content, check) {
            (Content::Filling(fill), _) => {
                fill.started().await?;
                if range.is_empty() {
                    fill.committed().await?;
                }
                Source::Filling(fill)
            }
            (Content::Stored(blob), None) => Source::Stored(blob),
            (Content::Stored(blob), Some(blobs)) => {
                let want = digest_of_range(&blob, &blobs, &range).await?;
                let hasher = Hasher::new(want.algorithm());
                Source::Checked(Box::new(Checked { blob, blobs, hasher, want }))
            }
        };
        Ok(Self { source, range, guard })
    }

    /// The next bytes, never none: called while the range is not empty.
    async fn next(&mut self) -> Result<Bytes, String> {
        loop {
            self.guard.check().await.map_err(|error| error.to_string())?;
            let Some(end) = self.sendable().await? else { continue };
            let start = self.range.start;
            let most = if matches!(self.source, Source::Filling(_)) { SHARED_CHUNK_BYTES } else { CHUNK_BYTES };
            let length = usize::try_from(share(self.range.end - start).min(end - start).min(most)).unwrap_or(0);
            let bytes = self.read(start, length).await?;
            self.range.start += length as u64;
            return Ok(bytes);
        }
    }

    /// After the last byte was handed out: completes when it may not be sent any more.
    fn revoked(self) -> Revoked {
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

    /// Up to where bytes may be sent now; `None` when the permit has to be looked at again first.
    async fn sendable(&mut self) -> Result<Option<u64>, String> {
        let Source::Filling(fill) = &self.source else {
            return Ok(Some(self.range.end));
        };
        let length = self.range.end.saturating_sub(self.range.start);
        let kept = self.range.end - HOLDBACK_BYTES.min(length);
        // Bytes within the hold-back are waited for until the whole blob agrees.
        let beyond = if self.range.start < kept { self.range.start } else { u64::MAX };
        let progress = tokio::select! {
            progress = fill.growing().advance(beyond) => progress,
            () = self.guard.disturbed() => return Ok(None),
        };
        match progress {
            Progress::Committed => Ok(Some(self.range.end)),
            Progress::Written(written) => Ok(Some(written.min(kept)).filter(|end| *end > self.range.start)),
            Progress::Failed => Err(fill.reason().await.to_string()),
        }
    }

    async fn read(&mut self, start: u64, length: usize) -> Result<Bytes, String> {
        let store = |error: storage::StoreError| crate::error::chain(&error);
        let bytes = match &mut self.source {
            Source::Filling(fill) => fill.growing().read_at(start, length).await.map_err(store)?,
            Source::Stored(blob) => blob.read_at(start, length).await.map_err(store)?,
            Source::Checked(checked) => {
                let bytes = checked.blob.read_at(start, length).await.map_err(store)?;
                checked.hasher.update(&bytes);
                let last = start + length as u64 == self.range.end;
                if last && checked.hasher.clone().finish() != checked.want {
                    checked.blobs.verify(checked.blob.digest()).await.map_err(store)?;
                    return Err("the stored blob is not what it was when it came in".to_owned());
                }
                bytes
            }
        };
        if bytes.len() == length { Ok(bytes) } else { Err("the stored blob is shorter than its size".to_owned()) }
    }
}

/// Hashes the whole blob, and apart from it the bytes in `range`, which are read again when they are sent.
async fn digest_of_range(blob: &Blob, blobs: &Blobs, range: &Range<u64>) -> Result<Digest, ApiError> {
    if *range == (0..blob.size()) {
        return Ok(blob.digest().clone());
    }
    let algorithm = blob.digest().algorithm();
    let (mut whole, mut part) = (Hasher::new(algorithm), Hasher::new(algorithm));
    let mut at = 0;
    while at < blob.size() {
        let length = usize::try_from(CHUNK_BYTES.min(blob.size() - at)).unwrap_or(0);
        let bytes = blob.read_at(at, length).await?;
        whole.update(&bytes);
        let clip = |point: u64| usize::try_from(point.clamp(at, at + length as u64) - at).unwrap_or(0);
        part.update(bytes.get(clip(range.start)..clip(range.end)).unwrap_or_default());
        at += length as u64;
    }
    if whole.finish() == *blob.digest() {
        return Ok(part.finish());
    }
    blobs.verify(blob.digest()).await?;
    Err(ApiError::Fault { message: format!("stored blob {} is damaged and was set aside", blob.digest()) })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_last_byte_of_a_body_travels_alone() {
        for length in [0, 1, 2, 3, 4096, 300_000, 600_001] {
            let bytes: Bytes = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
            let mut body = ServedBody::whole(bytes.clone());
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                frames.push(frame.unwrap().into_data().unwrap());
            }
            assert!(http_body::Body::is_end_stream(&body));
            assert_eq!(frames.concat(), bytes, "{length}");
            assert_eq!(frames.last().map(Bytes::len), (length > 0).then_some(1), "{length}");
            assert!(frames.iter().all(|frame| (1..=256 * 1024).contains(&frame.len())), "{length}");
        }
    }

    #[tokio::test]
    async fn a_broken_body_never_looks_like_a_whole_one() {
        let mut body = ServedBody(Inner::Stream(Stream { left: 3, length: 10, turn: Turn::Over }), None);
        for _ in 0..2 {
            let error = body.frame().await.expect("no end").unwrap_err();
            assert_eq!(error.to_string(), "body broken off after 7 of 10 bytes: it has broken before");
            assert!(!http_body::Body::is_end_stream(&body));
        }
    }
}
