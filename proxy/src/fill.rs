//! Fills: one download of a blob, however many follow it.
//!
//! A fill writes upstream's bytes into the store while its followers read the growing file. It outlives its clients, goes on with
//! `Range` where upstream broke off, and commits only what has the size and the digest that an admitted manifest named.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use config::Limits;
use metrics::{counter, gauge};
use oci::{Digest, RepositoryPath, UpstreamName};
use storage::{Blob, Blobs, Growing, Ingest, IngestError, Progress};
use tokio::sync::Semaphore;

use crate::{
    error::{ApiError, chain},
    upstream::{BlobStream, Upstream, UpstreamError},
};

/// What is filled: the same digest under another size or from another upstream is another fill.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FillKey {
    /// From where.
    pub upstream: UpstreamName,
    /// Which blob.
    pub digest: Digest,
    /// Its length in bytes, as the manifest says.
    pub size: u64,
}

/// A download under way, as its followers see it.
pub struct Fill {
    growing: Growing,
    /// Repositories in which the blob is permitted: where one does not have it, the next is asked.
    paths: Mutex<Vec<RepositoryPath>>,
    failure: OnceLock<ApiError>,
}

impl Fill {
    /// The growing file.
    #[must_use]
    pub fn growing(&self) -> &Growing {
        &self.growing
    }

    /// Waits until there is something to send, so that a fill that fails at once is told by its status.
    ///
    /// # Errors
    /// Why nothing came.
    pub async fn started(&self) -> Result<(), ApiError> {
        match self.growing.advance(0).await {
            Progress::Failed => Err(self.failure()),
            Progress::Written(_) | Progress::Committed => Ok(()),
        }
    }

    /// Waits until the whole blob has its size and digest: what has no last byte to keep back must not be answered before.
    ///
    /// # Errors
    /// Why it never will.
    pub async fn committed(&self) -> Result<(), ApiError> {
        match self.growing.advance(u64::MAX).await {
            Progress::Committed => Ok(()),
            Progress::Failed | Progress::Written(_) => Err(self.failure()),
        }
    }

    /// Why the fill failed.
    #[must_use]
    pub fn failure(&self) -> ApiError {
        self.failure
            .get()
            .cloned()
            .unwrap_or_else(|| ApiError::Fault { message: "a download ended without a reason".to_owned() })
    }

    fn paths(&self) -> Vec<RepositoryPath> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn permitted_in(&self, path: &RepositoryPath) {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }
}

/// Where a blob's bytes come from.
pub enum Content {
    /// From the store.
    Stored(Blob),
    /// From a download under way.
    Filling(Arc<Fill>),
}

/// All downloads under way.
pub struct Fills {
    blobs: Blobs,
    under_way: Arc<tokio::sync::Mutex<HashMap<FillKey, Arc<Fill>>>>,
    slots: Arc<Semaphore>,
    limits: Arc<Limits>,
}

impl Fills {
    /// No downloads yet.
    #[must_use]
    pub fn new(blobs: Blobs, limits: Arc<Limits>) -> Self {
        Self { blobs, under_way: Arc::default(), slots: Arc::new(Semaphore::new(limits.fills_max)), limits }
    }

