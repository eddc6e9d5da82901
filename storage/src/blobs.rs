//! Bytes by digest. A blob is visible only once its size and digest were right and it was on disk.
//!
//! What every store of blobs has in common is here, once: hashing on read, quarantine, pages of a listing, and that nothing blocks
//! the network. What differs is a [`BlobStore`].

use std::{
    fmt,
    fs::File,
    io,
    io::IoSlice,
    ops::{ControlFlow, Range},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, DigestMismatch, Hasher, UnixTime, UpstreamName};
use tokio::sync::Semaphore;

pub use self::blob::Blob;
use self::page::Page;
pub(crate) use self::walk::Walk;
pub(crate) use self::{files::Files, memory::Memory};
use crate::{ContentClass, Ingest, Ledger, StoreError, ingest, work};

mod blob;
mod files;
pub(crate) mod interrupted;
mod memory;
mod page;
mod walk;

/// Where blobs lie. Every call may block.
pub(crate) trait BlobStore: fmt::Debug + Send + Sync {
    /// What is visible under a digest, and its size in bytes; `None` is a miss. Its bytes are not looked at.
    fn open(&self, digest: &Digest) -> Result<Option<Found>, StoreError>;
    /// A place for new content of `size` bytes, which nobody sees under its digest before [`Draft::publish`]. An error where there is no
    /// room for all of it now; room is taken only as it comes.
    fn create(&self, digest: &Digest, size: u64) -> Result<Arc<dyn Draft>, StoreError>;
    /// The same for content that is to survive an interruption, and how much of it has, as `upstream` sent it. `None` where somebody
    /// else is at it.
    fn resume(&self, digest: &Digest, size: u64, _upstream: &UpstreamName) -> Result<Option<Kept>, StoreError> {
        self.create(digest, size).map(|draft| Some((draft, 0)))
    }
    /// Names all content that was kept and that nobody is at. By default nothing survives.
    fn kept(&self) -> Result<Vec<Interrupted>, StoreError> {
        Ok(Vec::new())
    }
    /// Drops kept content. Fine where there is none, or somebody is at it.
    fn drop_kept(&self, _kept: &Interrupted) -> Result<(), StoreError> {
        Ok(())
    }
    /// Whether a blob may be visible of which not all is there.
    fn may_be_half(&self) -> bool {
        false
    }
    /// Every blob that was there when this was opened has been hashed since.
    fn hashed_all(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Moves a blob out of sight, durably and for a person to look at. With `only`, where it is that very file, and not one that has
    /// taken its place meanwhile: whether it was. Fine where there is none.
    fn quarantine(&self, digest: &Digest, only: Option<&File>) -> Result<bool, StoreError>;
    /// Drops a blob; after a power cut it may be there again, whole. Fine where there is none.
    fn remove(&self, digest: &Digest) -> Result<(), StoreError>;
    /// Names every visible blob of an algorithm, in any order, until told to stop, and holds none of the names.
    fn each(&self, algorithm: Algorithm, tell: &mut dyn FnMut(Digest) -> ControlFlow<()>) -> Result<(), StoreError>;
}

/// A visible blob, and its size in bytes.
pub(crate) type Found = (Arc<dyn Content>, u64);

/// Content on its way that was taken up again, and how many bytes of it there are.
pub(crate) type Kept = (Arc<dyn Draft>, u64);

/// Content that was interrupted on its way and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// Of which blob it was to be the beginning.
    pub(crate) digest: Digest,
    /// What the store calls it.
    pub(crate) name: String,
    /// What it takes of the disk, bytes.
    pub(crate) bytes: u64,
    /// When it was last written to.
    pub(crate) since: UnixTime,
}

/// Bytes that can be read, for as long as this is held: whatever happens to their name.
pub(crate) trait Content: fmt::Debug + Send + Sync {
    /// Reads `length` bytes from `offset` on, fewer where they end. May block.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes>;
    /// The same without blocking; `None` where the disk would have to be asked, or where that cannot be told.
    fn read_cached(&self, offset: u64, length: usize) -> Option<Bytes>;
    /// The open file, where the bytes are in one.
    fn file(&self) -> Option<&Arc<File>>;
}

