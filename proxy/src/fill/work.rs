//! Fetching one blob, from as many answers as it takes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use config::Limits;
use metrics::counter;
use oci::RepositoryPath;
use storage::{Ingest, IngestError, Progress};
use tokio::time::timeout;

use super::{Fill, FillKey};
use crate::{
    error::{ApiError, chain},
    upstream::{BlobStream, Upstream, UpstreamError},
};

/// How often a fill asks again without having got a single byte more.
const TRIES_WITHOUT_PROGRESS_MAX: u32 = 3;
/// The pause before the first such try; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// A fill's work: from upstream's answers to a committed blob.
pub(super) struct Work {
    pub(super) key: FillKey,
    pub(super) fill: Arc<Fill>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) limits: Arc<Limits>,
}

impl Work {
    pub(super) async fn run(&self, mut ingest: Ingest) -> Result<(), ApiError> {
        let fetched = timeout(self.limits.fill_timeout, self.fetch(&mut ingest)).await;
        match fetched.unwrap_or_else(|_| Err(self.too_slow())) {
            Ok(()) => ingest.commit().await.map(drop).map_err(|error| not_stored(&error)),
            Err(error) => {
                // The reason is there before followers hear that the file has ended.
                self.fill.ended(&Err(error.clone()));
                drop(ingest);
                Err(error)
            }
        }
    }

    /// Writes the whole blob, from as many answers as it takes.
    async fn fetch(&self, ingest: &mut Ingest) -> Result<(), ApiError> {
        let (mut asked, mut tries) = (0, 0);
        while ingest.written() < self.key.size || (self.key.size == 0 && tries == 0) {
            let before = ingest.written();
            let paths = self.fill.paths();
            let Some(path) = paths.get(asked) else { break };
            let outcome = self.fetch_from(ingest, path).await;
            tries = if ingest.written() > before { 1 } else { tries + 1 };
            match outcome {
                Ok(()) => {}
                Err(FetchError::Upstream(UpstreamError::NotFound { .. } | UpstreamError::Refused { .. }))
                    if asked + 1 < self.fill.paths().len() =>
                {
                    (asked, tries) = (asked + 1, 0);
                }
                Err(FetchError::Upstream(UpstreamError::Unavailable { .. })) if tries < TRIES_WITHOUT_PROGRESS_MAX => {
                    tokio::time::sleep(PAUSE * 2u32.saturating_pow(tries)).await;
                }
                Err(error) => return Err(self.explain(error)),
            }
            if tries >= TRIES_WITHOUT_PROGRESS_MAX {
                return Err(self.cut_short(ingest.written()));
            }
        }
        if ingest.written() == self.key.size { Ok(()) } else { Err(self.cut_short(ingest.written())) }
    }

    async fn fetch_from(&self, ingest: &mut Ingest, path: &RepositoryPath) -> Result<(), FetchError> {
        let have = ingest.written();
        let mut stream = self.upstream.blob(path, &self.key.digest, have).await?;
        if let Some(length) = stream.length()
            && stream.start().saturating_add(length) != self.key.size
        {
            return Err(FetchError::Wrong(format!(
                "upstream has {} bytes, its manifest says {}",
                stream.start().saturating_add(length),
                self.key.size
            )));
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
                return Err(FetchError::Wrong("upstream sent other bytes when asked to go on".to_owned()));
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
        growing.read_at(at, length).await.map_err(|error| FetchError::Store(error.into()))
    }

    async fn write(&self, ingest: &mut Ingest, bytes: Bytes) -> Result<(), FetchError> {
        if ingest.written().saturating_add(bytes.len() as u64) > self.key.size {
            return Err(FetchError::Wrong(format!(
                "upstream sent more than the {} bytes that its manifest says",
                self.key.size
            )));
        }
        ingest.write(bytes).await.map_err(|error| FetchError::Store(not_stored(&error)))
    }

    fn cut_short(&self, written: u64) -> ApiError {
        ApiError::undecided(format!(
            "cannot fetch blob {}: upstream broke off after {written} of {} bytes",
            self.key.digest, self.key.size
        ))
    }

    fn too_slow(&self) -> ApiError {
        ApiError::undecided(format!("cannot fetch blob {}: took longer than limits.fill_timeout", self.key.digest))
    }

    fn explain(&self, error: FetchError) -> ApiError {
        let what = format!("blob {}", self.key.digest);
        match error {
            FetchError::Upstream(error) => ApiError::from_upstream(&error, "BLOB_UNKNOWN", &what),
            FetchError::Wrong(why) => {
                counter!("pratique_content_mismatches_total", "what" => "blob").increment(1);
                ApiError::Wrong { message: format!("cannot fetch {what}: {why}") }
            }
            FetchError::Store(error) => error,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else went wrong is ours")]
fn not_stored(error: &IngestError) -> ApiError {
    match error {
        IngestError::Mismatch(_) | IngestError::Short { .. } | IngestError::Long { .. } => {
            counter!("pratique_content_mismatches_total", "what" => "blob").increment(1);
            ApiError::Wrong { message: error.to_string() }
        }
        _ => ApiError::Fault { message: format!("store: {}", chain(error)) },
    }
}

enum FetchError {
    Upstream(UpstreamError),
    Wrong(String),
    Store(ApiError),
}

impl From<UpstreamError> for FetchError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}
