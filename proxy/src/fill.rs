//! Fills: one download of a blob, however many follow it.
//!
//! A fill writes upstream's bytes into the store while its followers read the growing file. It outlives its clients, goes on with
//! `Range` where upstream broke off, and commits only what has the size and the digest that an admitted manifest named. At most
//! `limits.fills_max` hold an open file at a time, `limits.fills_per_repository_max` of them for one repository, and where there are
//! several upstreams `limits.fills_per_upstream_max` for one of these; who would be one more waits for a slot before there is a file, and
//! repositories get theirs in turn. Where the disk has no room for a blob each client has a download of its own, which takes such a slot
//! and no file.
//!
//! ```text
//!  Slots      who may begin, and when
//!  Board      what is being filled, and by whom: claimed before there is a file
//!  Work       one blob: answer after answer into one file; a new file where upstream's beginning is another than it was
//!  Course     which repository is asked next, after which pause, or none
//!  Passing    one client's way through a blob that is not kept
//! ```

mod board;
mod course;
mod passing;
mod room;
mod slots;
#[cfg(test)]
mod tests;
mod work;

use std::{
    hash::{Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use config::Limits;
use futures_util::{FutureExt as _, future::BoxFuture};
use metrics::{counter, gauge};
use moka::sync::Cache;
use oci::{Digest, Repository, RepositoryPath, UnixTime, UpstreamName};
use storage::{Blob, ContentClass, Growing, Ingest, Progress, Store, Told};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

pub use self::passing::Passing;
use self::{
    board::{Board, Claim},
    room::Room,
    slots::{Slot, Slots},
    work::{Failure, Then, Work},
};

use crate::{
    clock::Clock,
    error::{ApiError, chain},
    flight::Flight,
    patience::Patience,
    upstream::Upstream,
};

/// What is filled: the same digest under another size or from another upstream is another fill.
#[derive(Debug, Clone)]
pub struct FillKey {
    /// From where.
    pub upstream: UpstreamName,
    /// Which blob.
    pub digest: Digest,
    /// Its length in bytes, as the manifest says.
    pub size: u64,
    /// Against which budget it is counted, as the admitted manifest says. No part of what is filled: who calls it something else follows
    /// the same download.
    pub class: ContentClass,
}

impl FillKey {
    fn what(&self) -> (&UpstreamName, &Digest, u64) {
        (&self.upstream, &self.digest, self.size)
    }
}

impl PartialEq for FillKey {
    fn eq(&self, other: &Self) -> bool {
        self.what() == other.what()
    }
}

impl Eq for FillKey {}

impl Hash for FillKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.what().hash(state);
    }
}

/// Who knows where else a blob is permitted.
pub trait Elsewhere: Send + Sync {
    /// One more repository of that upstream, none of `known`, in which the blob is permitted now. It may be asked for the blob like those
    /// whose clients wait for it, with the upstream's own credentials.
    fn another<'a>(&'a self, key: &'a FillKey, known: &'a [RepositoryPath]) -> BoxFuture<'a, Option<RepositoryPath>>;
}

/// A download under way, as its followers see it.
pub struct Fill {
    growing: Growing,
    /// How much of it was there before: nobody is told yes on the strength of that alone.
    taken_up: u64,
    /// Repositories in which the blob is permitted: where one does not have it, the next is asked.
    paths: watch::Sender<Vec<RepositoryPath>>,
    /// How it ended, once it has. The growing file may end before: nobody but the writer knows why.
    outcome: Told<Option<Result<(), Failure>>>,
}

/// How long a follower of a file that has failed waits to hear why. A writer that still waits for upstream will only notice later.
const REASON_WITHIN: Duration = Duration::from_secs(1);

/// How many files one fill begins: a second and a third where upstream's beginning has become another.
const FILES_MAX: u32 = 3;
/// Blobs whose size is remembered because a manifest had another one for it.
const SIZES_MAX: u64 = 4096;

impl Fill {
    fn new(ingest: &Ingest, paths: Vec<RepositoryPath>) -> Self {
        let (growing, taken_up) = (ingest.growing(), ingest.taken_up());
        Self { growing, taken_up, paths: watch::Sender::new(paths), outcome: Told::new(None) }
    }

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
        let beyond = self.taken_up.min(self.growing.size().saturating_sub(1));
        match self.growing.advance(beyond).await {
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
        let _ = timeout(REASON_WITHIN, self.outcome.until(Option::is_some)).await;
        self.failure()
    }

