//! Blobs as files: `blobs/<algorithm>/<hex>`, written under `ingest/` and renamed.

use std::{
    fs::File,
    io::{self, IoSlice},
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use oci::{Algorithm, Digest, UpstreamName};
use rustix::io::pwritev;

use super::{
    BlobStore, Content, Draft, Found, Interrupted, Kept,
    interrupted::{self, Names, Taken},
};
use crate::{
    Fsync, StoreError,
    directory::{self, Directory},
    pages,
};

/// The blobs of a directory.
#[derive(Debug)]
pub(crate) struct Files {
    directory: Arc<Directory>,
    fsync: Fsync,
    /// What is left free of the disk, bytes.
    min_free_bytes: u64,
    names: Names,
    /// Blobs get their names side by side; whoever takes one away for what it stands for does so alone, so that it stands for that still.
    naming: Arc<RwLock<()>>,
    /// A name may stand for less than its content, as nothing was synced by this process or an earlier one.
    may_be_half: AtomicBool,
}

impl Files {
    pub(crate) fn new(directory: Arc<Directory>, fsync: Fsync, min_free_bytes: u64) -> Result<Self, StoreError> {
        if fsync == Fsync::Never {
            directory.mark_unsynced()?;
        }
        let may_be_half = AtomicBool::new(directory.is_unsynced()?);
        Ok(Self { directory, fsync, min_free_bytes, names: Names::default(), naming: Arc::default(), may_be_half })
    }
}

impl BlobStore for Files {
    fn open(&self, digest: &Digest) -> Result<Option<Found>, StoreError> {
        let found = directory::open_file_in_place(&self.directory.blob(digest))?;
        Ok(found.map(|(file, size)| (Arc::new(Open(Arc::new(file))) as _, size)))
    }

    fn create(&self, digest: &Digest, size: u64) -> Result<Arc<dyn Draft>, StoreError> {
        let path = self.directory.ingest(digest);
        let file = interrupted::create(&path, size, self.min_free_bytes)?;
        Ok(self.growing(file, path, Extent { there: 0, size }, digest, None))
    }

    fn resume(&self, digest: &Digest, size: u64, upstream: &UpstreamName) -> Result<Option<Kept>, StoreError> {
        let Some(taken) = self.names.take(digest, size, upstream) else { return Ok(None) };
        let path = taken.path(&self.directory);
        let (file, there) = interrupted::open(&path, size, self.min_free_bytes)?;
        Ok(Some((self.growing(file, path, Extent { there, size }, digest, Some(taken)), there)))
    }

    fn kept(&self) -> Result<Vec<Interrupted>, StoreError> {
        self.names.list(&self.directory)
    }

    fn drop_kept(&self, kept: &Interrupted) -> Result<(), StoreError> {
        let taken = self.names.take_kept(kept);
        taken.map_or(Ok(()), |taken| directory::remove_if_present(&taken.path(&self.directory)))
    }

    fn may_be_half(&self) -> bool {
        self.may_be_half.load(Ordering::Relaxed)
    }

    fn hashed_all(&self) -> Result<(), StoreError> {
        if self.fsync != Fsync::Never && self.may_be_half() {
            self.directory.unmark_unsynced()?;
            self.may_be_half.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn quarantine(&self, digest: &Digest, only: Option<&File>) -> Result<bool, StoreError> {
        let _nobody_else = self.naming.write().unwrap_or_else(PoisonError::into_inner);
        let path = self.directory.blob(digest);
        if let Some(file) = only
            && !directory::is_at(file, &path)?
        {
            return Ok(false);
        }
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        directory::rename_if_present(&path, &self.directory.quarantine().join(name))?;
        Ok(true)
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        directory::remove_if_present(&self.directory.blob(digest))
    }

    fn each(&self, algorithm: Algorithm, tell: &mut dyn FnMut(Digest) -> ControlFlow<()>) -> Result<(), StoreError> {
        for name in directory::list(&self.directory.blobs(algorithm))? {
            // Whatever is named otherwise, no lookup by digest can reach it.
            if let Some(digest) = name?.to_str().and_then(|hex| format!("{algorithm}:{hex}").parse().ok())
                && tell(digest).is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Files {
    fn growing(
        &self,
        file: File,
        path: PathBuf,
        extent: Extent,
        digest: &Digest,
        taken: Option<Taken>,
    ) -> Arc<dyn Draft> {
        let (directory, digest) = (Arc::clone(&self.directory), digest.clone());
        let content = Open(Arc::new(file));
        let Extent { there, size } = extent;
        Arc::new(Growing {
            content,
            path,
            size,
            reserved: AtomicU64::new(interrupted::reserved_at(there, size)),
            min_free_bytes: self.min_free_bytes,
            naming: Arc::clone(&self.naming),
            directory,
            digest,
            fsync: self.fsync,
            taken,
            ended: AtomicBool::new(false),
            kept: AtomicBool::new(false),
        })
    }
}

/// How much of a file there is, and is to be, bytes.
#[derive(Clone, Copy)]
struct Extent {
    there: u64,
    size: u64,
}

/// An open file.
#[derive(Debug)]
struct Open(Arc<File>);

impl Content for Open {
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        let filled = pages::read(&self.0, offset, &mut buffer)?;
        buffer.truncate(filled);
        Ok(buffer.into())
    }

    /// What the system has in memory anyway: no thread waits, and none keeps memory of its own for it.
    fn read_cached(&self, offset: u64, length: usize) -> Option<Bytes> {
        let mut buffer = vec![0; length];
        let read = pages::read_cached(&self.0, offset, &mut buffer)?;
        (read == length).then(|| buffer.into())
    }

    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.0)
    }
}

/// A file under `ingest/`. Its name goes when it is published or given up, unless it is to be kept.
#[derive(Debug)]
struct Growing {
    content: Open,
    path: PathBuf,
    /// What it is to become, bytes.
    size: u64,
    /// Up to where room was taken for it, bytes.
    reserved: AtomicU64,
    /// What it leaves of the disk, bytes.
    min_free_bytes: u64,
    naming: Arc<RwLock<()>>,
    directory: Arc<Directory>,
    digest: Digest,
    fsync: Fsync,
    /// Its name outlives an interruption, and is nobody else's meanwhile.
    taken: Option<Taken>,
    /// It has no name under `ingest/` any more, or one that stays.
    ended: AtomicBool,
    /// Its name stays, and so does what has come of it.
    kept: AtomicBool,
}

impl Content for Growing {
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.content.read_at(offset, length)
    }

    fn read_cached(&self, offset: u64, length: usize) -> Option<Bytes> {
        self.content.read_cached(offset, length)
    }

    fn file(&self) -> Option<&Arc<File>> {
        self.content.file()
    }
}

impl Draft for Growing {
    fn write_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StoreError> {
        let end = offset + slices.iter().map(|slice| slice.len() as u64).sum::<u64>();
        let reserved = self.reserved.load(Ordering::Relaxed);
        if end > reserved {
            let further = interrupted::reserved_at(end, self.size);
            interrupted::reserve(&self.content.0, reserved, further, self.min_free_bytes)
                .map_err(StoreError::io("reserve", &self.path))?;
            self.reserved.store(further, Ordering::Relaxed);
        }
        write_all(&self.content.0, offset, slices).map_err(StoreError::io("write", &self.path))
    }

    /// Content first, then the name: after a power cut the name never stands for less than the content.
    fn publish(&self) -> Result<Arc<dyn Content>, StoreError> {
        let file = &self.content.0;
        if self.fsync != Fsync::Never {
            file.sync_all().map_err(StoreError::io("sync", &self.path))?;
        }
        let name = self.directory.blob(&self.digest);
        let _side_by_side = self.naming.read().unwrap_or_else(PoisonError::into_inner);
        if self.fsync == Fsync::Always {
            directory::rename(&self.path, &name)?;
        } else {
            directory::rename_unsynced(&self.path, &name)?;
        }
        self.ended.store(true, Ordering::Relaxed);
        Ok(Arc::new(Open(Arc::clone(file))))
    }

    fn sync(&self) -> Result<(), StoreError> {
        if self.fsync == Fsync::Never {
            return Ok(());
        }
        self.content.0.sync_data().map_err(StoreError::io("sync", &self.path))
    }

    fn keep(&self) {
        if self.taken.is_none() {
            return self.discard();
        }
        self.ended.store(true, Ordering::Relaxed);
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Only the name goes here, at no cost; the space is freed when the last follower closes the file.
    fn discard(&self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.unname();
        }
    }
}

impl Growing {
    fn unname(&self) {
        if let Err(error) = directory::remove_if_present(&self.path) {
            let path = self.path.display();
            tracing::warn!(path = %path, error = %error, "a discarded ingest stays on disk until the next start");
        }
    }
}

impl Drop for Growing {
    /// The last who writes or reads is gone, and the name is not yet given back. Where another download has stored the blob meanwhile
    /// nobody goes on from this one.
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            return;
        }
        let stored = directory::open_file(&self.directory.blob(&self.digest));
        if matches!(stored, Ok(Some((_, size))) if size == self.size) {
            self.unname();
        } else {
            interrupted::cut(&self.content.0);
        }
    }
}

fn write_all(file: &File, mut offset: u64, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while slices.iter().any(|slice| !slice.is_empty()) {
        match pwritev(file, slices, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut slices, written);
                offset += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
