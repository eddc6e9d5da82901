//! What the system has of a file in memory, and how the rest gets there: for those who send files and must not wait for the disk.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt as _,
};

use rustix::{
    fs::{Advice, fadvise},
    io::{ReadWriteFlags, preadv2},
};

/// Reads what is in memory from `offset` on, up to the length of `buffer`; how many bytes that were, 0 at the end of the file. `None`
/// where the disk would have to be asked, or where the file system cannot tell.
#[must_use]
pub fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> Option<usize> {
    preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT).ok()
}

/// Whether the first and the last of `length` bytes from `offset` on are in memory: what lies between them came with them, as far as
/// read-ahead goes. The end of the file counts as there. `false` where the file system cannot tell.
#[must_use]
pub fn is_cached(file: &File, offset: u64, length: u64) -> bool {
    let is_there = |offset| read_cached(file, offset, &mut [0]).is_some();
    is_there(offset) && is_there(offset + length.saturating_sub(1))
}

/// Reads `length` bytes from `offset` on into memory, fewer where the file ends, and has the system begin with as many after them.
/// Blocks.
///
/// # Errors
/// What the disk says.
pub fn bring_in(file: &File, offset: u64, length: u64) -> io::Result<()> {
    // Advice only: a file system that takes none is read all the same.
    let _ = fadvise(file, offset, std::num::NonZeroU64::new(length.saturating_mul(2)), Advice::WillNeed);
    let mut buffer = vec![0; PIECE_BYTES];
    let end = offset.saturating_add(length);
    let mut at = offset;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        match read(file, at, buffer.get_mut(..want).unwrap_or_default())? {
            0 => break,
            read => at += read as u64,
        }
    }
    Ok(())
}

/// Reads from `offset` on until `buffer` is full or the file ends; how many bytes that were. Blocks.
///
/// # Errors
/// What the disk says.
pub fn read(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// How much is read at a time only to have it in memory, bytes.
const PIECE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_brought_in_is_there_and_the_end_is_told() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 200_000]).unwrap();
        bring_in(&file, 10, 1_000_000).unwrap();
        let mut buffer = [0; 4096];
        assert_eq!(read(&file, 199_000, &mut buffer).unwrap(), 1000);
        assert_eq!(read(&file, 200_000, &mut buffer).unwrap(), 0);
        // Some file systems cannot tell; one that can must tell the same bytes.
        if let Some(read) = read_cached(&file, 199_000, &mut buffer) {
            assert_eq!((read, buffer[999]), (1000, 7));
            assert!(is_cached(&file, 0, 200_000));
        }
    }
}
