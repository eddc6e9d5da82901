//! The way of the bytes from the network to the file: short queues, and one job at each of them that empties it.
//!
//! ```text
//!            ┌─> to be written ─> write ─> followers are told      every 16 MiB: what is written goes to disk meanwhile
//!   push ────┤
//!            └─> to be hashed ──> hash ──> commit is told          what lay in the file before comes first
//! ```
//!
//! A chunk makes room once both are done with it. Where nothing arrives no thread waits.

use std::{
    io::IoSlice,
    mem,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use oci::{Digest, Hasher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{StoreError, Told, blobs::Draft, work};

/// What one ingest may have in memory, bytes: enough to ride out a stall of the disk, and nothing next to a blob.
const QUEUE_BYTES_MAX: u32 = 16 << 20;
/// What is written at a time, bytes: followers hear of it afterwards.
const WRITE_BYTES: usize = 1 << 20;
/// What gathers before it is brought to disk while the rest comes, bytes: the sync at the end has little left to do.
const SYNC_AHEAD_BYTES: u64 = 16 << 20;
/// What is read at a time of what lay in the file before, bytes.
const READ_BYTES: usize = 1 << 20;

/// Shared by the writer, its jobs and its followers.
#[derive(Debug)]
pub(super) struct Lane {
    content: Arc<dyn Draft>,
    hasher: Mutex<Hasher>,
    write: Mutex<Queue>,
    hash: Mutex<Queue>,
    error: Mutex<Option<StoreError>>,
    /// The disk has refused something: what it holds of the file is not what was written.
    has_failed: AtomicBool,
    room: Arc<Semaphore>,
    state: Told<State>,
    /// How much of the file is hashed, bytes.
    hashed: Told<u64>,
    synced: Mutex<Synced>,
    /// Told when a sync has come to its end.
    quiet: Condvar,
    /// What lay in the file before this lane was and is not hashed yet, bytes.
    backlog: AtomicU64,
}

/// What followers are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    /// How much of the file may be read, bytes.
    pub(super) written: u64,
    /// How it ended, once it has: committed or not. Never changes again.
    pub(super) committed: Option<bool>,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: Vec<Arc<Chunk>>,
    running: bool,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// How far the file is on its way to disk.
#[derive(Debug, Default)]
struct Synced {
    begun: u64,
    /// A job was asked for; it may still be waiting for its thread.
    asked: bool,
    /// The disk is at it.
    running: bool,
    /// Nothing is brought to disk ahead any more.
    closed: bool,
    /// What becomes of the content as soon as the disk is not at it any more.
    then: Option<Fate>,
}

/// What becomes of content that is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Discarded,
}

/// What is done with every chunk.
#[derive(Debug, Clone, Copy)]
enum Task {
    Write,
    Hash,
}

impl Lane {
    /// A lane to content of which `written` bytes are there already; they are hashed at once.
    pub(super) fn new(content: Arc<dyn Draft>, hasher: Hasher, written: u64) -> Arc<Self> {
        let lane = Arc::new(Self {
            content,
            hasher: Mutex::new(hasher),
            write: Mutex::default(),
            hash: Mutex::default(),
            error: Mutex::default(),
            has_failed: AtomicBool::new(false),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize)),
            state: Told::new(State { written, committed: None }),
            hashed: Told::new(0),
            synced: Mutex::default(),
            quiet: Condvar::new(),
            backlog: AtomicU64::new(written),
        });
        if written > 0 {
            lane.hand(Task::Hash, None);
        }
        lane
    }

    pub(super) fn content(&self) -> &Arc<dyn Draft> {
        &self.content
    }

    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    /// Waits until `wanted` holds of the state.
    pub(super) async fn until(&self, mut wanted: impl FnMut(State) -> bool) -> State {
        self.state.until(|state| wanted(*state)).await
    }

    /// Queues a chunk, once there is room. `false` after the end: the chunk went nowhere.
    pub(super) async fn push(self: &Arc<Self>, bytes: Bytes) -> bool {
        let cost = u32::try_from(bytes.len()).map_or(QUEUE_BYTES_MAX, |len| len.min(QUEUE_BYTES_MAX));
        let room = tokio::select! {
            biased;
            room = Arc::clone(&self.room).acquire_many_owned(cost) => room,
            // Nothing makes room any more.
            _ = self.until(|state| state.committed.is_some()) => return false,
        };
        let Ok(room) = room else { return false };
        if self.state().committed.is_some() {
            return false;
        }
        let chunk = Arc::new(Chunk { bytes, _room: room });
        self.hand(Task::Hash, Some(Arc::clone(&chunk)));
        self.hand(Task::Write, Some(chunk));
        true
    }

    /// Waits until `accepted` bytes are in the file and hashed; `false` where that will never be.
    pub(super) async fn drained(&self, accepted: u64) -> bool {
        tokio::select! {
            biased;
            _ = self.until(|state| state.committed.is_some()) => return false,
            _ = self.hashed.until(|hashed| *hashed == accepted) => {}
        }
        let state = self.until(|state| state.written == accepted || state.committed.is_some()).await;
        state.committed.is_none()
    }

    /// The digest of all that is in the file.
    pub(super) fn digest(&self) -> Digest {
        lock(&self.hasher).clone().finish()
    }

    /// Tells followers how it ended. Only the first end counts.
    pub(super) fn end(&self, committed: bool) {
        self.state.change(|state| {
            let first = state.committed.is_none();
            state.committed.get_or_insert(committed);
            first
        });
    }

    /// Why the disk refused, for the first who asks.
    pub(super) fn take_error(&self) -> Option<StoreError> {
        lock(&self.error).take()
    }

    fn queue(&self, task: Task) -> &Mutex<Queue> {
        match task {
            Task::Write => &self.write,
            Task::Hash => &self.hash,
        }
    }

    /// Queues a chunk for one of the jobs, and sees that there is one.
    fn hand(self: &Arc<Self>, task: Task, chunk: Option<Arc<Chunk>>) {
        let mut queue = lock(self.queue(task));
        queue.chunks.extend(chunk);
        if !mem::replace(&mut queue.running, true) {
            drop(queue);
            let job = Job { lane: Arc::clone(self), task, done: false };
            work::begin(move || job.run());
        }
    }

    /// What has gathered, as much as is done at one time; nothing, and the job is over, where nothing has or nobody wants it any more.
    fn gathered(&self, task: Task) -> Option<Vec<Arc<Chunk>>> {
        let mut queue = lock(self.queue(task));
        if queue.chunks.is_empty() || self.state().committed.is_some() {
            queue.chunks = Vec::new();
            queue.running = false;
            return None;
        }
        let (mut bytes, mut many) = (0, 0);
        while let Some(chunk) = queue.chunks.get(many).filter(|_| bytes < WRITE_BYTES) {
            (bytes, many) = (bytes + chunk.bytes.len(), many + 1);
        }
        let rest = queue.chunks.split_off(many);
        Some(mem::replace(&mut queue.chunks, rest))
    }

    fn store(self: &Arc<Self>, chunks: &[Arc<Chunk>]) -> Result<(), StoreError> {
        let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|chunk| IoSlice::new(&chunk.bytes)).collect();
        let bytes: u64 = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        let written = self.state().written + bytes;
        self.content.write_at(written - bytes, &mut slices)?;
        self.state.change(|state| {
            state.written = written;
            true
        });
        self.sync_ahead(written);
        Ok(())
    }

    fn digested(&self, chunks: &[Arc<Chunk>]) {
        let mut hasher = lock(&self.hasher);
        for chunk in chunks {
            hasher.update(&chunk.bytes);
        }
        let bytes: u64 = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        self.count_hashed(bytes);
    }

    fn count_hashed(&self, bytes: u64) {
        self.hashed.change(|hashed| {
            *hashed += bytes;
            true
        });
    }

    /// Hashes what lay in the file before this lane was, once.
    fn catch_up(&self) -> Result<(), StoreError> {
        let (there, mut at) = (self.backlog.swap(0, Ordering::Relaxed), 0);
        while at < there && self.state().committed.is_none() {
            let want = usize::try_from(there - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            let read = self.content.read_at(at, want);
            let bytes = read.map_err(StoreError::io("read", "an interrupted ingest"))?;
            if bytes.is_empty() {
                let ended = std::io::ErrorKind::UnexpectedEof.into();
                return Err(StoreError::io("read", "an interrupted ingest")(ended));
            }
            at += bytes.len() as u64;
            lock(&self.hasher).update(&bytes);
        }
        self.count_hashed(at);
        Ok(())
    }

    /// Has what was written brought to disk while the rest comes, where much has gathered and that is not being done already.
    fn sync_ahead(self: &Arc<Self>, written: u64) {
        let mut synced = lock(&self.synced);
        if synced.asked || synced.closed || written - synced.begun < SYNC_AHEAD_BYTES {
            return;
        }
        (synced.begun, synced.asked) = (written, true);
        drop(synced);
        let lane = Arc::clone(self);
        work::begin(move || lane.sync());
    }

    fn sync(&self) {
        let mut synced = lock(&self.synced);
        (synced.asked, synced.running) = (false, !synced.closed);
        if synced.closed {
            return;
        }
        drop(synced);
        let syncing = Syncing { lane: self };
        // An error is told once only: the sync at the end would not hear of it.
        if let Err(error) = self.content.sync() {
            self.failed(error);
        }
        drop(syncing);
    }

    /// Waits for a sync that is under way; none begins any more. Whether the disk has taken all that it was given. Blocks.
    pub(super) fn settled(&self) -> bool {
        let mut synced = lock(&self.synced);
        synced.closed = true;
        drop(self.quiet.wait_while(synced, |synced| synced.running).unwrap_or_else(PoisonError::into_inner));
        !self.has_failed.load(Ordering::Acquire)
    }

    /// Gives the content up: at once, or as soon as a sync that is under way has told whether it is worth keeping.
    pub(super) fn give_up(&self, fate: Fate) {
        let mut synced = lock(&self.synced);
        synced.closed = true;
        if synced.running {
            synced.then = Some(fate);
            return;
        }
        drop(synced);
        self.meet(fate);
    }

    /// What the disk has refused once is right in memory for as long as it stays there: nobody may go on from it.
    fn meet(&self, fate: Fate) {
        if fate == Fate::Kept && !self.has_failed.load(Ordering::Acquire) {
            self.content.keep();
        } else {
            self.content.discard();
        }
    }

    fn failed(&self, error: StoreError) {
        self.has_failed.store(true, Ordering::Release);
        lock(&self.error).get_or_insert(error);
        self.end(false);
    }
}

/// The disk is at it until this is dropped, whichever way.
struct Syncing<'a> {
    lane: &'a Lane,
}

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        let mut synced = lock(&self.lane.synced);
        synced.running = false;
        let then = synced.then.take();
        drop(synced);
        self.lane.quiet.notify_all();
        if let Some(fate) = then {
            self.lane.meet(fate);
        }
    }
}

/// A job that empties a queue. Cut off by a panic or the end of the runtime, it leaves nobody waiting in vain.
struct Job {
    lane: Arc<Lane>,
    task: Task,
    done: bool,
}

impl Job {
    fn run(mut self) {
        if let Err(error) = self.work() {
            self.lane.failed(error);
            lock(self.lane.queue(self.task)).chunks = Vec::new();
        }
        self.done = true;
    }

    fn work(&self) -> Result<(), StoreError> {
        if matches!(self.task, Task::Hash) {
            self.lane.catch_up()?;
        }
        while let Some(chunks) = self.lane.gathered(self.task) {
            match self.task {
                Task::Write => self.lane.store(&chunks)?,
                Task::Hash => self.lane.digested(&chunks),
            }
        }
        Ok(())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.done {
            self.lane.end(false);
        }
    }
}

/// A panic elsewhere leaves these values whole: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
