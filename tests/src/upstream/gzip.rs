//! Gzip without compressing: valid for every decoder, and enough to change the bytes of an answer.

/// The longest stored block of DEFLATE.
const BLOCK: usize = 0xFFFF;

/// A gzip stream of stored blocks.
pub(super) fn stored(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
    let mut blocks = content.chunks(BLOCK).peekable();
    if blocks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0, 0xFF, 0xFF]);
    }
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        let length = u16::try_from(block.len()).expect("a chunk is at most BLOCK = u16::MAX long");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(content).to_le_bytes());
    // RFC 1952: the length modulo 2^32
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is meant")]
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out
}

fn crc32(content: &[u8]) -> u32 {
    !content.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::{crc32, stored};

    #[test]
    fn the_checksum_is_the_one_of_rfc_1952() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn content_longer_than_a_block_is_split() {
        let content = vec![7; 70_000];
        let packed = stored(&content);
        assert_eq!(packed.len(), 10 + 5 + 65_535 + 5 + (70_000 - 65_535) + 8);
        assert_eq!(packed[10..15], [0, 0xFF, 0xFF, 0, 0]);
        assert_eq!(packed[15 + 65_535], 1, "the second block is the last");
    }
}