/// Content on its way. Every call may block.
pub(crate) trait Draft: Content {
    /// Writes all of `slices` from `offset` on.
    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StoreError>;
    /// Makes all that was written durable, and then visible under its digest, in place of whatever lay there. Nothing may be
    /// written afterwards. An error of the very last step, the sync of the name, may leave the whole of it visible.
    fn publish(&self) -> Result<Arc<dyn Content>, StoreError>;
    /// Brings to disk what was written so far, so that [`publish`](Self::publish) has less to wait for. Promises nothing.
    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
    /// Gives up: there will be no publishing. Who holds the content goes on reading. Does nothing after [`publish`](Self::publish).
    fn discard(&self);
    /// The same, but what [`BlobStore::resume`] gave out can be taken up again once nobody holds it any more.
    fn keep(&self) {
        self.discard();
    }
}

/// Blobs that are hashed whole at one time because somebody asks for them; who would be one more waits. Each takes a core, and a thread of
/// those that every look at the disk needs.
const HASHES_MAX: usize = 4;

/// The blobs of a store. A cheap handle; it keeps the store locked.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn BlobStore>,
    ledger: Arc<Ledger>,
    hashing: Arc<Semaphore>,
}

/// Whether somebody still waits for what is being done.
struct Wanted(Weak<()>);

impl Wanted {
    fn check(&self) -> Result<(), StoreError> {
        if self.0.strong_count() > 0 { Ok(()) } else { Err(StoreError::Stopped { operation: "hash a blob" }) }
    }
}

