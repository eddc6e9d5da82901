use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use std::path::PathBuf;

use redb::{StorageBackend, backends::FileBackend};
use tempfile::TempDir;

use super::*;
use crate::facts::engine::Engine;

/// A disk that can be told to refuse.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    fault: Arc<Fault>,
}

#[derive(Debug, Default)]
struct Fault {
    kind: Mutex<Option<io::ErrorKind>>,
    only_sync: AtomicBool,
}

impl Fault {
    fn set(&self, kind: Option<io::ErrorKind>, only_sync: bool) {
        *self.kind.lock().unwrap() = kind;
        self.only_sync.store(only_sync, Ordering::SeqCst);
    }

    fn strike(&self, sync: bool) -> io::Result<()> {
        let kind = *self.kind.lock().unwrap();
        match kind {
            Some(kind) if sync || !self.only_sync.load(Ordering::SeqCst) => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fault.strike(false)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fault.strike(true)?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fault.strike(false)?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

struct Bench {
    directory: TempDir,
    fault: Arc<Fault>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bench = Self { directory, fault: Arc::default() };
        Redb::create(&bench.path()).unwrap();
        Redb::open(&bench.path(), false).unwrap().make(&Table::ALL).unwrap();
        bench
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("facts")
    }

    fn open(&self) -> Engine {
        let fault = Arc::clone(&self.fault);
        let open = move |file| {
            let disk = Disk { file: FileBackend::new(file)?, fault: Arc::clone(&fault) };
            Builder::new().create_with_backend(disk)
        };
        let path = self.path();
        Engine::new(move || Ok(Arc::new(Redb::open_with(&path, &open)?) as _)).unwrap()
    }
}

fn put(engine: &Engine, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    engine.commit(Durability::Now, |batch| {
        batch.put(Table::Tags, key, value);
        Ok(())
    })
}

fn get(engine: &Engine, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    engine.view()?.get(Table::Tags, key)
}

#[test]
fn after_a_full_disk_the_next_commit_tries_again() {
    let bench = Bench::new();
    let engine = bench.open();
    put(&engine, b"a", b"1").unwrap();
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        bench.fault.set(Some(kind), false);
        let error = put(&engine, b"b", b"2").unwrap_err();
        assert!(error.is_full(), "{error:?}");
        let error = put(&engine, b"b", b"2").unwrap_err();
        assert!(error.is_full(), "{error:?}");
        bench.fault.set(None, false);
        assert_eq!(get(&engine, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(get(&engine, b"b").unwrap(), None);
    }
    put(&engine, b"b", b"2").unwrap();
    assert_eq!(get(&engine, b"b").unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_full_disk_that_two_meet_at_once_is_no_failure() {
    for _ in 0..100 {
        let bench = Bench::new();
        let engine = bench.open();
        put(&engine, b"a", b"1").unwrap();
        bench.fault.set(Some(io::ErrorKind::StorageFull), false);
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| engine.sync());
            let putting = scope.spawn(|| put(&engine, b"b", b"2"));
            for done in [syncing.join().unwrap(), putting.join().unwrap()] {
                assert!(done.as_ref().err().is_none_or(StoreError::is_full), "{done:?}");
            }
        });
        bench.fault.set(None, false);
        assert!(engine.failure().is_none());
        put(&engine, b"b", b"2").unwrap();
        assert_eq!(get(&engine, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    }
}

#[test]
fn after_a_failed_write_or_sync_everything_fails_until_the_next_start() {
    for only_sync in [false, true] {
        let bench = Bench::new();
        let engine = bench.open();
        put(&engine, b"a", b"1").unwrap();
        bench.fault.set(Some(io::ErrorKind::Other), only_sync);
        assert!(put(&engine, b"b", b"2").is_err());
        bench.fault.set(None, false);
        let error = put(&engine, b"c", b"3").unwrap_err();
        assert!(matches!(error, StoreError::Facts { .. }) && !error.is_full());
        assert!(get(&engine, b"a").is_err());
        assert!(!error.is_damage(), "the file is not to blame");
        assert!(engine.failure().is_some(), "only a start mends it, and says so to whoever can start it");
        drop(engine);
        let engine = bench.open();
        assert_eq!(get(&engine, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(get(&engine, b"c").unwrap(), None);
        put(&engine, b"c", b"3").unwrap();
    }
}

#[test]
fn a_commit_whose_work_fails_leaves_nothing() {
    let bench = Bench::new();
    let engine = bench.open();
    let error = engine.commit(Durability::Now, |batch| {
        batch.put(Table::Tags, b"a", b"1");
        batch.put(Table::Parents, b"a", b"1");
        Err(StoreError::Stopped { operation: "test" })
    });
    assert!(matches!(error, Err(StoreError::Stopped { .. })));
    assert_eq!(get(&engine, b"a").unwrap(), None);
    put(&engine, b"b", b"2").unwrap();
}

#[test]
fn a_panic_in_a_commit_is_an_answer_and_leaves_nothing() {
    let bench = Bench::new();
    let engine = bench.open();
    put(&engine, b"a", b"1").unwrap();
    let error = engine.commit(Durability::Now, |batch| {
        batch.put(Table::Tags, b"b", b"2");
        panic!("as the store does on a page that makes no sense");
    });
    assert!(error.unwrap_err().is_damage());
    assert!(put(&engine, b"c", b"3").is_err());
    drop(engine);
    let engine = bench.open();
    assert_eq!(get(&engine, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&engine, b"b").unwrap(), None);
}
