//! What can be wrong with the bytes of a document, whatever they say.

use super::{Flaw, Options};

/// The document as it is, or in other bytes.
pub(super) fn spoiled(mut bytes: Vec<u8>, options: &Options) -> Vec<u8> {
    if options.has(Flaw::TrailingBytes) {
        bytes.extend(b"{}");
    }
    if options.has(Flaw::ByteOrderMark) {
        bytes.splice(0..0, "\u{feff}".bytes());
    }
    if options.has(Flaw::Utf16) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        bytes = std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    }
    if options.has(Flaw::Compressed) {
        bytes = gzip(&bytes);
    }
    bytes
}

/// RFC 1952 with stored blocks (RFC 1951, section 3.2.4): compressed in name, which is enough to tell who unpacks.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("a chunk is no longer than that");
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(crc32(bytes).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).expect("evidence is shorter than 4 GiB").to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
