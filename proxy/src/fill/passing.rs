//! A blob that is sent as it comes and not kept, because the store has no room for it.
//!
//! Each client has a download of its own, as fast as it reads. What came of the blob is hashed before any of it is sent, and the last
//! bytes of the answer wait until all of the blob has come and agrees, also where they lie before its end. In memory are what upstream
//! sent last and these last bytes, whatever the size of the blob; at most as many downloads as `limits.fills_max` have a slot.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use config::Limits;
use metrics::counter;
use oci::{Hasher, RepositoryPath};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Elsewhere, FillKey,
    course::{Course, There},
    slots::Slot,
};
use crate::{
    body::HOLDBACK_BYTES,
    error::ApiError,
    upstream::{BlobStream, Flaw, Kind, Outage, Upstream, UpstreamError},
};

/// One client's way through a blob that nobody keeps.
pub struct Passing {
    key: FillKey,
    upstream: Arc<Upstream>,
    /// Repositories in which the blob is permitted: the client's, and others once that has refused.
    paths: Vec<RepositoryPath>,
    elsewhere: Arc<dyn Elsewhere>,
    limits: Arc<Limits>,
    /// When it is given up, whatever has come by then.
    deadline: Instant,
    course: Course,
    /// The answer under way.
    stream: Option<BlobStream>,
    hasher: Hasher,
    /// How many bytes of the blob have come and are hashed.
    received: u64,
    /// From which byte on the client may still want something, and up to which.
    wanted: Range<u64>,
    /// What has come of these bytes, from the first of them on.
    waiting: BytesMut,
    /// The whole blob has come and is what it should be.
    agrees: bool,
    _slot: Slot,
}

/// Why an answer of upstream's ended before it should.
enum Stop {
    Upstream(UpstreamError),
    /// Its bytes are not the blob's: the OCI code, and why.
    Wrong(&'static str, &'static str),
}

impl From<UpstreamError> for Stop {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl Passing {
    pub(super) fn new(
        key: FillKey,
        upstream: Arc<Upstream>,
        path: RepositoryPath,
        elsewhere: Arc<dyn Elsewhere>,
        limits: Arc<Limits>,
        slot: Slot,
    ) -> Self {
        let hasher = Hasher::new(key.digest.algorithm());
        Self {
            deadline: Instant::now() + limits.fill_timeout,
            wanted: 0..key.size,
            key,
            upstream,
            paths: vec![path],
            course: Course::new(&limits),
            elsewhere,
            limits,
            stream: None,
            hasher,
            received: 0,
            waiting: BytesMut::new(),
            agrees: false,
            _slot: slot,
        }
    }

    /// Says that nothing is wanted from byte `end` on, and waits for upstream's first bytes; for all of them where nothing at all is
    /// wanted, as there is no last byte to keep back then.
    ///
    /// # Errors
    /// Why they do not come within `limits.decision_timeout`, or are not what they should be.
    pub async fn begin(&mut self, end: u64) -> Result<(), ApiError> {
        self.wanted.end = end;
        let within = Instant::now() + self.limits.decision_timeout;
        let begun = timeout_at(within, async {
            self.step().await?;
            while end == 0 && !self.agrees {
                self.step().await?;
            }
            Ok(())
        });
        if let Ok(begun) = begun.await {
            return begun;
        }
        Err(ApiError::undecided(format!("cannot fetch blob {} in time", self.key.digest)))
    }

    /// Up to which byte `range`, the next that is wanted, may be sent by now. The last that is wanted keeps its end back until the
    /// whole blob agrees.
    #[must_use]
    pub fn sendable_to(&self, range: &Range<u64>) -> u64 {
        let there = self.wanted.start.saturating_add(self.waiting.len() as u64);
        let is_last = range.end >= self.wanted.end;
        let kept = if is_last && !self.agrees { HOLDBACK_BYTES.min(range.end.saturating_sub(range.start)) } else { 0 };
        there.min(range.end - kept)
    }

    /// Brings some more, where nothing from byte `start` on can be sent. May be given up and called again.
    ///
    /// # Errors
    /// Why nothing more will come.
    pub async fn more(&mut self, start: u64) -> Result<(), ApiError> {
        self.skip_to(start);
        self.step().await
    }

    /// The `length` bytes from `start` on, of those that [`sendable_to`](Self::sendable_to) counted.
    pub fn take(&mut self, start: u64, length: usize) -> Bytes {
        self.skip_to(start);
        let bytes = self.waiting.split_to(length.min(self.waiting.len())).freeze();
        self.wanted.start += bytes.len() as u64;
        bytes
    }

    /// Nothing is wanted before byte `start` any more.
    fn skip_to(&mut self, start: u64) {
        let skipped = usize::try_from(start.saturating_sub(self.wanted.start)).unwrap_or(usize::MAX);
        drop(self.waiting.split_to(skipped.min(self.waiting.len())));
        self.wanted.start = self.wanted.start.max(start);
    }