    /// Why the fill failed, as far as is known at this instant; [`Self::reason`] waits for it.
    fn failure(&self) -> ApiError {
        let failure = self.outcome.get().and_then(Result::err).map(|failure| failure.error);
        failure.unwrap_or_else(|| ApiError::Fault { message: "a download ended without a reason".to_owned() })
    }

    /// Whether it failed because the disk has no room for it.
    fn had_no_room(&self) -> bool {
        self.outcome.with(|outcome| matches!(outcome, Some(Err(failure)) if failure.then == Then::PassOn))
    }

    /// Whether it is known that nothing will come of it.
    fn has_failed(&self) -> bool {
        self.outcome.with(|outcome| matches!(outcome, Some(Err(_))))
    }

    /// Says how it ended. Only the first word counts.
    fn ended(&self, how: &Result<(), Failure>) {
        self.outcome.change(|outcome| {
            let first = outcome.is_none();
            outcome.get_or_insert_with(|| how.clone());
            first
        });
    }

    /// The repositories in which the blob is permitted, as they become more.
    fn joined(&self) -> watch::Receiver<Vec<RepositoryPath>> {
        self.paths.subscribe()
    }

    fn permitted_in(&self, path: &RepositoryPath) {
        self.paths.send_if_modified(|paths| {
            let is_new = !paths.contains(path);
            if is_new {
                paths.push(path.clone());
            }
            is_new
        });
    }
}

/// Where a blob's bytes come from.
pub enum Content {
    /// From the store.
    Stored(Blob),
    /// From a download under way.
    Filling(Arc<Fill>),
    /// From a download for one client alone, which is not kept: the store is full.
    Passing(Box<Passing>),
}

/// All downloads under way.
pub struct Fills {
    shared: Arc<Shared>,
    slots: Slots,
    room: Room,
    elsewhere: Arc<dyn Elsewhere>,
    /// Stored blobs that are hashed again because somebody says they have another size.
    verifying: Flight<Digest, bool>,
    /// What has been hashed because somebody had another size for it, bytes.
    sizes: Cache<Digest, u64>,
    limits: Arc<Limits>,
}

/// What the fills themselves need to know of each other.
struct Shared {
    store: Store,
    board: Arc<Board>,
    /// Until when the disk is taken to be full without being asked.
    full_until: Mutex<Option<Instant>>,
    clock: Clock,
    limits: Arc<Limits>,
}

/// How long after a disk was found full in the middle of a fill none is begun: clients that broke with it come again within that time,
/// and must not meet the same end.
const FULL_FOR: Duration = Duration::from_secs(60);

/// Why whoever waits for a slot gets one, or gives up first.
const SLOTS_STAY: &str = "the slots outlive who waits for one";

fn too_many() -> ApiError {
    ApiError::undecided("too many downloads at once (limits.fills_max)")
}

fn too_slow(digest: &Digest) -> ApiError {
    ApiError::undecided(format!("cannot fetch blob {digest}: took longer than limits.fill_timeout"))
}

/// A place among the downloads that may be under way at one time, or the download that somebody else began meanwhile.
enum Turn {
    Begin(Slot, Claim),
    Follow(Arc<Fill>),
}

impl Fills {
    /// No downloads yet.
    #[must_use]
    pub fn new(store: Store, clock: Clock, elsewhere: Arc<dyn Elsewhere>, limits: Arc<Limits>) -> Self {
        let slots = Slots::new(limits.fills_max, limits.fills_per_repository_max);
        let room = Room::new(limits.fill_memory_bytes_max);
        let shared =
            Shared { store, board: Arc::default(), full_until: Mutex::default(), clock, limits: Arc::clone(&limits) };
        Self {
            shared: Arc::new(shared),
            slots,
            room,
            elsewhere,
            verifying: Flight::default(),
            sizes: Cache::new(SIZES_MAX),
            limits,
        }
    }

    /// There are so many upstreams from now on: where there are several, none may take all the places for downloads.
    pub fn share_among(&self, upstreams: usize) {
        let all = self.limits.fills_max;
        self.slots.set_upstream_share(if upstreams > 1 { self.limits.fills_per_upstream_max.min(all) } else { all });
    }

    /// Drops what is left of downloads that were interrupted too long ago, or is too much.
    pub async fn sweep(&self) {
        self.shared.sweep().await;
    }

