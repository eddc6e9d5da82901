//! Blobs in memory: gone with the process.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IoSlice},
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use oci::{Algorithm, Digest};

use super::{BlobStore, Content, Draft, Found};
use crate::StoreError;

/// Blobs that need no disk.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    shelves: Arc<Mutex<Shelves>>,
}

#[derive(Debug, Default)]
struct Shelves {
    blobs: BTreeMap<Digest, Bytes>,
    quarantine: BTreeMap<Digest, Bytes>,
}

impl BlobStore for Memory {
    fn open(&self, digest: &Digest) -> Result<Option<Found>, StoreError> {
        let found = lock(&self.shelves).blobs.get(digest).cloned();
        Ok(found.map(|bytes| {
            let size = bytes.len() as u64;
            (Arc::new(Whole(bytes)) as _, size)
        }))
    }

    fn create(&self, digest: &Digest, _size: u64) -> Result<Arc<dyn Draft>, StoreError> {
        let (shelves, digest) = (Arc::clone(&self.shelves), digest.clone());
        Ok(Arc::new(Growing { shelves, digest, bytes: Mutex::default() }))
    }

    fn quarantine(&self, digest: &Digest, _only: Option<&File>) -> Result<bool, StoreError> {
        let mut shelves = lock(&self.shelves);
        if let Some(bytes) = shelves.blobs.remove(digest) {
            shelves.quarantine.insert(digest.clone(), bytes);
        }
        Ok(true)
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        lock(&self.shelves).blobs.remove(digest);
        Ok(())
    }

    fn each(&self, algorithm: Algorithm, tell: &mut dyn FnMut(Digest) -> ControlFlow<()>) -> Result<(), StoreError> {
        let digests: Vec<Digest> = lock(&self.shelves).blobs.keys().cloned().collect();
        // Told to stop: there is nothing to tell of that.
        let _ = digests.into_iter().filter(|digest| digest.algorithm() == algorithm).try_for_each(tell);
        Ok(())
    }
}

/// A blob that is complete.
#[derive(Debug)]
struct Whole(Bytes);

impl Content for Whole {
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        Ok(self.0.slice(part(self.0.len(), offset, length)))
    }

    fn read_cached(&self, offset: u64, length: usize) -> Option<Bytes> {
        self.read_at(offset, length).ok().filter(|bytes| bytes.len() == length)
    }

    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}

/// A blob that is being written. Its bytes stay here after it was published, for those who still follow it.
#[derive(Debug)]
struct Growing {
    shelves: Arc<Mutex<Shelves>>,
    digest: Digest,
    bytes: Mutex<Vec<u8>>,
}

impl Content for Growing {
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let bytes = lock(&self.bytes);
        let part = bytes.get(part(bytes.len(), offset, length)).unwrap_or_default();
        Ok(Bytes::copy_from_slice(part))
    }

    fn read_cached(&self, offset: u64, length: usize) -> Option<Bytes> {
        self.read_at(offset, length).ok().filter(|bytes| bytes.len() == length)
    }

    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}

impl Draft for Growing {
    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StoreError> {
        let too_long = || StoreError::io("write", self.digest.to_string())(io::ErrorKind::FileTooLarge.into());
        let mut bytes = lock(&self.bytes);
        let mut at = usize::try_from(offset).map_err(|_| too_long())?;
        for slice in slices.iter() {
            let end = at.checked_add(slice.len()).ok_or_else(too_long)?;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(place) = bytes.get_mut(at..end) {
                place.copy_from_slice(slice);
            }
            at = end;
        }
        Ok(())
    }

    fn publish(&self) -> Result<Arc<dyn Content>, StoreError> {
        let whole = Bytes::copy_from_slice(&lock(&self.bytes));
        lock(&self.shelves).blobs.insert(self.digest.clone(), whole.clone());
        Ok(Arc::new(Whole(whole)))
    }

    fn discard(&self) {}
}

/// Which of `there` bytes are meant: none behind the end.
fn part(there: usize, offset: u64, length: usize) -> std::ops::Range<usize> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(there);
    from..from.saturating_add(length).min(there)
}

/// A panic elsewhere leaves these values whole: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
