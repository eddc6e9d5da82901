//! The only constructors of responses, and of the bodies in them.
//!
//! Content leaves through three doors: [`manifest`] takes an `Admitted<Manifest>`, [`evidence`] an `Admitted<EvidenceManifest>`,
//! [`blob`] a [`PermitGuard`] around a `Permit`. Everything else here is text of our own.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use oci::{Digest, MediaType};
use policy::{Admitted, EvidenceManifest, Manifest};
use storage::Blobs;

use crate::{
    admission::PermitGuard,
    body::{
        Reading, ServedBody,
        parts::{Boundary, Parts},
    },
    error::ApiError,
    fill::Content,
    handle::Wanted,
    route::Named,
};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const DOCKER_DISTRIBUTION_API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// As many as an answer with content has, and some more: room is made once.
const HEADERS: usize = 12;

/// A response on its way out.
pub type Answer = Response<ServedBody>;

/// What a response says besides its content.
#[derive(Debug, Default)]
pub struct Told {
    /// HEAD: everything but the body.
    pub head: bool,
    /// The client holds this content already: 304, without it.
    pub held: bool,
    /// Warnings in plain text; told as `Warning: 299 - "…"`.
    pub warnings: Vec<String>,
}

/// A manifest that policy let in.
#[must_use]
pub fn manifest(admitted: &Admitted<Manifest>, named: &Named, mut told: Told) -> Answer {
    let content = admitted.value().manifest();
    told.warnings.extend(admitted.warning().map(str::to_owned));
    document(content.addressed().bytes(), content.media_type(), admitted.digest(), named, &told)
}

/// A signature, attestation or other evidence of an admitted subject.
#[must_use]
pub fn evidence(admitted: &Admitted<EvidenceManifest>, named: &Named, told: &Told) -> Answer {
    let content = admitted.value().manifest();
    document(content.addressed().bytes(), content.media_type(), admitted.digest(), named, told)
}

fn document(bytes: &Bytes, media_type: &MediaType, digest: &Digest, named: &Named, told: &Told) -> Answer {
    let mut answer = if told.held {
        not_modified(digest, named)
    } else {
        let body = if told.head { ServedBody::length(bytes.len() as u64) } else { ServedBody::whole(bytes.clone()) };
        let mut answer = Response::new(body);
        answer.headers_mut().reserve(HEADERS);
        set(&mut answer, header::CONTENT_TYPE, media_type.as_str());
        content_headers(&mut answer, digest, named);
        answer
    };
    warn(&mut answer, &told.warnings);
    answer
}

/// What is `wanted` of a blob of `size` bytes. The head is sent after the first byte is there and the permit has been looked at again.
///
/// # Errors
/// When the fill fails before its first byte, or the permit was taken away.
pub async fn blob(
    content: Content,
    named: &Named,
    wanted: Wanted,
    size: u64,
    mut guard: PermitGuard,
    check: Option<Blobs>,
) -> Result<Answer, ApiError> {
    let digest = guard.digest().clone();
    if guard.repository() != &named.repository {
        return Err(ApiError::Fault { message: "a permit of another repository".to_owned() });
    }
    let (status, parts, (name, value)) = match wanted {
        Wanted::Whole => (StatusCode::OK, Parts::one(0..size), (header::CONTENT_TYPE, BLOB_TYPE.to_owned())),
        Wanted::One(range) => {
            let value = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
            (StatusCode::PARTIAL_CONTENT, Parts::one(range), (header::CONTENT_RANGE, value))
        }
        Wanted::Several(ranges) => {
            let boundary = Boundary::random();
            let parts = Parts::several(&ranges, size, BLOB_TYPE, &boundary);
            (StatusCode::PARTIAL_CONTENT, parts, (header::CONTENT_TYPE, boundary.content_type()))
        }
    };
    let reading = Reading::new(content, parts, guard.again(), check).await?;
    guard.check().await?;
    let mut answer = Response::new(ServedBody::stream(reading));
    *answer.status_mut() = status;
    blob_headers(&mut answer, &digest, named);
    set(&mut answer, name, &value);
    Ok(answer)
}

/// What the bytes are is told by the manifest; no media type of upstream's is repeated.
const BLOB_TYPE: &str = "application/octet-stream";