    /// [`content`](Self::content) for a client: where the disk refuses a download before it has brought anything, that client gets one
    /// that needs no disk.
    ///
    /// # Errors
    /// Those of [`content`](Self::content). Why a download brought nothing is told by the download.
    pub async fn readable(
        &self,
        key: FillKey,
        upstream: &Arc<Upstream>,
        path: &RepositoryPath,
        patience: Patience,
    ) -> Result<Content, ApiError> {
        let content = self.content(key.clone(), upstream, path, patience).await?;
        if let Content::Filling(fill) = &content
            && fill.started().await.is_err()
            && fill.had_no_room()
        {
            let slot = self.slots.queue(&Repository::new(key.upstream.clone(), path.clone()));
            let slot = patience.wait(slot).await.ok_or_else(too_many)?;
            return Ok(self.passing(key, upstream, path, slot.expect(SLOTS_STAY)));
        }
        Ok(content)
    }

    /// The blob from the store, or the download of it: joined where it is under way, else begun. A download that is not kept where the
    /// disk has no room for it.
    ///
    /// # Errors
    /// When the store cannot be read or written, and when `limits.fills_max` others are under way and none of them makes room
    /// as long as `patience` lasts.
    pub async fn content(
        &self,
        key: FillKey,
        upstream: &Arc<Upstream>,
        path: &RepositoryPath,
        patience: Patience,
    ) -> Result<Content, ApiError> {
        if key.size > self.limits.blob_bytes_max {
            return Err(ApiError::Wrong {
                code: "SIZE_INVALID",
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
        let (slot, claim) = match patience.wait(self.turn(&key, path)).await {
            Some(Turn::Begin(slot, claim)) => (slot, claim),
            Some(Turn::Follow(fill)) => return Ok(followed(&fill, path)),
            None => return Err(too_many()),
        };
        // A fill that ended between the look above and the claim has left its blob.
        if let Some(blob) = self.stored(&key).await? {
            return Ok(Content::Stored(blob));
        }
        counter!("pratique_blob_misses_total").increment(1);
        let begun =
            if self.shared.is_full() { None } else { self.shared.begin(&claim, &key, vec![path.clone()]).await? };
        let Some((fill, ingest)) = begun else {
            return Ok(self.passing(key, upstream, path, slot));
        };
        let work = Work {
            key,
            fill: Arc::clone(&fill),
            upstream: Arc::clone(upstream),
            elsewhere: Arc::clone(&self.elsewhere),
            limits: Arc::clone(&self.limits),
            deadline: Instant::now() + self.limits.fill_timeout,
            room: self.room.clone(),
        };
        tokio::spawn(Arc::clone(&self.shared).run(work, ingest, slot, claim));
        Ok(Content::Filling(fill))
    }

    fn passing(&self, key: FillKey, upstream: &Arc<Upstream>, path: &RepositoryPath, slot: Slot) -> Content {
        counter!("pratique_fills_total", "outcome" => "not_kept").increment(1);
        let (elsewhere, limits) = (Arc::clone(&self.elsewhere), Arc::clone(&self.limits));
        Content::Passing(Box::new(Passing::new(key, Arc::clone(upstream), path.clone(), elsewhere, limits, slot)))
    }

    /// Waits for a slot, or until there is a fill of this blob to follow. Nothing is locked or open meanwhile.
    async fn turn(&self, key: &FillKey, path: &RepositoryPath) -> Turn {
        let mut queue = self.slots.queue(&Repository::new(key.upstream.clone(), path.clone()));
        let mut slot = None;
        loop {
            // Listening begins before the look, so that a fill that begins in between is heard.
            let changed = self.shared.board.changed();
            if let Some(fill) = self.shared.board.fill(key) {
                return Turn::Follow(fill);
            }
            if let Some(held) = slot.take() {
                if let Some(claim) = self.shared.board.claim(key) {
                    return Turn::Begin(held, claim);
                }
                // Somebody else is about to begin, or finds that there is nothing to begin.
                slot = Some(held);
            }
            tokio::select! {
                biased;
                taken = &mut queue, if slot.is_none() => slot = Some(taken.expect(SLOTS_STAY)),
                () = changed => {}
            }
        }
    }

    /// The stored blob; one whose length is not the one asked for is somebody else's lie or damage, and is fetched again.
    async fn stored(&self, key: &FillKey) -> Result<Option<Blob>, ApiError> {
        let store = &self.shared.store;
        let Some(blob) = store.blobs().open(&key.digest).await? else {
            return Ok(None);
        };
        if blob.size() == key.size {
            return Ok(Some(blob));
        }
        // A digest has one size, whoever says otherwise: once it was found, nothing is hashed for a manifest's lie. What is written down
        // says how long the file was, and not that it was right.
        let is_right = self.sizes.get(&key.digest) == Some(blob.size()) || self.verified(&key.digest).await?;
        if is_right {
            self.sizes.insert(key.digest.clone(), blob.size());
            return Err(ApiError::Wrong {
                code: "SIZE_INVALID",
                message: format!("blob {} has {} bytes, its manifest says {}", key.digest, blob.size(), key.size),
            });
        }
        Ok(None)
    }

    /// Hashes a stored blob again, once for all who want to know.
    async fn verified(&self, digest: &Digest) -> Result<bool, ApiError> {
        let (blobs, wanted) = (self.shared.store.blobs().clone(), digest.clone());
        self.verifying.join(digest.clone(), || async move { Ok(blobs.verify(&wanted).await?) }).await
    }
}

impl Shared {
    /// A file, and the fill of it that whoever wants the blob follows from now on; `None` where the disk has no room for it.
    async fn begin(
        &self,
        claim: &Claim,
        key: &FillKey,
        paths: Vec<RepositoryPath>,
    ) -> Result<Option<(Arc<Fill>, Ingest)>, ApiError> {
        let ingest = match self.store.blobs().resume(key.digest.clone(), key.size, key.upstream.clone()).await {
            Ok(ingest) => ingest,
            Err(error) if error.is_full() => {
                tracing::warn!(digest = %key.digest, "the store is full, so that the blob is not kept: {}", chain(&error));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let fill = Arc::new(Fill::new(&ingest, paths));
        claim.show(Some(&fill));
        Ok(Some((fill, ingest)))
    }

    fn is_full(&self) -> bool {
        let until = *self.full_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn found_full(&self) {
        tracing::warn!("the store is full: blobs are not kept for the next {} s", FULL_FOR.as_secs());
        *self.full_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + FULL_FOR);
    }

    async fn sweep(&self) {
        let age_max = self.limits.fill_kept_age_max;
        let age_max = u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX);
        let oldest = UnixTime::from_millis(self.clock.now().as_millis().saturating_sub(age_max));
        let swept = self.store.blobs().sweep_interrupted(oldest, self.limits.fill_kept_bytes_max).await;
        match swept {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "dropped what was left of interrupted downloads"),
            Err(error) => tracing::warn!("interrupted downloads: {}", chain(&error)),
        }
    }

    /// Fills one blob to one end or the other, with a new file where the one before turned out to be another blob's.
    async fn run(self: Arc<Self>, mut work: Work, mut ingest: Ingest, slot: Slot, claim: Claim) {
        gauge!("pratique_fills").increment(1);
        let mut files = 1;
        let outcome = loop {
            let Err(failure) = guarded(&work, ingest).await else { break Ok(()) };
            work.fill.ended(&Err(failure.clone()));
            match failure.then {
                Then::Keep => self.sweep().await,
                Then::PassOn => self.found_full(),
                Then::Discard | Then::BeginAnew => {}
            }
            if failure.then != Then::BeginAnew || files == FILES_MAX {
                break Err(failure);
            }
            tracing::warn!(upstream = %work.key.upstream, digest = %work.key.digest, "fill begins anew: {}", failure.error);
            let paths = work.fill.joined().borrow().clone();
            // Who comes now waits for the new file.
            claim.show(None);
            match self.begin(&claim, &work.key, paths).await {
                Ok(Some((fill, fresh))) => (work.fill, ingest) = (fill, fresh),
                Ok(None) => break Err(failure),
                Err(error) => break Err(error.into()),
            }
            files += 1;
        };
        work.fill.ended(&outcome);
        let key = work.key.clone();
        // Before anybody who waits begins anew: what is kept has its name for as long as this is there.
        drop(work);
        drop(claim);
        // Last: whoever gets the slot must not find this fill and follow it.
        drop(slot);
        gauge!("pratique_fills").decrement(1);
        let label = if outcome.is_ok() { "committed" } else { "failed" };
        counter!("pratique_fills_total", "outcome" => label).increment(1);
        if let Err(Failure { error, .. }) = outcome {
            tracing::warn!(upstream = %key.upstream, digest = %key.digest, "fill failed: {error}");
        }
    }
}

/// A panic must leave neither followers without an end nor the blob under way for ever.
async fn guarded(work: &Work, ingest: Ingest) -> Result<(), Failure> {
    let outcome = AssertUnwindSafe(work.run(ingest)).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(ApiError::Fault { message: "a download panicked".to_owned() }.into()))
}

/// `fill`, which may ask for its blob in this repository too.
fn followed(fill: &Arc<Fill>, path: &RepositoryPath) -> Content {
    fill.permitted_in(path);
    Content::Filling(Arc::clone(fill))
}
