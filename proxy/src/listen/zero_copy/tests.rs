//! Ranges over real sockets, through hyper, read by a client that believes nothing.

use std::{collections::VecDeque, convert::Infallible, io::Write as _};

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::body::Segment;

/// Segments, and the length that was promised for all of them.
struct Pieces(VecDeque<Segment>, u64);

impl Body for Pieces {
    type Data = Segment;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Segment>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|segment| Ok(Frame::data(segment))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.1)
    }
}

/// A file of so many bytes, each place with its own.
fn file(length: usize) -> (Arc<File>, Vec<u8>) {
    let bytes: Vec<u8> = (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (Arc::new(file), bytes)
}

const DOCUMENT: &[u8] = b"{\"a\": \"document\"}";

/// `/blob` is the whole file, in ranges of `piece` bytes; `/short` promises 10 bytes of it less; anything else is a document.
fn answer(request: &Request<Incoming>, file: &Arc<File>, piece: usize) -> Response<Pieces> {
    let link = Link::here();
    assert_eq!(link.is_some(), request.version() != Version::HTTP_2, "only a plain HTTP/1 connection makes ranges");
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let path = request.uri().path();
    let pieces = match link.filter(|_| path != "/document" && request.method() != Method::HEAD) {
        None => VecDeque::from([Bytes::from_static(DOCUMENT).into()]),
        Some(link) => (0..length)
            .step_by(piece)
            .map(|start| link.range(file, start as u64, piece.min(length - start)).into())
            .collect(),
    };
    let promised = pieces.iter().map(|piece: &Segment| Buf::remaining(piece) as u64).sum::<u64>();
    let less = if path == "/short" { 10 } else { 0 };
    Response::new(Pieces(pieces, promised - less))
}

/// Serves one connection, and says how that ended.
async fn serve(
    listener: TcpListener,
    file: Arc<File>,
    piece: usize,
    writev: Option<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (tcp, _) = listener.accept().await?;
    let link = Arc::new(Link::default());
    let io = TokioIo::new(ZeroCopy::new(tcp, Arc::clone(&link)));
    let service = service_fn(move |request| {
        let file = Arc::clone(&file);
        async move { Ok::<_, Infallible>(answer(&request, &file, piece)) }
    });
    if let Some(writev) = writev {
        let mut builder = http1::Builder::new();
        builder.writev(writev);
        Ok(link.scope(builder.serve_connection(io, service)).await?)
    } else {
        let builder = auto::Builder::new(TokioExecutor::new());
        link.scope(builder.serve_connection(io, service)).await
    }
}

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sends `requests` in one piece and reads to the end.
async fn ask(address: std::net::SocketAddr, requests: &str) -> Vec<u8> {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(requests.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    let _ = client.read_to_end(&mut answers).await;
    answers
}

/// The answers in `bytes`, by the lengths they tell; HEAD answers have no content.
fn answers<'a>(mut bytes: &'a [u8], methods: &[&str]) -> Vec<&'a [u8]> {
    let mut contents = Vec::new();
    for method in methods {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let text = std::str::from_utf8(&bytes[..head]).unwrap().to_lowercase();
        assert!(text.starts_with("http/1.") && text.contains(" 200 ") && !text.contains("chunked"), "{text}");
        let length = text.split("content-length: ").nth(1).expect("a length").split("\r\n").next().unwrap();
        let length = if *method == "HEAD" { 0 } else { length.parse().unwrap() };
        contents.push(&bytes[head..head + length]);
        bytes = &bytes[head + length..];
    }
    assert!(bytes.is_empty(), "{} bytes that belong to no answer", bytes.len());
    contents
}