/// What GET would say of a blob, without its bytes.
#[must_use]
pub fn blob_head(named: &Named, guard: &PermitGuard, size: u64) -> Answer {
    let mut answer = Response::new(ServedBody::length(size));
    blob_headers(&mut answer, guard.digest(), named);
    answer
}

/// The client may have this blob, and does.
#[must_use]
pub fn blob_held(named: &Named, guard: &PermitGuard) -> Answer {
    not_modified(guard.digest(), named)
}

fn not_modified(digest: &Digest, named: &Named) -> Answer {
    let mut answer = Response::new(ServedBody::whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    content_headers(&mut answer, digest, named);
    answer
}

fn blob_headers(answer: &mut Answer, digest: &Digest, named: &Named) {
    set(answer, header::CONTENT_TYPE, BLOB_TYPE);
    set(answer, header::ACCEPT_RANGES, "bytes");
    content_headers(answer, digest, named);
}

fn content_headers(answer: &mut Answer, digest: &Digest, named: &Named) {
    let etag = etag(digest);
    set(answer, DOCKER_CONTENT_DIGEST, etag.trim_matches('"'));
    set(answer, header::ETAG, &etag);
    common_headers(answer, Some(named));
}

/// The entity tag of content: its digest.
#[must_use]
pub fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// A JSON document of our own: a list of tags or of referrers.
#[must_use]
pub fn list(json: Vec<u8>, media_type: &str, named: &Named, told: &Told, extra: &[(HeaderName, String)]) -> Answer {
    let bytes = Bytes::from(json);
    let body = if told.head { ServedBody::length(bytes.len() as u64) } else { ServedBody::whole(bytes) };
    let mut answer = Response::new(body);
    set(&mut answer, header::CONTENT_TYPE, media_type);
    for (name, value) in extra {
        set(&mut answer, name.clone(), value);
    }
    common_headers(&mut answer, Some(named));
    warn(&mut answer, &told.warnings);
    answer
}

/// `/v2/`: yes, this is a registry.
#[must_use]
pub fn base(head: bool) -> Answer {
    let bytes = Bytes::from_static(b"{}");
    let body = if head { ServedBody::length(bytes.len() as u64) } else { ServedBody::whole(bytes) };
    let mut answer = Response::new(body);
    set(&mut answer, header::CONTENT_TYPE, "application/json");
    common_headers(&mut answer, None);
    answer
}

/// The error document.
#[must_use]
pub fn error(error: &ApiError, head: bool) -> Answer {
    let document = Bytes::from(error.document());
    let body = if head { ServedBody::length(document.len() as u64) } else { ServedBody::whole(document) };
    let mut answer = Response::new(body);
    *answer.status_mut() = error.status();
    set(&mut answer, header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = error.retry_after() {
        set(&mut answer, header::RETRY_AFTER, &seconds.to_string());
    }
    if let ApiError::Range { size } = error {
        set(&mut answer, header::CONTENT_RANGE, &format!("bytes */{size}"));
    }
    if let ApiError::Unsupported { .. } = error {
        set(&mut answer, header::ALLOW, "GET, HEAD");
    }
    common_headers(&mut answer, None);
    answer
}

/// The last answer of an HTTP/1.1 connection.
pub(crate) fn close(answer: &mut Answer) {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Text for the admin listener.
#[must_use]
pub fn admin(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(ServedBody::whole(Bytes::from(text)));
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, content_type);
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

fn common_headers(answer: &mut Answer, named: Option<&Named>) {
    let headers = answer.headers_mut();
    headers.insert(DOCKER_DISTRIBUTION_API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // No cache between us and the client may outlive a change of policy.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(ns) = named.and_then(|named| named.ns.as_ref()) {
        set(answer, HeaderName::from_static("oci-namespace"), ns.as_str());
    }
}

fn warn(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted: String = warning
            .chars()
            .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
            .collect();
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(header::WARNING, value);
        }
    }
}

fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    // All values are ours: digests, numbers, names that were parsed. One that is no header value is left out rather than sent broken.
    if let Ok(value) = HeaderValue::try_from(value) {
        answer.headers_mut().insert(name, value);
    }
}