    /// The blob from the store, or the download of it: joined where it is under way, else begun.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn content(
        &self,
        key: FillKey,
        upstream: &Arc<Upstream>,
        path: &RepositoryPath,
    ) -> Result<Content, ApiError> {
        if key.size > self.limits.blob_bytes_max {
            return Err(ApiError::Wrong {
                message: format!(
                    "blob {} has {} bytes; limits.blob_bytes_max is {}",
                    key.digest, key.size, self.limits.blob_bytes_max
                ),
            });
        }
        if let Some(blob) = self.stored(&key).await? {
            counter!("pratique_blob_hits_total").increment(1);
            return Ok(Content::Stored(blob));
        }
        let mut under_way = self.under_way.lock().await;
        if let Some(fill) = under_way.get(&key) {
            fill.permitted_in(path);
            return Ok(Content::Filling(Arc::clone(fill)));
        }
        // A fill that ended between the look above and the lock has left its blob.
        if let Some(blob) = self.stored(&key).await? {
            return Ok(Content::Stored(blob));
        }
        counter!("pratique_blob_misses_total").increment(1);
        let ingest = self.blobs.ingest(key.digest.clone(), key.size).await?;
        let fill = Arc::new(Fill {
            growing: ingest.growing(),
            paths: Mutex::new(vec![path.clone()]),
            failure: OnceLock::new(),
        });
        under_way.insert(key.clone(), Arc::clone(&fill));
        drop(under_way);
        self.spawn(key, Arc::clone(&fill), ingest, Arc::clone(upstream));
        Ok(Content::Filling(fill))
    }

    /// The stored blob; one whose length is not the one asked for is somebody else's lie or damage, and is fetched again.
    async fn stored(&self, key: &FillKey) -> Result<Option<Blob>, ApiError> {
        let Some(blob) = self.blobs.open(&key.digest).await? else {
            return Ok(None);
        };
        if blob.size() == key.size {
            return Ok(Some(blob));
        }
        if self.blobs.verify(&key.digest).await? {
            return Err(ApiError::Wrong {
                message: format!("blob {} has {} bytes, its manifest says {}", key.digest, blob.size(), key.size),
            });
        }
        Ok(None)
    }

    fn spawn(&self, key: FillKey, fill: Arc<Fill>, ingest: Ingest, upstream: Arc<Upstream>) {
        let (under_way, slots) = (Arc::clone(&self.under_way), Arc::clone(&self.slots));
        let limits = Arc::clone(&self.limits);
        tokio::spawn(async move {
            let slot = slots.acquire().await;
            gauge!("pratique_fills").increment(1);
            let work = Work { key: &key, fill: &fill, upstream: &upstream };
            let outcome = tokio::time::timeout(limits.fill_timeout, work.run(ingest)).await;
            let outcome = outcome.unwrap_or_else(|_| {
                Err(ApiError::undecided(format!(
                    "cannot fetch blob {}: took longer than limits.fill_timeout",
                    key.digest
                )))
            });
            gauge!("pratique_fills").decrement(1);
            drop(slot);
            let label = if outcome.is_ok() { "committed" } else { "failed" };
            counter!("pratique_fills_total", "outcome" => label).increment(1);
            if let Err(error) = outcome {
                tracing::warn!(upstream = %key.upstream, digest = %key.digest, "fill failed: {error}");
            }
            under_way.lock().await.remove(&key);
        });
    }
}

/// How often a fill asks again without having got a single byte more.
const TRIES_WITHOUT_PROGRESS_MAX: u32 = 3;
/// The pause before the first such try; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

struct Work<'a> {
    key: &'a FillKey,
    fill: &'a Fill,
    upstream: &'a Upstream,
}

impl Work<'_> {
    async fn run(&self, mut ingest: Ingest) -> Result<(), ApiError> {
        let result = match self.fetch(&mut ingest).await {
            Ok(()) => ingest.commit().await.map(drop).map_err(|error| not_stored(&error)),
            Err(error) => {
                // The reason is there before followers hear that the file has ended.
                let _ = self.fill.failure.set(error.clone());
                drop(ingest);
                Err(error)
            }
        };
        if let Err(error) = &result {
            let _ = self.fill.failure.set(error.clone());
        }
        result
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
            let written = ingest.growing().read_at(at, known).await.map_err(|e| FetchError::Store(e.into()))?;
            if written != again {
                return Err(FetchError::Wrong("upstream sent other bytes when asked to go on".to_owned()));
            }
            at += known as u64;
            if !bytes.is_empty() {
                self.write(ingest, bytes).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, ingest: &mut Ingest, bytes: bytes::Bytes) -> Result<(), FetchError> {
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
