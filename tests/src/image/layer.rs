//! Layers: tar archives, written without a trace of the machine they were written on.

use bytes::Bytes;

const BLOCK: usize = 512;
/// How much filler is made at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// A regular file in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The path without a leading slash, at most 100 bytes.
    pub path: &'a str,
    /// Permissions, such as `0o644`.
    pub mode: u32,
    /// The file's bytes.
    pub bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// A file that everybody may read.
    #[must_use]
    pub fn file(path: &'a str, bytes: &'a [u8]) -> Self {
        Self { path, mode: 0o644, bytes }
    }

    /// A file that everybody may run.
    #[must_use]
    pub fn executable(path: &'a str, bytes: &'a [u8]) -> Self {
        Self { path, mode: 0o755, bytes }
    }
}

/// A layer with these files (ustar, owner root, no times).
#[must_use]
pub fn tar(entries: &[Entry<'_>]) -> Bytes {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(header(entry));
        archive.extend(entry.bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.extend([0; 2 * BLOCK]);
    archive.into()
}

/// A layer of exactly `bytes` bytes (whole blocks, at least three) with one file in it, in which no two blocks are alike. Another
/// `seed`, another content.
#[must_use]
pub fn filler(bytes: usize, seed: u8) -> Bytes {
    let size = bytes.saturating_sub(3 * BLOCK) / BLOCK * BLOCK;
    let mut piece = noise(seed);
    let mut content = Vec::with_capacity(size + PIECE);
    while content.len() < size {
        // The piece's number in front, so that no two are alike.
        for (place, byte) in piece.iter_mut().zip((content.len() / PIECE).to_le_bytes()) {
            *place = byte;
        }
        content.extend_from_slice(&piece);
    }
    content.truncate(size);
    tar(&[Entry::file("filler", &content)])
}

/// One piece of what does not compress (xorshift64).
fn noise(seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    };
    std::iter::from_fn(next).flatten().take(PIECE).collect()
}

fn header(entry: &Entry<'_>) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, field: &[u8]| {
        for (place, byte) in header.iter_mut().skip(at).zip(field) {
            *place = *byte;
        }
    };
    put(0, entry.path.as_bytes());
    put(100, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", entry.bytes.len()).as_bytes());
    put(136, b"00000000000\0");
    // The checksum is taken with blanks in its own place.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let checksum = format!("{sum:06o}\0 ");
    for (place, byte) in header.iter_mut().skip(148).zip(checksum.bytes()) {
        *place = byte;
    }
    header
}
