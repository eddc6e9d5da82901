//! The one place that writes facts: a thread, or whoever asks, where that is a thread that works in place.

use std::{
    fmt,
    sync::{Arc, mpsc::RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Change, change,
    engine::{Durability, Engine},
    open,
    tags::TagBounds,
};
use crate::{Fsync, Options, StoreError, directory::Directory, work};

/// How many requests may wait for the disk before further ones wait for a place in the queue.
const QUEUE_MAX: usize = 1024;
/// How many of them one commit takes at most: a commit of this size takes some ten milliseconds.
const GROUP_MAX: usize = 256;

/// Where commits are answered before they are durable: how old the oldest of them gets.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Owns the thread and the open file. Dropping it writes what is queued and closes the file before the store is unlocked.
pub(super) struct Writer {
    engine: Arc<Engine>,
    hand: Hand,
    /// Where commits are answered before they are durable.
    syncing: Option<Syncing>,
    /// Holds the store's lock; none where there is no directory.
    directory: Option<Arc<Directory>>,
}

/// Who commits.
enum Hand {
    Thread {
        queue: Option<mpsc::Sender<Request>>,
        thread: Option<JoinHandle<()>>,
    },
    /// See [`work::in_place`]. Each request has a commit of its own.
    Asker(Group),
}

struct Request {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl Writer {
    pub(super) fn start(
        directory: Option<Arc<Directory>>,
        engine: Engine,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let engine = Arc::new(engine);
        let durability = if options.fsync == Fsync::Always { Durability::Now } else { Durability::Later };
        let tags =
            TagBounds { tags: options.tags_max, history: options.tag_history_max, targets: options.tag_targets_max };
        let group = Group { engine: Arc::clone(&engine), tags, durability };
        let hand = if work::is_in_place() { Hand::Asker(group) } else { Hand::start(group)? };
        let syncing = match durability {
            Durability::Now => None,
            Durability::Later => Some(Syncing::start(Arc::clone(&engine))?),
        };
        Ok(Self { engine, hand, syncing, directory })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        const STOPPED: StoreError = StoreError::Stopped { operation: "write facts" };
        let done = match &self.hand {
            Hand::Thread { queue, .. } => {
                let (answer, answered) = oneshot::channel();
                let queue = queue.as_ref().ok_or(STOPPED)?;
                queue.send(Request { changes, answer }).await.map_err(|_| STOPPED)?;
                answered.await.map_err(|_| STOPPED)?
            }
            Hand::Asker(group) => {
                let done = group.commit(&[&changes]);
                // As from the thread: the answer comes at a later turn, and others come first.
                tokio::task::yield_now().await;
                done
            }
        };
        done.inspect_err(|error| self.notice(error))
    }

    /// Remembers for the next start what only a damaged file can have brought about.
    pub(super) fn notice(&self, error: &StoreError) {
        if let Some(directory) = self.directory.as_ref().filter(|_| error.is_damage()) {
            open::mark_suspect(directory);
        }
    }
}

impl Hand {
    fn start(group: Group) -> Result<Self, StoreError> {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let thread = thread::Builder::new()
            .name("facts".to_owned())
            .spawn(move || group.run(requests))
            .map_err(StoreError::io("start the writer of", "facts"))?;
        Ok(Self::Thread { queue: Some(queue), thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Hand::Thread { queue, thread } = &mut self.hand {
            drop(queue.take());
            if let Some(thread) = thread.take() {
                // Its panic was told when it happened, and every waiting request was answered.
                drop(thread.join());
            }
        }
        // Last: what was queued is durable then, too.
        drop(self.syncing.take());
    }
}

/// A thread that makes durable, every [`SYNC_EVERY`] and at the end, what was answered before.
struct Syncing {
    end: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncing {
    fn start(engine: Arc<Engine>) -> Result<Self, StoreError> {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let run = move || {
            loop {
                let is_over = ended.recv_timeout(SYNC_EVERY) != Err(RecvTimeoutError::Timeout);
                if let Err(error) = engine.sync() {
                    tracing::error!(error = %error, "facts that were answered are not on disk");
                }
                if is_over {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("facts-sync".to_owned()).spawn(run);
        let thread = spawned.map_err(StoreError::io("start the syncing of", "facts"))?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("directory", &self.directory).finish_non_exhaustive()
    }
}

struct Group {
    engine: Arc<Engine>,
    tags: TagBounds,
    durability: Durability,
}

impl Group {
    fn run(&self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while requests.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            if self.commit(&group.iter().map(|request| request.changes.as_slice()).collect::<Vec<_>>()).is_ok() {
                for request in group.drain(..) {
                    answer(request.answer, Ok(()));
                }
                continue;
            }
            // One bad request must not fail the others: each gets a commit, and an answer, of its own.
            for request in group.drain(..) {
                let done = self.commit(&[&request.changes]);
                answer(request.answer, done);
            }
        }
    }

    fn commit(&self, group: &[&[Change]]) -> Result<(), StoreError> {
        self.engine.commit(self.durability, |batch| {
            group
                .iter()
                .flat_map(|changes| changes.iter())
                .try_for_each(|change| change::make(batch, change, self.tags))
        })
    }
}

fn answer(to: oneshot::Sender<Result<(), StoreError>>, done: Result<(), StoreError>) {
    // Whoever no longer waits has nothing to hear.
    drop(to.send(done));
}
