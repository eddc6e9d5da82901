//! The one thread that writes facts.

use std::{
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::sync::{mpsc, oneshot};

use super::{Change, change, engine::Engine, open};
use crate::{StoreError, directory::Directory};

/// How many requests may wait for the disk before further ones wait for a place in the queue.
const QUEUE_MAX: usize = 1024;
/// How many of them one commit takes at most: a commit of this size takes some ten milliseconds.
const GROUP_MAX: usize = 256;

/// Owns the thread and the open file. Dropping it writes what is queued and closes the file before the store is unlocked.
pub(super) struct Writer {
    engine: Arc<Engine>,
    queue: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// Holds the store's lock; none where there is no directory.
    directory: Option<Arc<Directory>>,
}

struct Request {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl Writer {
    pub(super) fn start(
        directory: Option<Arc<Directory>>,
        engine: Engine,
        tag_history_max: usize,
    ) -> Result<Self, StoreError> {
        let engine = Arc::new(engine);
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let group = Group { engine: Arc::clone(&engine), tag_history_max };
        let thread = thread::Builder::new()
            .name("facts".to_owned())
            .spawn(move || group.run(requests))
            .map_err(StoreError::io("start the writer of", "facts"))?;
        Ok(Self { engine, queue: Some(queue), thread: Some(thread), directory })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        const STOPPED: StoreError = StoreError::Stopped { operation: "write facts" };
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(STOPPED)?;
        queue.send(Request { changes, answer }).await.map_err(|_| STOPPED)?;
        let done = answered.await.map_err(|_| STOPPED)?;
        done.inspect_err(|error| self.notice(error))
    }

    /// Remembers for the next start what only a damaged file can have brought about.
    pub(super) fn notice(&self, error: &StoreError) {
        if let Some(directory) = self.directory.as_ref().filter(|_| error.is_damage()) {
            open::mark_suspect(directory);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was told when it happened, and every waiting request was answered.
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
    tag_history_max: usize,
}

impl Group {
    fn run(&self, mut requests: mpsc::Receiver<Request>) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while requests.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            if self.commit(&group).is_ok() {
                for request in group.drain(..) {
                    answer(request.answer, Ok(()));
                }
                continue;
            }
            // One bad request must not fail the others: each gets a commit, and an answer, of its own.
            for request in group.drain(..) {
                let done = self.commit(std::slice::from_ref(&request));
                answer(request.answer, done);
            }
        }
    }

    fn commit(&self, group: &[Request]) -> Result<(), StoreError> {
        self.engine.commit(|batch| {
            group
                .iter()
                .flat_map(|request| &request.changes)
                .try_for_each(|change| change::make(batch, change, self.tag_history_max))
        })
    }
}

fn answer(to: oneshot::Sender<Result<(), StoreError>>, done: Result<(), StoreError>) {
    // Whoever no longer waits has nothing to hear.
    drop(to.send(done));
}