    /// Receives something, or finds that all has come and agrees.
    async fn step(&mut self) -> Result<(), ApiError> {
        // Upstream is asked for a blob of no bytes too: it may not have it.
        let is_whole = self.received == self.key.size && (self.key.size > 0 || self.stream.is_some());
        if !is_whole {
            let deadline = self.deadline;
            let received = timeout_at(deadline, self.receive()).await;
            return received.unwrap_or_else(|_| Err(super::too_slow(&self.key.digest)));
        }
        self.stream = None;
        self.agrees = self.hasher.clone().finish() == self.key.digest;
        if self.agrees { Ok(()) } else { Err(self.wrong("DIGEST_INVALID", "its digest is another")) }
    }

    /// The next bytes, from as many answers as it takes.
    async fn receive(&mut self) -> Result<(), ApiError> {
        loop {
            let Some(path) = self.course.next(&self.paths).cloned() else {
                if let Some(path) = self.course.go_over(&*self.elsewhere, &self.key, &self.paths).await {
                    self.paths.push(path);
                    continue;
                }
                return Err(
                    self.lacking(&self.course.refusal().unwrap_or(UpstreamError::NotFound { what: Kind::Blob }))
                );
            };
            let error = match self.receive_once(&path).await {
                Ok(true) => {
                    self.course.progressed();
                    return Ok(());
                }
                Ok(false) => UpstreamError::Unavailable { what: Kind::Blob, why: Outage::ConnectionLost },
                Err(Stop::Upstream(error)) => error,
                Err(Stop::Wrong(code, why)) => return Err(self.wrong(code, why)),
            };
            self.stream = None;
            let is_slow = matches!(error, UpstreamError::Unavailable { why: Outage::TooSlow(_), .. });
            // How long it took is the client's doing as well.
            let goes_on = self.course.goes_on_after(&error, 0, Duration::ZERO);
            if is_slow && !goes_on {
                return Err(self.lacking(&error));
            }
            let there = There { bytes: self.received, taken_up: 0 };
            let pause = self.course.failed(&path, &self.paths, error, there);
            sleep(pause.map_err(|error| self.lacking(&error))?).await;
        }
    }

    /// Whether there was anything more in this answer.
    async fn receive_once(&mut self, path: &RepositoryPath) -> Result<bool, Stop> {
        if self.stream.is_none() {
            let offset = self.course.offset(self.received);
            let mut stream = self.upstream.blob(path, &self.key.digest, offset).await?;
            if stream.size().is_some_and(|size| size != self.key.size) {
                return Err(match stream.start() {
                    0 => Stop::Wrong("SIZE_INVALID", "upstream has another size than its manifest says"),
                    _ => Stop::Upstream(UpstreamError::Malformed { what: Kind::Blob, why: Flaw::Range }),
                });
            }
            let rest = if stream.start() < self.received { self.compare(&mut stream).await? } else { Bytes::new() };
            self.stream = Some(stream);
            self.accept(&rest)?;
            if !rest.is_empty() || self.key.size == 0 {
                return Ok(true);
            }
        }
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let Some(bytes) = stream.next().await? else { return Ok(false) };
        self.accept(&bytes).map(|()| true)
    }

    /// Upstream began again at the first byte: what has come before must come again. What follows it in the same piece.
    async fn compare(&self, stream: &mut BlobStream) -> Result<Bytes, Stop> {
        let mut again = Hasher::new(self.key.digest.algorithm());
        let mut left = self.received;
        while let Some(mut bytes) = stream.next().await? {
            let known = bytes.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
            again.update(&known);
            left -= known.len() as u64;
            if left == 0 {
                let is_same = again.finish() == self.hasher.clone().finish();
                return if is_same {
                    Ok(bytes)
                } else {
                    Err(Stop::Wrong("DIGEST_INVALID", "upstream sent other bytes when asked to go on"))
                };
            }
        }
        Err(UpstreamError::Unavailable { what: Kind::Blob, why: Outage::ConnectionLost }.into())
    }

    /// Hashes what came, and keeps what is wanted of it.
    fn accept(&mut self, bytes: &Bytes) -> Result<(), Stop> {
        counter!("pratique_upstream_bytes_total").increment(bytes.len() as u64);
        let end = self.received.saturating_add(bytes.len() as u64);
        if end > self.key.size {
            return Err(Stop::Wrong("SIZE_INVALID", "upstream sent more bytes than its manifest says"));
        }
        self.hasher.update(bytes);
        let clip = |point: u64| usize::try_from(point.clamp(self.received, end) - self.received).unwrap_or(0);
        let first = self.wanted.start.saturating_add(self.waiting.len() as u64);
        let wanted = bytes.get(clip(first)..clip(self.wanted.end)).unwrap_or_default();
        self.waiting.extend_from_slice(wanted);
        self.received = end;
        Ok(())
    }

    fn lacking(&self, error: &UpstreamError) -> ApiError {
        ApiError::from_upstream(error, "BLOB_UNKNOWN", &format!("blob {}", self.key.digest))
    }

    fn wrong(&self, code: &'static str, why: &str) -> ApiError {
        counter!("pratique_content_mismatches_total", "what" => "blob").increment(1);
        ApiError::Wrong { code, message: format!("cannot fetch blob {}: {why}", self.key.digest) }
    }
}
