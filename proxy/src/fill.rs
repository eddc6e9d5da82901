//! Fills: one download of a blob, however many follow it.
//!
//! A fill writes upstream's bytes into the store while its followers read the growing file. It outlives its clients, goes on with
//! `Range` where upstream broke off, and commits only what has the size and the digest that an admitted manifest named. At most
//! `limits.fills_max` hold an open file at a time; who would be one more waits for a slot before there is a file.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use config::Limits;
use futures_util::FutureExt as _;
use metrics::{counter, gauge};
use oci::{Digest, RepositoryPath, UpstreamName};
use storage::{Blob, Blobs, Growing, Ingest, IngestError, Progress};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

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
    /// How it ended, once it has. The growing file may end before: nobody but the writer knows why.
    outcome: watch::Sender<Option<Result<(), ApiError>>>,
}

/// How long a follower of a file that has failed waits to hear why. A writer that still waits for upstream will only notice later.
const REASON_WITHIN: Duration = Duration::from_secs(1);

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
            Progress::Failed => Err(self.reason().await),
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
            Progress::Failed | Progress::Written(_) => Err(self.reason().await),
        }
    }

    /// Why the fill failed. Where the file has only just failed the reason may be on its way; it is waited for, but not for long.
    pub async fn reason(&self) -> ApiError {
        let mut outcome = self.outcome.subscribe();
        let _ = timeout(REASON_WITHIN, outcome.wait_for(Option::is_some)).await;
        self.failure()
    }

    /// Why the fill failed, as far as is known at this instant; [`Self::reason`] waits for it.
    #[must_use]
    pub fn failure(&self) -> ApiError {
        let failure = self.outcome.borrow().clone().and_then(Result::err);
        failure.unwrap_or_else(|| ApiError::Fault { message: "a download ended without a reason".to_owned() })
    }

    /// Says how it ended. Only the first word counts.
    fn ended(&self, how: &Result<(), ApiError>) {
        self.outcome.send_if_modified(|outcome| {
            let first = outcome.is_none();
            outcome.get_or_insert_with(|| how.clone());
            first
        });
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
    /// Rung whenever a fill begins: whoever waits for a slot may want that very blob, and can follow.
    begun: Notify,
    limits: Arc<Limits>,
}

/// A place among the downloads that may be under way at one time, or the download that somebody else began meanwhile.
enum Turn {
    Slot(OwnedSemaphorePermit),
    Follow(Arc<Fill>),
}

impl Fills {
    /// No downloads yet.
    #[must_use]
    pub fn new(blobs: Blobs, limits: Arc<Limits>) -> Self {
        let slots = Arc::new(Semaphore::new(limits.fills_max));
        Self { blobs, under_way: Arc::default(), slots, begun: Notify::new(), limits }
    }

    /// The blob from the store, or the download of it: joined where it is under way, else begun.
    ///
    /// # Errors
    /// When the store cannot be read or written, and when `limits.fills_max` others are under way and none of them makes room
    /// within `limits.decision_timeout`.
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
        let slot = match timeout(self.limits.decision_timeout, self.turn(&key)).await {
            Ok(Turn::Slot(slot)) => slot,
            Ok(Turn::Follow(fill)) => return Ok(followed(&fill, path)),
            Err(_) => return Err(ApiError::undecided("too many downloads at once (limits.fills_max)")),
        };
        let mut under_way = self.under_way.lock().await;
        if let Some(fill) = under_way.get(&key) {
            return Ok(followed(fill, path));
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
            outcome: watch::Sender::new(None),
        });
        under_way.insert(key.clone(), Arc::clone(&fill));
        drop(under_way);
        self.begun.notify_waiters();
        let work =
            Work { key, fill: Arc::clone(&fill), upstream: Arc::clone(upstream), limits: Arc::clone(&self.limits) };
        self.spawn(work, ingest, slot);
        Ok(Content::Filling(fill))
    }

    /// Waits for a slot, or until there is a fill of this blob to follow. Nothing is locked or open meanwhile.
    async fn turn(&self, key: &FillKey) -> Turn {
        let mut slot = pin!(Arc::clone(&self.slots).acquire_owned());
        loop {
            // Listening begins before the look, so that a fill that begins in between is heard.
            let begun = self.begun.notified();
            if let Some(fill) = self.under_way.lock().await.get(key) {
                return Turn::Follow(Arc::clone(fill));
            }
            tokio::select! {
                slot = &mut slot => return Turn::Slot(slot.expect("the slots are never closed")),
                () = begun => {}
            }
        }
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

    fn spawn(&self, work: Work, ingest: Ingest, slot: OwnedSemaphorePermit) {
        let under_way = Arc::clone(&self.under_way);
        tokio::spawn(async move {
            gauge!("pratique_fills").increment(1);
            // A panic must leave neither followers without an end nor the blob under way for ever.
            let outcome = AssertUnwindSafe(work.run(ingest)).catch_unwind().await;
            let outcome =
                outcome.unwrap_or_else(|_| Err(ApiError::Fault { message: "a download panicked".to_owned() }));
            work.fill.ended(&outcome);
            under_way.lock().await.remove(&work.key);
            // Last: whoever gets the slot must not find this fill and follow it.
            drop(slot);
            gauge!("pratique_fills").decrement(1);
            let label = if outcome.is_ok() { "committed" } else { "failed" };
            counter!("pratique_fills_total", "outcome" => label).increment(1);
            if let Err(error) = outcome {
                tracing::warn!(upstream = %work.key.upstream, digest = %work.key.digest, "fill failed: {error}");
            }
        });
    }
}

/// `fill`, which may ask for its blob in this repository too.
fn followed(fill: &Arc<Fill>, path: &RepositoryPath) -> Content {
    fill.permitted_in(path);
    Content::Filling(Arc::clone(fill))
}

/// How often a fill asks again without having got a single byte more.
const TRIES_WITHOUT_PROGRESS_MAX: u32 = 3;
/// The pause before the first such try; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

struct Work {
    key: FillKey,
    fill: Arc<Fill>,
    upstream: Arc<Upstream>,
    limits: Arc<Limits>,
}

impl Work {
    async fn run(&self, mut ingest: Ingest) -> Result<(), ApiError> {
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

#[cfg(test)]
mod tests;