impl Blobs {
    pub(crate) fn new(store: impl BlobStore + 'static) -> Self {
        Self { store: Arc::new(store), ledger: Arc::default(), hashing: Arc::new(Semaphore::new(HASHES_MAX)) }
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Opens a blob; `None` is a miss. Its bytes are not looked at: compare its size with the descriptor's, or use
    /// [`read`](Self::read) or [`open_verified`](Self::open_verified).
    pub async fn open(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        self.run("open a blob", digest, open).await
    }

    /// Opens a blob after hashing the very file that is returned. Where it has rotted: [`StoreError::Corrupt`], once; then it is
    /// a miss. Where many are hashed already it waits; dropped, it stops.
    pub async fn open_verified(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let want = digest.clone();
        let found = self.hashing("verify a blob", move |store, wanted| {
            loop {
                let Some(blob) = open(store, &want)? else {
                    return Ok(None);
                };
                let (got, bytes) = blob.hash(|_, _| wanted.check())?;
                if got == want {
                    return Ok(Some(blob));
                }
                if set_aside(store, &blob)? {
                    return Err(StoreError::Corrupt { want, got, bytes });
                }
            }
        });
        self.noticed(digest, found.await)
    }

    /// Hashes an open blob whole, and apart from it what lies within `ranges`, which ascend and do not overlap: the digest of these bytes
    /// together. `None`: the blob has rotted; it was set aside. Where many are hashed already it waits; dropped, it stops.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn hash_ranges(&self, blob: &Blob, ranges: Vec<Range<u64>>) -> Result<Option<Digest>, StoreError> {
        let opened = blob.clone();
        let hashed = self.hashing("verify a blob", move |store, wanted| {
            let mut sent = Hasher::new(opened.digest().algorithm());
            let (got, bytes) = opened.hash(|at, chunk| {
                let end = at + chunk.len() as u64;
                let clip = |point: u64| usize::try_from(point.clamp(at, end) - at).unwrap_or(0);
                for range in ranges.iter().filter(|range| range.start < end && range.end > at) {
                    sent.update(chunk.get(clip(range.start)..clip(range.end)).unwrap_or_default());
                }
                wanted.check()
            })?;
            if got == *opened.digest() {
                return Ok(Some(sent.finish()));
            }
            if set_aside(store, &opened)? {
                return Err(StoreError::Corrupt { want: opened.digest().clone(), got, bytes });
            }
            Ok(None)
        });
        match self.noticed(blob.digest(), hashed.await) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            hashed => hashed,
        }
    }

    /// Reads a small blob whole and hashes it. Where it has rotted: [`StoreError::Corrupt`], once; then it is a miss.
    pub async fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Option<Addressed>, StoreError> {
        let found = self.run("read a blob", digest, move |store, digest| {
            loop {
                let Some(blob) = open(store, digest)? else {
                    return Ok(None);
                };
                if blob.size() > bytes_max {
                    return Err(StoreError::TooLarge { digest: digest.clone(), want_max: bytes_max, got: blob.size() });
                }
                let length = usize::try_from(blob.size()).unwrap_or(usize::MAX);
                match Addressed::check(digest, blob.read_now(0, length)?) {
                    Ok(addressed) => return Ok(Some(addressed)),
                    Err(DigestMismatch { got, bytes, .. }) if set_aside(store, &blob)? => {
                        return Err(StoreError::Corrupt { want: digest.clone(), got, bytes });
                    }
                    Err(_) => {}
                }
            }
        });
        self.noticed(digest, found.await)
    }

    /// Stores a manifest, config or piece of evidence that matches its digest; durable when this returns. Replaces whatever lay under
    /// that digest.
    pub async fn put(&self, addressed: &Addressed) -> Result<(), StoreError> {
        let (digest, size) = (addressed.digest().clone(), addressed.bytes().len() as u64);
        let (store, addressed) = (Arc::clone(&self.store), addressed.clone());
        blocking("store a blob", move || ingest::put(&*store, &addressed)).await?;
        self.ledger.stored(&digest, size, Some(ContentClass::Metadata));
        Ok(())
    }

    /// Begins to store a blob of `size` bytes that arrives bit by bit. Several at once for one digest do not disturb each other.
    ///
    /// # Errors
    /// When the disk refuses, or has no room for all of it: [`StoreError::is_full`].
    pub async fn ingest(&self, digest: Digest, size: u64) -> Result<Ingest, StoreError> {
        let (store, announced) = (Arc::clone(&self.store), self.ledger.announce(size));
        blocking("begin an ingest", move || Ingest::begin(&*store, digest, size, announced)).await
    }

    /// Takes up the blob where an ingest of it was interrupted, or begins it. What comes of it is kept when it is dropped without a
    /// commit, killed, or cut off from power, for the next who resumes. Where another ingest of the same blob is under way this is a
    /// plain one.
    ///
    /// # Errors
    /// When the disk refuses, or has no room for all of it: [`StoreError::is_full`].
    pub async fn resume(&self, digest: Digest, size: u64, upstream: UpstreamName) -> Result<Ingest, StoreError> {
        let (store, announced) = (Arc::clone(&self.store), self.ledger.announce(size));
        blocking("resume an ingest", move || Ingest::resume(&*store, digest, size, &upstream, announced)).await
    }

    /// Drops what was interrupted and is not worth keeping: what was last written to before `oldest`, what has become a blob since,
    /// and, the oldest first, what together takes more than `bytes_max` of the disk. How many there were.
    pub async fn sweep_interrupted(&self, oldest: UnixTime, bytes_max: u64) -> Result<usize, StoreError> {
        let store = Arc::clone(&self.store);
        blocking("drop interrupted ingests", move || sweep(&*store, oldest, bytes_max)).await
    }

    /// Hashes a stored blob again. `false`: it had rotted and is in quarantine now, or there is none.
    pub async fn verify(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.open_verified(digest).await {
            Ok(blob) => Ok(blob.is_some()),
            Err(StoreError::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a blob of the right size may have wrong bytes that are nobody's fault but ours: nothing is synced ([`Fsync::Never`](crate::Fsync)),
    /// or was not by whoever had the store before, and no scrub has seen all of it since. Whoever reads then has to hash.
    #[must_use]
    pub fn may_be_half(&self) -> bool {
        self.store.may_be_half()
    }

    /// A scrub has seen all blobs, and read each.
    pub(crate) async fn hashed_all(&self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.store);
        blocking("bring all blobs to disk", move || store.hashed_all()).await
    }

    /// Moves a blob out of sight, for a person to look at; those who have it open go on reading. Fine where there is none.
    pub async fn quarantine(&self, digest: &Digest) -> Result<(), StoreError> {
        self.run("quarantine a blob", digest, |store, digest| store.quarantine(digest, None)).await?;
        self.ledger.removed(digest);
        Ok(())
    }

    /// The same for a blob that was found rotten, unless another has taken its place meanwhile: whether that very one lay there.
    pub(crate) async fn set_aside(&self, blob: &Blob) -> Result<bool, StoreError> {
        let rotten = blob.clone();
        let was_there = self.run("quarantine a blob", blob.digest(), move |store, _| set_aside(store, &rotten)).await?;
        if was_there {
            self.ledger.removed(blob.digest());
        }
        Ok(was_there)
    }

    /// Drops a blob; those who have it open go on reading. Fine where there is none.
    pub async fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        self.run("remove a blob", digest, |store, digest| store.remove(digest)).await?;
        self.ledger.removed(digest);
        Ok(())
    }

    /// What has rotted was set aside.
    fn noticed<T>(&self, digest: &Digest, found: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(found, Err(StoreError::Corrupt { .. })) {
            self.ledger.rotted(digest);
        }
        found
    }

    /// Up to `limit` digests of stored blobs that come after `after`, in order of algorithm and hex. Fewer than `limit`: the end.
    /// Looks at every name but holds no more than `limit` names.
    pub async fn list_page(&self, after: Option<&Digest>, limit: usize) -> Result<Vec<Digest>, StoreError> {
        let (store, page) = (Arc::clone(&self.store), Page::new(after, limit));
        blocking("list blobs", move || page.fill(&*store)).await
    }

    /// All digests of stored blobs, in any order: one look at every name, however many there are.
    pub(crate) fn walk(&self) -> Walk {
        Walk::begin(Arc::clone(&self.store))
    }

    /// The sizes of these blobs, bytes; `None` for those that are not there.
    pub(crate) async fn sizes(&self, digests: Vec<Digest>) -> Result<Vec<(Digest, Option<u64>)>, StoreError> {
        let store = Arc::clone(&self.store);
        let size = move |digest: Digest| {
            let found = store.open(&digest)?;
            Ok((digest, found.map(|(_, size)| size)))
        };
        blocking("look at blobs", move || digests.into_iter().map(size).collect()).await
    }

    /// Runs work that hashes much: a few at a time, and each only as long as somebody waits for it.
    async fn hashing<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&dyn BlobStore, &Wanted) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.hashing).acquire_owned().await;
        let turn = turn.map_err(|_| StoreError::Stopped { operation })?;
        let asker = Arc::new(());
        let (store, wanted) = (Arc::clone(&self.store), Wanted(Arc::downgrade(&asker)));
        let done = blocking(operation, move || {
            let _turn = turn;
            work(&*store, &wanted)
        })
        .await;
        drop(asker);
        done
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        digest: &Digest,
        work: impl FnOnce(&dyn BlobStore, &Digest) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (store, digest) = (Arc::clone(&self.store), digest.clone());
        blocking(operation, move || work(&*store, &digest)).await
    }
}

