//! Fetching one blob, from as many answers as it takes.

use std::sync::Arc;

use bytes::Bytes;
use config::Limits;
use metrics::counter;
use oci::RepositoryPath;
use storage::{Ingest, IngestError, Progress};
use tokio::time::{Instant, timeout_at};

use super::{
    Elsewhere, Fill, FillKey,
    course::{Course, There},
    room::Room,
};
use crate::{
    error::{ApiError, chain},
    upstream::{BlobStream, Flaw, Kind, Outage, Upstream, UpstreamError},
};

/// A fill's work: from upstream's answers to a committed blob.
pub(super) struct Work {
    pub(super) key: FillKey,
    pub(super) fill: Arc<Fill>,
    pub(super) upstream: Arc<Upstream>,
    /// Who knows further repositories, where all have refused.
    pub(super) elsewhere: Arc<dyn Elsewhere>,
    pub(super) limits: Arc<Limits>,
    /// When it is given up, whatever it has by then.
    pub(super) deadline: Instant,
    /// What all fills may have in memory.
    pub(super) room: Room,
}

/// Why one file did not become the blob.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: ApiError,
    pub(super) then: Then,
}

/// What becomes of the file, and of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// What has come is worth keeping for the next who asks.
    Keep,
    /// Nothing of it is.
    Discard,
    /// It was the file rather than upstream: a new one may do.
    BeginAnew,
    /// The disk has no room for it: nothing of it is, and who asks next is not to wait for the disk.
    PassOn,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, then: Then::Discard }
    }
}

impl Work {
    pub(super) async fn run(&self, mut ingest: Ingest) -> Result<(), Failure> {
        let fetched = timeout_at(self.deadline, self.fetch(&mut ingest)).await;
        match fetched.unwrap_or_else(|_| Err(self.too_slow())) {
            Ok(()) => {
                let is_old = ingest.taken_up() > 0;
                ingest.count_as(self.key.class);
                ingest.commit().await.map(drop).map_err(|error| {
                    let failure = not_stored(&error);
                    // Nobody knows what has happened to a file that lay there through a restart or a power cut.
                    let is_rotten = is_old && matches!(error, IngestError::Mismatch(_));
                    if is_rotten { Failure { then: Then::BeginAnew, ..failure } } else { failure }
                })
            }
            Err(failure) => {
                // The reason is there before followers hear that the file has ended.
                self.fill.ended(&Err(failure.clone()));
                if failure.then == Then::Keep {
                    drop(ingest);
                } else {
                    ingest.discard();
                }
                Err(failure)
            }
        }
    }

