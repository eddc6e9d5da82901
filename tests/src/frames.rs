//! HTTP/2 frames as an ill-behaved client would make them: one by one, in any order, as many as it likes.

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET /v2/` in HPACK, nothing of it remembered.
fn request() -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(4, "/v2/"), (1, "pratique")] {
        block.extend([name, u8::try_from(value.len()).expect("a short value")]);
        block.extend(value.bytes());
    }
    block
}

/// No setting at all.
#[must_use]
pub fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// A ping that wants its answer.
#[must_use]
pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}

/// A whole request, and the end of its stream where `ends`.
#[must_use]
pub fn headers(stream: u32, ends: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, &request())
}

/// A request whose head goes on.
#[must_use]
pub fn headers_unended(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM, stream, &request())
}

/// More of a head, which goes on after it.
#[must_use]
pub fn continuation(stream: u32) -> Vec<u8> {
    // A header `x: y` that is not remembered.
    frame(CONTINUATION, 0, stream, &[0, 1, b'x', 1, b'y'])
}

/// The client has changed its mind.
#[must_use]
pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// Content of no length, after which more may come.
#[must_use]
pub fn empty_data(stream: u32) -> Vec<u8> {
    frame(DATA, 0, stream, &[])
}

/// The error that the peer closes the connection with, where `said` has one.
#[must_use]
pub fn goaway(mut said: &[u8]) -> Option<u32> {
    while said.len() >= 9 {
        let length = usize::try_from(u32::from_be_bytes([0, said[0], said[1], said[2]])).ok()?;
        let (frame, rest) = said.split_at_checked(9 + length)?;
        if frame[3] == GOAWAY {
            return Some(u32::from_be_bytes(frame.get(13..17)?.try_into().ok()?));
        }
        said = rest;
    }
    None
}
