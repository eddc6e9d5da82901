//! An upstream that speaks HTTP/2 frame by frame, and goes away between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    super::error::{Kind, Outage, UpstreamError},
    Setup, blob, digest, manifest, repository,
    server::{GOOD, Server},
};

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const ACK_OR_END: u8 = 1;
const CONTINUATION: u8 = 9;
const END_OF_HEADERS: u8 = 4;
/// The most that a frame has where nothing else was agreed on.
const FRAME_BYTES: usize = 16_384;
/// `:status: 200`, from the table that both sides know.
const OK: &[u8] = &[0x88];
/// `:status: 103`.
const HINTS: &[u8] = b"\x08\x03103";
/// `:status: 206` and `content-range: bytes 2-3/4`.
const FROM_2: &[u8] = b"\x8a\x0f\x0f\x0bbytes 2-3/4";
/// `bytes=2-` as it stands in a header block, behind its length: in Huffman's code.
const ASKED_FROM_2: &[u8] = &[0x86, 0x8f, 0xd2, 0x4a, 0x88, 0x04, 0xb7];

/// What a connection does once it was asked for something.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// GOAWAY that names no stream as looked at, and the end.
    GoAway,
    /// Nothing ever again, no answer to PING either.
    Silence,
    /// 200 and these bytes.
    Answer(&'static [u8]),
    /// 200, these bytes, and GOAWAY and the end in the middle of the body.
    AnswerHalf(&'static [u8]),
    /// 200, these bytes, and `RST_STREAM`; whoever asks again by the same connection gets what is said of `Rest`.
    AnswerReset(&'static [u8]),
    /// 200 and so many header lines of so many bytes, over as many frames as that takes.
    Lines(usize, usize),
    /// Interim answers without end.
    Interim,
    /// Of "blob" the bytes from the third on, where a range asks for those; else 200 and all of it.
    Rest,
}

async fn frame(stream: &mut (impl AsyncWrite + Unpin), kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    // A client that has seen enough closes first.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
}

/// Kind, flags, stream and payload of the next frame.
async fn next(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]), payload))
}

/// A header line with so many bytes, up to 16 000 of them, in its value, as it stands in a header block: neither in a table nor in Huffman's code.
fn line(length: usize) -> Vec<u8> {
    let rest = u16::try_from(length - 127).unwrap();
    let [low, high] = [rest & 0x7f | 0x80, rest >> 7].map(|part| u8::try_from(part).unwrap());
    [&[0, 1, b'x', 0x7f, low, high][..], &vec![b'x'; length]].concat()
}

async fn serve(mut stream: TlsStream<TcpStream>, mut then: Then) {
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() {
        return;
    }
    frame(&mut stream, SETTINGS, 0, 0, &[]).await;
    while let Some((kind, flags, id, payload)) = next(&mut stream).await {
        if kind == SETTINGS && flags & ACK_OR_END == 0 {
            frame(&mut stream, SETTINGS, ACK_OR_END, 0, &[]).await;
        }
        if kind != HEADERS {
            continue;
        }
        let go_away = [0; 8];
        match then {
            Then::GoAway => return frame(&mut stream, 7, 0, 0, &go_away).await,
            Then::Silence => std::future::pending().await,
            Then::Answer(bytes) => {
                frame(&mut stream, HEADERS, END_OF_HEADERS, id, OK).await;
                frame(&mut stream, 0, ACK_OR_END, id, bytes).await;
            }
            Then::AnswerHalf(bytes) => {
                frame(&mut stream, HEADERS, END_OF_HEADERS, id, OK).await;
                frame(&mut stream, 0, 0, id, bytes).await;
                let last = [id.to_be_bytes(), [0; 4]].concat();
                return frame(&mut stream, 7, 0, 0, &last).await;
            }
            Then::AnswerReset(bytes) => {
                frame(&mut stream, HEADERS, END_OF_HEADERS, id, OK).await;
                frame(&mut stream, 0, 0, id, bytes).await;
                frame(&mut stream, 3, 0, id, &2_u32.to_be_bytes()).await;
                then = Then::Rest;
            }
            Then::Lines(count, length) => {
                let lines = line(length).repeat(count);
                let mut parts = lines.chunks(FRAME_BYTES).peekable();
                frame(&mut stream, HEADERS, 0, id, OK).await;
                while let Some(part) = parts.next() {
                    let flags = if parts.peek().is_none() { END_OF_HEADERS } else { 0 };
                    frame(&mut stream, CONTINUATION, flags, id, part).await;
                }
                frame(&mut stream, 0, ACK_OR_END, id, b"{}").await;
            }
            Then::Interim => loop {
                frame(&mut stream, HEADERS, END_OF_HEADERS, id, HINTS).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            },
            Then::Rest => {
                let is_part = payload.windows(ASKED_FROM_2.len()).any(|window| window == ASKED_FROM_2);
                let (head, bytes) = if is_part { (FROM_2, b"ob".as_slice()) } else { (OK, b"blob".as_slice()) };
                frame(&mut stream, HEADERS, END_OF_HEADERS, id, head).await;
                frame(&mut stream, 0, ACK_OR_END, id, bytes).await;
            }
        }
    }
}

