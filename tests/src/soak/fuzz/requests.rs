//! Request lines and ranges.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use oci::RepositoryPath;
use proxy::{
    app::App,
    clock::Clock,
    handle,
    route::{Call, Named, Routes},
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    image::{self, Image},
    upstream::noise,
    world::{Setup, World},
};

const REPOSITORY: &str = "chainguard/nginx";

/// Three upstreams: at the root, under a prefix, under a prefix of that.
static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let upstream = |name: &str, prefix: &str| {
        format!("[[upstreams]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:1\"\nprefix = \"{prefix}\"\n")
    };
    let sections = upstream("docker.io", "hub") + &upstream("ghcr.io", "hub/deeper");
    let runtime = runtime();
    let world = runtime.block_on(World::new());
    Routes::new(&world.load(&Setup::default().sections(&sections)).settings.upstreams)
});

/// A pratique without sockets in front: what is asked goes straight to its handlers.
static BEHIND: LazyLock<Behind> = LazyLock::new(|| {
    let runtime = runtime();
    let (world, image, app) = runtime.block_on(async {
        let world = World::new().await;
        let image = image::single("linux/amd64", [noise(3000, 1)]);
        world.push_signed(REPOSITORY, "latest", &image);
        let settings = world.load(&Setup::default()).settings;
        let app = App::new(settings, Clock::system()).expect("a pratique in a temporary directory").value;
        (world, image, app)
    });
    let behind = Behind { runtime, app, _world: world, image };
    // From then on it is in the store.
    for (digest, _) in &behind.image.blobs {
        request_to(&behind, format!("/v2/{REPOSITORY}/blobs/{digest}").as_bytes());
    }
    behind
});

struct Behind {
    runtime: Runtime,
    app: Arc<App>,
    _world: World,
    image: Image,
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// What is understood names a repository that could have been named so.
pub(super) fn route(input: &[u8]) {
    let Ok(uri) = Uri::try_from(input) else { return };
    for method in [Method::GET, Method::HEAD, Method::PUT] {
        let call = Call::parse(&method, &uri, &ROUTES);
        assert!(method != Method::PUT || call.is_err(), "a way to write");
        match call {
            Ok(
                Call::Manifest { named, .. }
                | Call::Blob { named, .. }
                | Call::Tags { named, .. }
                | Call::Referrers { named, .. },
            ) => {
                check(&named, &uri);
            }
            Ok(Call::Base) => assert!(uri.path().trim_end_matches('/') == "/v2", "not the base: {uri}"),
            Err(error) => assert!(error.status().is_client_error(), "a {} for a mere request line", error.status()),
        }
    }
}

fn check(named: &Named, uri: &Uri) {
    assert!(named.typed.parse::<RepositoryPath>().is_ok(), "not a name: {}", named.typed);
    assert!(uri.path().contains(&named.typed), "nobody typed {}", named.typed);
    let path = named.repository.path().as_str();
    let from_prefix =
        named.typed.ends_with(path) || path.strip_prefix("library/").is_some_and(|path| named.typed.ends_with(path));
    assert!(from_prefix, "{path} is not from {}", named.typed);
}

/// First line: path and query. Second: `Range`. Third: `If-Range`.
pub(super) fn request(input: &[u8]) {
    request_to(&BEHIND, input);
}

/// An answer is none of a fault of ours; what it says of its length is true, and its bytes are those of the content.
fn request_to(behind: &Behind, input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = uri;
    for (name, line) in [header::RANGE, header::IF_RANGE].into_iter().zip(lines) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            request.headers_mut().append(name, value);
        }
    }
    let (status, headers, body) = behind.runtime.block_on(async {
        let (head, body) = handle::serve(Arc::clone(&behind.app), request).await.into_parts();
        let body = body.collect().await.expect("a body from the store does not break").to_bytes();
        (head.status, head.headers, body)
    });
    let told = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "a fault of ours: {}", String::from_utf8_lossy(&body));
    if let Some(length) = told(header::CONTENT_LENGTH) {
        assert_eq!(length, body.len().to_string(), "Content-Length");
    }
    let contents = behind.image.blobs.iter().map(|(_, bytes)| bytes).chain([&behind.image.manifest]);
    if status == StatusCode::PARTIAL_CONTENT {
        let kind = told(header::CONTENT_TYPE).unwrap_or_default();
        let parts = match kind.strip_prefix("multipart/byteranges; boundary=") {
            Some(boundary) => parts(&body, boundary).expect("a body of several parts is framed as such"),
            None => vec![(told(header::CONTENT_RANGE).expect("206 says which part"), body)],
        };
        for (told, bytes) in parts {
            let is_that_part = |whole: &Bytes| part(&told, whole).is_some_and(|part| part == bytes);
            assert!(contents.clone().any(is_that_part), "{told} of nothing that is there");
        }
    } else if status == StatusCode::OK && told("docker-content-digest".parse().expect("a header's name")).is_some() {
        let evidence = oci::Digest::sha256(&body).to_string();
        let true_to_name = told("docker-content-digest".parse().expect("a header's name")) == Some(evidence);
        assert!(true_to_name, "bytes of another digest");
    }
}

/// What each part of a `multipart/byteranges` body says of its range, and its bytes.
fn parts(body: &Bytes, boundary: &str) -> Option<Vec<(String, Bytes)>> {
    let (open, close) = (format!("--{boundary}\r\n"), format!("--{boundary}--\r\n"));
    let mut rest = body.clone();
    let mut parts = Vec::new();
    while rest != close.as_bytes() {
        let head_bytes = rest.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
        let head = rest.split_to(head_bytes);
        let head = std::str::from_utf8(&head).ok()?.strip_prefix(&open)?;
        let told = head.lines().find_map(|line| line.strip_prefix("Content-Range: "))?.to_owned();
        let (first, last) = told.strip_prefix("bytes ")?.split_once('/')?.0.split_once('-')?;
        let length = last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1;
        if rest.len() < length + 2 {
            return None;
        }
        parts.push((told, rest.split_to(length)));
        if rest.split_to(2) != "\r\n" {
            return None;
        }
    }
    Some(parts)
}

/// The bytes of `whole` that a `Content-Range` speaks of, where it can speak of it.
fn part(told: &str, whole: &Bytes) -> Option<Bytes> {
    let (range, size) = told.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (size.parse() == Ok(whole.len()) && first <= last && last < whole.len()).then(|| whole.slice(first..=last))
}
