//! What an upstream answers, before the whole client: one answer for each input, from a server that says just that.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use config::Limits;
use oci::{Digest, Reference, RepositoryPath};
use proxy::upstream::{Upstream, UpstreamError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

use crate::world::{Setup, World};

/// Longest line that an error may become, whatever upstream said.
const LINE_MAX: usize = 1024;
/// Where the parts of blobs that are asked for begin.
const OFFSET: u64 = 5;

struct Upstreams {
    runtime: Runtime,
    said: Arc<Mutex<Vec<u8>>>,
    named: config::Upstream,
}

static UPSTREAM: LazyLock<Upstreams> = LazyLock::new(|| {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let said = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&said);
    let named = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(serve(listener, told));
        let world = World::new().await;
        let mut upstream = world.load(&Setup::default()).settings.upstreams.remove(0);
        upstream.url = format!("http://{address}").parse().expect("a URL on loopback");
        upstream
    });
    Upstreams { runtime, said, named }
});

async fn serve(listener: TcpListener, said: Arc<Mutex<Vec<u8>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        tokio::spawn(answer_to(stream, answer));
    }
}

/// Reads one head, says what there is to say, and closes.
async fn answer_to(mut stream: TcpStream, answer: Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

impl Upstreams {
    fn says(&self, answer: Vec<u8>) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// Knows nothing of what was said before.
    fn client(&self) -> Upstream {
        Upstream::new(&self.named, &Limits::default()).expect("a client of it")
    }

    /// An error is one short line of ours, in which nothing of upstream's can end it or begin another.
    fn check<T>(outcome: Result<T, UpstreamError>) -> Option<T> {
        let error = match outcome {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let line = proxy::error::chain(&error);
        assert!(line.len() <= LINE_MAX, "{} bytes of {line:.80}", line.len());
        assert!(!line.chars().any(char::is_control), "{line:?}");
        None
    }
}

fn repository() -> RepositoryPath {
    "chainguard/nginx".parse().expect("a path")
}

/// First line: the status. Then headers up to an empty line, then the body; its length is told unless a header does.
pub(super) fn answer(input: &[u8]) {
    let (status, rest) = split(input, b"\n");
    let (headers, body) = split(rest, b"\n\n");
    let mut said = [b"HTTP/1.1 ", status, b" x\r\n"].concat();
    for line in headers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        said.extend_from_slice(line);
        said.extend_from_slice(b"\r\n");
    }
    let is_told = headers.to_ascii_lowercase().windows(15).any(|name| name == b"content-length:");
    if !is_told {
        said.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    said.extend_from_slice(b"\r\n");
    said.extend_from_slice(body);
    let upstream = &*UPSTREAM;
    upstream.says(said);
    let tag: Reference = "latest".parse().expect("a tag");
    let digest = Digest::sha256(body);
    upstream.runtime.block_on(async {
        if let Some(fetched) = Upstreams::check(upstream.client().manifest(&repository(), &tag).await) {
            assert!(body.starts_with(&fetched.bytes), "other bytes than were sent");
        }
        Upstreams::check(upstream.client().head_manifest(&repository(), &tag).await.map(drop));
        if let Some(mut blob) = Upstreams::check(upstream.client().blob(&repository(), &digest, OFFSET).await) {
            assert!([0, OFFSET].contains(&blob.start()), "a part that begins at {}", blob.start());
            while let Some(Some(_)) = Upstreams::check(blob.next().await) {}
        }
    });
}

/// A value of `Content-Range`: a part is taken only where it is the one asked for, to the end.
pub(super) fn content_range(input: &[u8]) {
    let value: Vec<u8> = input.iter().copied().filter(|byte| !b"\r\n\0".contains(byte)).collect();
    let said = [b"HTTP/1.1 206 x\r\ncontent-range: ", &value[..], b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"];
    let upstream = &*UPSTREAM;
    upstream.says(said.concat());
    let client = upstream.client();
    let asked = upstream.runtime.block_on(client.blob(&repository(), &Digest::sha256(b""), OFFSET));
    let Some(blob) = Upstreams::check(asked) else { return };
    let size = blob.size().expect("a part tells the size of the whole");
    let text = String::from_utf8(value).expect("a header of text");
    let (unit, rest) = text.trim().split_once(' ').expect("a unit");
    assert!(unit.eq_ignore_ascii_case("bytes"), "{text}");
    let all = [format!("{OFFSET}-{}/{size}", size - 1), format!("{OFFSET}-{}/*", size - 1)];
    let plain =
        |text: &str| text.split(['-', '/']).map(|number| number.trim_start_matches('0').to_owned()).collect::<Vec<_>>();
    assert!(blob.start() == OFFSET && all.iter().any(|all| plain(all) == plain(rest)), "{text} was taken");
}

fn split<'a>(input: &'a [u8], at: &[u8]) -> (&'a [u8], &'a [u8]) {
    let place = input.windows(at.len()).position(|window| window == at);
    place.map_or((input, &[]), |place| (&input[..place], &input[place + at.len()..]))
}