    /// Writes the whole blob, from as many answers as it takes.
    async fn fetch(&self, ingest: &mut Ingest) -> Result<(), Failure> {
        let (mut course, mut joined) = (Course::new(&self.limits), self.fill.joined());
        if ingest.taken_up() == self.key.size && self.key.size > 0 {
            return Ok(());
        }
        loop {
            let known = joined.borrow_and_update().clone();
            let Some(path) = course.next(&known) else {
                // All whose clients wait for it have refused. Nobody may be asking for it where it is permitted besides.
                if let Some(path) = course.go_over(&*self.elsewhere, &self.key, &known).await {
                    tracing::info!(upstream = %self.key.upstream, digest = %self.key.digest, "fill goes on from {path}");
                    self.fill.permitted_in(&path);
                    continue;
                }
                let error = course.refusal().unwrap_or(UpstreamError::NotFound { what: Kind::Blob });
                return Err(self.explain(error.into(), ingest.written()));
            };
            let (before, began) = (ingest.written(), Instant::now());
            let outcome = self.fetch_from(ingest, path, course.offset(before)).await;
            let is_whole = ingest.written() == self.key.size;
            let has_more = ingest.written() > before;
            if has_more {
                course.progressed();
            }
            let error = match outcome {
                Ok(()) if is_whole => return Ok(()),
                Ok(()) => UpstreamError::Unavailable { what: Kind::Blob, why: Outage::ConnectionLost },
                Err(FetchError::Upstream(error)) => error,
                Err(error) => return Err(self.explain(error, ingest.written())),
            };
            if has_more {
                if course.goes_on_after(&error, ingest.written() - before, began.elapsed()) {
                    continue;
                }
                if matches!(error, UpstreamError::Unavailable { .. }) {
                    return Err(self.explain(error.into(), ingest.written()));
                }
            }
            let pause = course
                .failed(path, &known, error, There { bytes: ingest.written(), taken_up: ingest.taken_up() })
                .map_err(|error| self.explain(error.into(), ingest.written()))?;
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                // Another repository may have it at once.
                _ = joined.changed() => {}
            }
        }
    }

    async fn fetch_from(&self, ingest: &mut Ingest, path: &RepositoryPath, offset: u64) -> Result<(), FetchError> {
        let have = ingest.written();
        let mut stream = self.upstream.blob(path, &self.key.digest, offset).await?;
        if let Some(size) = stream.size().filter(|size| *size != self.key.size) {
            if stream.start() > 0 {
                return Err(UpstreamError::Malformed { what: Kind::Blob, why: Flaw::Range }.into());
            }
            return Err(FetchError::Wrong(format!("upstream has {size} bytes, its manifest says {}", self.key.size)));
        }
        if stream.start() < have {
            self.compare(&mut stream, ingest, have).await?;
        }
        while let Some(bytes) = stream.next().await? {
            counter!("pratique_upstream_bytes_total").increment(bytes.len() as u64);
            self.write(ingest, bytes).await?;
        }
        Ok(())
    }

    /// Upstream began again at the first byte: what followers may have read must come again, byte for byte.
    async fn compare(&self, stream: &mut BlobStream, ingest: &mut Ingest, have: u64) -> Result<(), FetchError> {
        let mut at = stream.start();
        while at < have {
            let Some(mut bytes) = stream.next().await? else { return Ok(()) };
            let known = usize::try_from(have - at).unwrap_or(usize::MAX).min(bytes.len());
            let again = bytes.split_to(known);
            if self.written(ingest, at, known).await? != again {
                return Err(FetchError::Differs);
            }
            at += known as u64;
            if !bytes.is_empty() {
                self.write(ingest, bytes).await?;
            }
        }
        Ok(())
    }

    /// What was written, once it is in the file: an ingest takes bytes before they get there.
    async fn written(&self, ingest: &Ingest, at: u64, length: usize) -> Result<Bytes, FetchError> {
        let (growing, last) = (ingest.growing(), at + (length as u64).saturating_sub(1));
        if growing.advance(last).await == Progress::Failed {
            return Err(FetchError::Store(not_stored(&IngestError::Ended { digest: self.key.digest.clone() })));
        }
        growing.read_at(at, length).await.map_err(|error| FetchError::Store(ApiError::from(error).into()))
    }

    async fn write(&self, ingest: &mut Ingest, bytes: Bytes) -> Result<(), FetchError> {
        if ingest.written().saturating_add(bytes.len() as u64) > self.key.size {
            return Err(FetchError::Wrong(format!(
                "upstream sent more than the {} bytes that its manifest says",
                self.key.size
            )));
        }
        let bytes = self.room.hold(bytes).await;
        ingest.write(bytes).await.map_err(|error| FetchError::Store(not_stored(&error)))
    }

    fn too_slow(&self) -> Failure {
        Failure { error: super::too_slow(&self.key.digest), then: Then::Keep }
    }

    fn explain(&self, error: FetchError, written: u64) -> Failure {
        let what = format!("blob {}", self.key.digest);
        let mismatched = |code, why: &str| {
            counter!("pratique_content_mismatches_total", "what" => "blob").increment(1);
            ApiError::Wrong { code, message: format!("cannot fetch {what}: {why}") }
        };
        match error {
            FetchError::Upstream(UpstreamError::Unavailable { why, .. }) if written > 0 => Failure {
                error: ApiError::undecided(format!(
                    "cannot fetch {what}: upstream broke off after {written} of {} bytes: {why}",
                    self.key.size
                )),
                then: Then::Keep,
            },
            FetchError::Upstream(error) => {
                Failure { error: ApiError::from_upstream(&error, "BLOB_UNKNOWN", &what), then: Then::Keep }
            }
            FetchError::Wrong(why) => mismatched("SIZE_INVALID", &why).into(),
            FetchError::Differs => {
                let error = mismatched("DIGEST_INVALID", "upstream sent other bytes when asked to go on");
                Failure { error, then: Then::BeginAnew }
            }
            FetchError::Store(failure) => failure,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else went wrong is ours")]
fn not_stored(error: &IngestError) -> Failure {
    match error {
        IngestError::Mismatch(_) | IngestError::Short { .. } | IngestError::Long { .. } => {
            counter!("pratique_content_mismatches_total", "what" => "blob").increment(1);
            let code = if matches!(error, IngestError::Mismatch(_)) { "DIGEST_INVALID" } else { "SIZE_INVALID" };
            ApiError::Wrong { code, message: error.to_string() }.into()
        }
        IngestError::Store(full) if full.is_full() => {
            Failure { error: ApiError::undecided(format!("store: {}", chain(error))), then: Then::PassOn }
        }
        _ => ApiError::Fault { message: format!("store: {}", chain(error)) }.into(),
    }
}

enum FetchError {
    Upstream(UpstreamError),
    /// Its length is another.
    Wrong(String),
    /// Asked to go on, it sent the beginning again, and that is another now.
    Differs,
    Store(Failure),
}

impl From<UpstreamError> for FetchError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}