#[tokio::test]
async fn eight_pipelined_requests_get_their_own_bytes_in_their_own_order() {
    for (piece, writev) in [(3_000_000, Some(true)), (100_000, None), (70_001, Some(true))] {
        let (file, bytes) = file(3_000_000);
        let (listener, address) = listener().await;
        let served = tokio::spawn(serve(listener, file, piece, writev));
        let asked = [
            ("GET", "blob"),
            ("GET", "document"),
            ("HEAD", "blob"),
            ("GET", "blob"),
            ("GET", "blob"),
            ("HEAD", "document"),
            ("GET", "document"),
            ("GET", "blob"),
        ];
        let mut requests = String::new();
        for (number, (method, path)) in asked.iter().enumerate() {
            let close = if number + 1 == asked.len() { "connection: close\r\n" } else { "" };
            requests.extend([method, " /", path, " HTTP/1.1\r\nhost: x\r\n", close, "\r\n"]);
        }
        let got = ask(address, &requests).await;
        for (content, (method, path)) in answers(&got, &asked.map(|(method, _)| method)).into_iter().zip(asked) {
            let want: &[u8] = match (method, path) {
                ("HEAD", _) => b"",
                (_, "blob") => &bytes,
                _ => DOCUMENT,
            };
            assert!(content == want, "{method} {path} in pieces of {piece}");
        }
        served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn http_1_0_and_an_expectation_with_a_body_nobody_reads_get_whole_answers() {
    for request in [
        "GET /blob HTTP/1.0\r\n\r\n",
        "POST /blob HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
    ] {
        let (file, bytes) = file(1_000_000);
        let (listener, address) = listener().await;
        tokio::spawn(serve(listener, file, 400_000, Some(true)));
        let got = ask(address, request).await;
        assert!(answers(&got, &["GET"]) == [&bytes], "{request}");
    }
}

#[tokio::test]
async fn a_range_that_is_copied_ends_the_connection_before_a_byte_leaves() {
    let (file, _) = file(1_000_000);
    let (listener, address) = listener().await;
    let served = tokio::spawn(serve(listener, file, 1_000_000, Some(false)));
    let got = ask(address, "GET /blob HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(got.is_empty(), "{} bytes left", got.len());
    assert!(served.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn a_file_that_is_shorter_than_it_was_ends_the_connection_short() {
    let (file, bytes) = file(1_000_000);
    let (listener, address) = listener().await;
    let service = {
        let file = Arc::clone(&file);
        service_fn(move |_: Request<Incoming>| {
            let range = Link::here().unwrap().range(&file, 0, 1_000_000);
            file.set_len(300_000).unwrap();
            async move { Ok::<_, Infallible>(Response::new(Pieces([range.into()].into(), 1_000_000))) }
        })
    };
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let link = Arc::new(Link::default());
        let io = TokioIo::new(ZeroCopy::new(tcp, Arc::clone(&link)));
        link.scope(http1::Builder::new().serve_connection(io, service)).await
    });
    let got = ask(address, "GET /blob HTTP/1.1\r\nhost: x\r\n\r\nGET /blob HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(got.ends_with(&bytes[..300_000]) && got.len() < 301_000, "{} bytes", got.len());
    let error = served.await.unwrap().unwrap_err();
    assert!(format!("{error:?}").contains("UnexpectedEof"), "{error:?}");
}

#[tokio::test]
async fn more_content_than_was_promised_is_cut_and_nothing_follows_it() {
    let (file, bytes) = file(1_000_000);
    let (listener, address) = listener().await;
    let served = tokio::spawn(serve(listener, file, 1_000_000, Some(true)));
    let got = ask(
        address,
        "GET /short HTTP/1.1\r\nhost: x\r\n\r\nGET /document HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(got.ends_with(&bytes[..999_990]), "no second answer");
    served.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_marker_without_its_range_is_never_sent() {
    let (listener, address) = listener().await;
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (mut client, (tcp, _)) = (client.unwrap(), accepted.unwrap());
    let (file, _) = file(1000);
    let link = Arc::new(Link::default());
    let mut io = ZeroCopy::new(tcp, Arc::clone(&link));
    let (mut one, mut other) = (link.range(&file, 0, 1000), link.range(&file, 0, 1000));
    let marker = &MARKER[one.token..one.token + 10];
    io.write(marker).await.unwrap_err();
    io.write_vectored(&[IoSlice::new(b"head"), IoSlice::new(marker)]).await.unwrap_err();
    // Another range's publication does not do.
    other.publish(&mut [IoSlice::new(&[])]);
    io.write_vectored(&[IoSlice::new(marker)]).await.unwrap_err();
    // Its own does, once.
    one.publish(&mut [IoSlice::new(&[])]);
    assert_eq!(io.write_vectored(&[IoSlice::new(marker)]).await.unwrap(), 10);
    io.write_vectored(&[IoSlice::new(marker)]).await.unwrap_err();
    one.advance(1000);
    other.advance(1000);
    drop((one, other, io));
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), 10);
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_leave_no_file_open() {
    let (file, _) = file(8_000_000);
    for _ in 0..20 {
        let (listener, address) = listener().await;
        let served = tokio::spawn(serve(listener, Arc::clone(&file), 2_000_000, None));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /blob HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        client.read_exact(&mut [0; 4096]).await.unwrap();
        drop(client);
        served.await.unwrap().unwrap_err();
    }
    assert_eq!(Arc::strong_count(&file), 1);
}

#[tokio::test]
async fn what_is_not_in_memory_is_brought_in_first() {
    let (file, bytes) = file(3_000_000);
    file.sync_all().unwrap();
    // Advice, which some file systems do not take: then it is served from memory as ever.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let (listener, address) = listener().await;
    tokio::spawn(serve(listener, file, 2_000_000, None));
    let got = ask(address, "GET /blob HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answers(&got, &["GET"]) == [&bytes]);
}

#[tokio::test]
async fn http_2_over_a_plain_connection_gets_copies() {
    use http_body_util::{BodyExt as _, Empty};
    let (file, _) = file(1000);
    let (listener, address) = listener().await;
    tokio::spawn(serve(listener, file, 1000, None));
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://x/blob").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), DOCUMENT);
}
