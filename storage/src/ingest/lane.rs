//! The way of the bytes from the network to the file: a short queue, and one job at a time that empties it.

use std::{
    io::IoSlice,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use oci::{Digest, Hasher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{StoreError, blobs::Draft};

/// What one ingest may have in memory, bytes: enough to keep a disk busy, and nothing next to a blob.
const QUEUE_BYTES_MAX: u32 = 1024 * 1024;

/// Shared by the writer, its job and its followers.
#[derive(Debug)]
pub(super) struct Lane {
    content: Arc<dyn Draft>,
    hasher: Mutex<Hasher>,
    queue: Mutex<Queue>,
    room: Arc<Semaphore>,
    state: watch::Sender<State>,
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
    chunks: Vec<(Bytes, OwnedSemaphorePermit)>,
    running: bool,
    error: Option<StoreError>,
}

impl Lane {
    pub(super) fn new(content: Arc<dyn Draft>, hasher: Hasher) -> Self {
        Self {
            content,
            hasher: Mutex::new(hasher),
            queue: Mutex::default(),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize)),
            state: watch::Sender::new(State::default()),
        }
    }

    pub(super) fn content(&self) -> &Arc<dyn Draft> {
        &self.content
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Waits until `wanted` holds of the state.
    pub(super) async fn until(&self, mut wanted: impl FnMut(State) -> bool) -> State {
        let mut state = self.state.subscribe();
        let reached = state.wait_for(|state| wanted(*state)).await;
        // The sender lives in this very lane.
        *reached.expect("a lane's state outlives who waits for it")
    }

    /// Queues a chunk, once there is room. `false` after the end: the chunk went nowhere.
    pub(super) async fn push(self: &Arc<Self>, chunk: Bytes) -> bool {
        let cost = u32::try_from(chunk.len()).map_or(QUEUE_BYTES_MAX, |len| len.min(QUEUE_BYTES_MAX));
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(cost).await else {
            return false;
        };
        let mut queue = self.queue();
        if self.state().committed.is_some() {
            return false;
        }
        queue.chunks.push((chunk, permit));
        if !mem::replace(&mut queue.running, true) {
            drop(queue);
            let job = Job { lane: Arc::clone(self), done: false };
            drop(tokio::task::spawn_blocking(move || job.run()));
        }
        true
    }

    /// Waits until `accepted` bytes are in the file; `false` where that will never be.
    pub(super) async fn drained(&self, accepted: u64) -> bool {
        let state = self.until(|state| state.written == accepted || state.committed.is_some()).await;
        state.committed.is_none()
    }

    /// The digest of all that is in the file.
    pub(super) fn digest(&self) -> Digest {
        lock(&self.hasher).clone().finish()
    }

    /// Tells followers how it ended. Only the first end counts.
    pub(super) fn end(&self, committed: bool) {
        self.state.send_if_modified(|state| {
            let first = state.committed.is_none();
            state.committed.get_or_insert(committed);
            first
        });
    }

    /// Why the disk refused, for the first who asks.
    pub(super) fn take_error(&self) -> Option<StoreError> {
        self.queue().error.take()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// All that has gathered; nothing, and the job is over, where nothing has or nobody wants it any more.
    fn gathered(&self) -> Option<Vec<(Bytes, OwnedSemaphorePermit)>> {
        let mut queue = self.queue();
        let chunks = mem::take(&mut queue.chunks);
        if chunks.is_empty() || self.state().committed.is_some() {
            queue.running = false;
            return None;
        }
        Some(chunks)
    }

    fn store(&self, chunks: &[(Bytes, OwnedSemaphorePermit)]) -> Result<u64, StoreError> {
        let mut hasher = lock(&self.hasher);
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(chunks.len());
        let mut bytes = 0;
        for (chunk, _) in chunks {
            hasher.update(chunk);
            slices.push(IoSlice::new(chunk));
            bytes += chunk.len() as u64;
        }
        self.content.write_at(self.state().written, &mut slices)?;
        Ok(bytes)
    }
}

/// The job that empties the queue. Cut off by a panic or the end of the runtime, it leaves nobody waiting in vain.
struct Job {
    lane: Arc<Lane>,
    done: bool,
}

impl Job {
    fn run(mut self) {
        let lane = &self.lane;
        while let Some(chunks) = lane.gathered() {
            match lane.store(&chunks) {
                Ok(bytes) => lane.state.send_modify(|state| state.written += bytes),
                Err(error) => {
                    lane.queue().error = Some(error);
                    lane.end(false);
                }
            }
        }
        self.done = true;
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