fn open(store: &dyn BlobStore, digest: &Digest) -> Result<Option<Blob>, StoreError> {
    let found = store.open(digest)?;
    Ok(found.map(|(content, size)| Blob::new(digest.clone(), size, content)))
}

fn sweep(store: &dyn BlobStore, oldest: UnixTime, bytes_max: u64) -> Result<usize, StoreError> {
    let mut all = store.kept()?;
    all.sort_by_key(|kept| std::cmp::Reverse(kept.since));
    let (mut bytes, mut dropped) = (0_u64, 0);
    for kept in all {
        let fits = bytes.saturating_add(kept.bytes) <= bytes_max;
        if fits && kept.since >= oldest && store.open(&kept.digest)?.is_none() {
            bytes += kept.bytes;
        } else {
            store.drop_kept(&kept)?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Moves a blob that was found rotten out of sight. `false`: another has taken its place since it was opened.
fn set_aside(store: &dyn BlobStore, rotten: &Blob) -> Result<bool, StoreError> {
    store.quarantine(rotten.digest(), rotten.file().map(Arc::as_ref))
}

/// Runs work on the disk where it cannot hold up the network.
pub(crate) async fn blocking<T, E>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    match work::run(work).await {
        Ok(done) => done,
        Err(work::NoResult) => Err(StoreError::Stopped { operation }.into()),
    }
}
