//! A disk that fails while nobody waits for it.

use std::{
    fs::File,
    io,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use super::*;
use crate::{Ledger, blobs::Content};

/// As much as is brought to disk before all is there, bytes.
const SIZE: usize = 17 << 20;

/// Content whose syncs ahead take until they are told how they end.
#[derive(Debug)]
struct Slow {
    /// Told whenever a sync has begun.
    begun: Mutex<Sender<()>>,
    /// How it ends.
    ends: Mutex<Receiver<Result<(), io::ErrorKind>>>,
    published: AtomicU32,
    kept: AtomicU32,
    discarded: AtomicU32,
}

impl Content for Slow {
    fn read_at(&self, _offset: u64, length: usize) -> io::Result<Bytes> {
        Ok(vec![0; length].into())
    }

    fn read_cached(&self, _offset: u64, _length: usize) -> Option<Bytes> {
        None
    }

    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}

impl blobs::Draft for Slow {
    fn write_at(&self, _offset: u64, _slices: &mut [IoSlice<'_>]) -> Result<(), StoreError> {
        Ok(())
    }

    /// The system tells an error of the disk once: the sync in here succeeds.
    fn publish(&self) -> Result<Arc<dyn Content>, StoreError> {
        self.published.fetch_add(1, Ordering::SeqCst);
        let (begun, _) = channel();
        let (_, ends) = channel();
        Ok(Arc::new(slow(begun, ends)))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.begun.lock().unwrap().send(()).unwrap();
        let end = self.ends.lock().unwrap().recv().unwrap();
        end.map_err(|kind| StoreError::io("sync", "a test")(kind.into()))
    }

    fn discard(&self) {
        self.discarded.fetch_add(1, Ordering::SeqCst);
    }

    fn keep(&self) {
        self.kept.fetch_add(1, Ordering::SeqCst);
    }
}

fn slow(begun: Sender<()>, ends: Receiver<Result<(), io::ErrorKind>>) -> Slow {
    Slow {
        begun: Mutex::new(begun),
        ends: Mutex::new(ends),
        published: AtomicU32::new(0),
        kept: AtomicU32::new(0),
        discarded: AtomicU32::new(0),
    }
}

/// An ingest whose bytes have all come, while a sync of the first of them is under way; and who says how that ends.
async fn being_synced() -> (Ingest, Arc<Slow>, Sender<Result<(), io::ErrorKind>>) {
    let (began, beginnings) = channel();
    let (end, ends) = channel();
    let content = Arc::new(slow(began, ends));
    let bytes = Bytes::from(vec![7; SIZE]);
    let announced = Arc::new(Ledger::default()).announce(SIZE as u64);
    let draft = Arc::clone(&content) as Arc<dyn blobs::Draft>;
    let mut ingest = Ingest::with(draft, 0, Digest::sha256(&bytes), SIZE as u64, announced, true);
    for chunk in bytes.chunks(1 << 20) {
        ingest.write(bytes.slice_ref(chunk)).await.unwrap();
    }
    assert!(ingest.draft.lane.drained(SIZE as u64).await);
    beginnings.recv().unwrap();
    (ingest, content, end)
}

#[tokio::test]
async fn what_a_sync_under_way_fails_to_bring_to_disk_is_not_published() {
    let (ingest, content, end) = being_synced().await;
    let draft = ingest.draft;
    let commit = thread::spawn(move || draft.commit());
    end.send(Err(io::ErrorKind::Other)).unwrap();
    let failed = commit.join().unwrap().unwrap_err();
    assert!(matches!(failed, IngestError::Store(StoreError::Io { .. })), "{failed}");
    let counts = [&content.published, &content.kept, &content.discarded].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(counts, [0, 0, 1]);
}

#[tokio::test]
async fn a_commit_waits_for_a_sync_under_way_and_goes_on_where_it_succeeds() {
    let (ingest, content, end) = being_synced().await;
    let draft = ingest.draft;
    let commit = thread::spawn(move || draft.commit());
    end.send(Ok(())).unwrap();
    commit.join().unwrap().unwrap();
    assert_eq!(content.published.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_interrupted_while_a_sync_fails_is_not_kept() {
    for (ends, want) in [(Err(io::ErrorKind::Other), [0, 1]), (Ok(()), [1, 0])] {
        let (ingest, content, end) = being_synced().await;
        let lane = Arc::clone(&ingest.draft.lane);
        drop(ingest);
        assert_eq!(content.kept.load(Ordering::SeqCst), 0, "nobody knows yet");
        end.send(ends).unwrap();
        tokio::task::spawn_blocking(move || lane.settled()).await.unwrap();
        // Told after the sync has ended, in the same breath.
        while content.kept.load(Ordering::SeqCst) + content.discarded.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let counts = [&content.kept, &content.discarded].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counts, want);
    }
}
