//! The data of response bodies, as hyper is given it.

use std::{
    fmt,
    fs::File,
    io::IoSlice,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes};
use storage::pages;

use crate::listen::zero_copy::FileRange;

/// A piece of a body: bytes in memory, or a range of a file that goes out without being read.
#[derive(Debug)]
pub struct Segment(Kind);

#[derive(Debug)]
enum Kind {
    Memory(Bytes),
    Pooled(Pooled),
    File(FileRange),
}

impl From<Bytes> for Segment {
    fn from(bytes: Bytes) -> Self {
        Self(Kind::Memory(bytes))
    }
}

impl From<Pooled> for Segment {
    fn from(copied: Pooled) -> Self {
        Self(Kind::Pooled(copied))
    }
}

impl From<FileRange> for Segment {
    fn from(range: FileRange) -> Self {
        Self(Kind::File(range))
    }
}

impl Buf for Segment {
    fn remaining(&self) -> usize {
        match &self.0 {
            Kind::Memory(bytes) => bytes.len(),
            Kind::Pooled(copied) => copied.filled.len(),
            Kind::File(range) => range.remaining(),
        }
    }

    #[expect(clippy::panic, reason = "zeros in place of a blob would be a wrong answer with the right length")]
    fn chunk(&self) -> &[u8] {
        match &self.0 {
            Kind::Memory(bytes) => bytes,
            Kind::Pooled(copied) => copied.bytes(),
            // Against the letter of the trait, and on purpose: a range has no bytes to copy.
            Kind::File(_) => panic!("a file range is sent by its connection and never copied"),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        if let Kind::File(range) = &self.0 {
            return range.publish(slices);
        }
        match slices.first_mut() {
            Some(slice) if self.has_remaining() => {
                *slice = IoSlice::new(self.chunk());
                1
            }
            Some(_) | None => 0,
        }
    }

    fn advance(&mut self, count: usize) {
        match &mut self.0 {
            Kind::Memory(bytes) => bytes.advance(count),
            Kind::Pooled(copied) => copied.filled.start += count.min(copied.filled.len()),
            Kind::File(range) => range.advance(count),
        }
    }
}

/// Buffers of one body: each comes back when what was in it is sent, and is filled again.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Box<[u8]>>>>);

/// Part of a file in one of these buffers.
pub(super) struct Pooled {
    buffer: Box<[u8]>,
    filled: Range<usize>,
    pool: Pool,
}

impl Pool {
    /// As much of `length` bytes as the system has in memory, of `COPY_BYTES` at most. `None` where the disk would have to be asked.
    pub(super) fn read_cached(&self, file: &File, offset: u64, length: usize) -> Option<Pooled> {
        let mut pooled = self.buffer();
        let read = pages::read_cached(file, offset, pooled.buffer.get_mut(..length)?)?;
        pooled.filled = 0..read;
        (read > 0).then_some(pooled)
    }

    /// The same with the disk asked; fewer bytes only where the file ends. Blocks.
    pub(super) fn read(&self, file: &File, offset: u64, length: usize) -> std::io::Result<Pooled> {
        let mut pooled = self.buffer();
        let length = length.min(pooled.buffer.len());
        let read = pages::read(file, offset, pooled.buffer.get_mut(..length).unwrap_or_default())?;
        pooled.filled = 0..read;
        Ok(pooled)
    }

    fn buffer(&self) -> Pooled {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffer = kept.unwrap_or_else(|| vec![0; super::COPY_BYTES].into());
        Pooled { buffer, filled: 0..0, pool: self.clone() }
    }
}

impl Pooled {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.filled.clone()).unwrap_or_default()
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} copied bytes", self.filled.len())
    }
}