/// A server whose first connection does the first, and every later one the second; and how many there were.
async fn first_and_later(first: Then, later: Then) -> (Server, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = Server::start_tls_raw(GOOD, move |stream| {
        let then = if counted.fetch_add(1, Ordering::SeqCst) == 0 { first } else { later };
        serve(stream, then)
    })
    .await;
    (server, connections)
}

#[tokio::test]
async fn a_connection_that_goes_away_before_it_answers_is_left_for_another() {
    for first in [Then::GoAway, Then::Silence] {
        let (server, connections) = first_and_later(first, Then::Answer(b"{}")).await;
        let upstream = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = Duration::from_secs(2));
        let upstream = upstream.build();
        let fetched = manifest(&upstream).await;
        assert_eq!(&fetched.unwrap_or_else(|error| panic!("{first:?}: {error}")).bytes[..], b"{}");
        assert_eq!(connections.load(Ordering::SeqCst), 2, "{first:?}");
    }
}

#[tokio::test]
async fn a_blob_whose_connection_goes_away_ends_in_an_error_and_the_rest_comes_by_another() {
    // A stream that is reset alone is no reason to leave its connection.
    for (first, connected) in [(Then::AnswerHalf(b"bl"), 2), (Then::AnswerReset(b"bl"), 1)] {
        let (server, connections) = first_and_later(first, Then::Rest).await;
        let upstream = Setup::of(&server).build();
        let mut stream = upstream.blob(&repository(), &digest(), 0).await.unwrap();
        assert_eq!(stream.next().await.unwrap().as_deref(), Some(&b"bl"[..]), "{first:?}");
        let error = stream.next().await.unwrap_err();
        assert_eq!(error, UpstreamError::Unavailable { what: Kind::Blob, why: Outage::ConnectionLost }, "{first:?}");
        drop(stream);
        assert_eq!(blob(&upstream, 2).await.unwrap(), (2, b"ob".to_vec()), "{first:?}");
        assert_eq!(connections.load(Ordering::SeqCst), connected, "{first:?}");
        // Who asks for all of it gets all of it: it was the range that was answered.
        assert_eq!(blob(&upstream, 0).await.unwrap(), (0, b"blob".to_vec()), "{first:?}");
    }
}

#[tokio::test]
async fn a_head_over_http2_is_bounded_in_bytes_and_time() {
    let few = first_and_later(Then::Lines(10, 1000), Then::Lines(10, 1000)).await.0;
    assert_eq!(&manifest(&Setup::of(&few).build()).await.unwrap().bytes[..], b"{}");
    for (what, then) in [
        ("10 MiB", Then::Lines(1000, 10_000)),
        ("10 000 lines", Then::Lines(10_000, 128)),
        ("interim answers without end", Then::Interim),
    ] {
        let (server, _) = first_and_later(then, then).await;
        let upstream = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = Duration::from_secs(2));
        let refused = tokio::time::timeout(Duration::from_secs(30), manifest(&upstream.build())).await;
        let error = refused.unwrap_or_else(|_| panic!("{what}: still waited for")).expect_err(what);
        let is_told = matches!(error, UpstreamError::Malformed { .. } | UpstreamError::Unavailable { .. });
        assert!(is_told, "{what}: {error:?}");
    }
}
