//! An answer before it is sent: faults still change it.

use std::sync::{Arc, atomic::AtomicU64};

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use oci::Digest;
use serde_json::json;
use tokio::sync::watch;

use super::body::{Body, Plan};
use super::calls::Call;
use super::fault::{Fault, Met};
use super::gzip;
use super::range::{Ranged, parse};
use crate::soak::Random;

/// Status, headers and what the body will do.
pub(super) struct Draft {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    plan: Plan,
    /// More is announced than there is.
    overstated: bool,
}

impl Draft {
    /// An answer with all these bytes.
    pub(super) fn new(status: StatusCode, media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let draft = Self { status, headers: HeaderMap::new(), plan: Plan::default(), overstated: false };
        draft.with("content-type", media_type).holding(bytes)
    }

    /// An OCI error document.
    pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Self {
        let document = json!({"errors": [{"code": code, "message": message, "detail": null}]});
        Self::new(status, "application/json", document.to_string())
    }

    /// A 307.
    pub(super) fn redirect(location: &str) -> Self {
        Self::new(StatusCode::TEMPORARY_REDIRECT, "text/plain", Bytes::new()).with(LOCATION.as_str(), location)
    }

    /// A 401.
    pub(super) fn challenge(challenge: &str) -> Self {
        Self::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
            .with(WWW_AUTHENTICATE.as_str(), challenge)
    }

    /// Content of which a range can be asked.
    pub(super) fn ranged(bytes: Bytes, range: Option<&str>) -> Self {
        let length = bytes.len();
        let draft = match parse(range, length) {
            Ranged::Whole => Self::new(StatusCode::OK, "application/octet-stream", bytes),
            Ranged::Part(part) => {
                let says = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                let start = part.start as u64;
                let mut draft = Self::new(StatusCode::PARTIAL_CONTENT, "application/octet-stream", bytes.slice(part))
                    .with(CONTENT_RANGE.as_str(), &says);
                draft.plan.start = start;
                draft
            }
            Ranged::Unsatisfiable => Self::error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "no such range")
                .with(CONTENT_RANGE.as_str(), &format!("bytes */{length}")),
        };
        draft.with(ACCEPT_RANGES.as_str(), "bytes")
    }

    /// The same with a header more. Text that no header can carry is a mistake of the test: the header is left out, and seen missing.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The same with the digest header.
    pub(super) fn digest(self, digest: &Digest) -> Self {
        self.with("docker-content-digest", &digest.to_string())
    }

    /// What is answered instead of the truth, if this fault is of that kind.
    pub(super) fn instead(fault: &Fault) -> Option<Self> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds change an answer: see `spoil`")]
        match fault {
            Fault::Status { code, headers } => {
                let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let draft = Self::error(status, "UNKNOWN", "something went wrong");
                Some(headers.iter().fold(draft, |draft, (name, value)| draft.with(name, value)))
            }
            Fault::Redirect(location) => Some(Self::redirect(location)),
            Fault::Challenge(challenge) => Some(Self::challenge(challenge)),
            Fault::Instead { media_type, bytes } => {
                let digest = Digest::sha256(bytes);
                Some(Self::new(StatusCode::OK, media_type, bytes.clone()).digest(&digest))
            }
            _ => None,
        }
    }

    /// Applies one fault.
    pub(super) fn spoil(mut self, met: Met) -> Self {
        let length = self.plan.bytes.len() as u64;
        match met.fault {
            Fault::Corrupt(at) => {
                // the range may end before the content does: then `at` is simply not in it
                let last = (self.plan.start + length).saturating_sub(1);
                let whole = self.status != StatusCode::PARTIAL_CONTENT;
                self.plan.flip = Some(if whole { at.min(last) } else { at });
            }
            Fault::Truncate(at) => self.plan.cut = Some(at.min(length.saturating_sub(1))),
            Fault::Breaks { seed, most } => {
                let mut chance = Random::new(seed ^ (met.number as u64) << 32);
                self.plan.cut = Some(chance.below(most + 1)).filter(|at| *at < length);
            }
            Fault::Stall(at) => self.plan.stalls.push((at.min(length), met.released)),
            Fault::Trickle { bytes, pause } => self.plan.trickle = Some((bytes.max(1), pause)),
            Fault::Length(announced) => {
                self.headers.insert(CONTENT_LENGTH, announced.into());
                self.overstated = announced > length;
            }
            Fault::Endless => {
                self.plan.endless = true;
                self.headers.remove(CONTENT_LENGTH);
            }
            Fault::Header { name, value: Some(value) } => return self.with(&name, &value),
            Fault::Header { name, value: None } => {
                self.headers.remove(name);
            }
            Fault::Gzip => {
                let packed = gzip::stored(&self.plan.bytes);
                return self.holding(packed.into()).with(CONTENT_ENCODING.as_str(), "gzip");
            }
            // these came before the answer, or made it
            Fault::Status { .. }
            | Fault::Redirect(_)
            | Fault::Challenge(_)
            | Fault::Instead { .. }
            | Fault::Late(_)
            | Fault::Hang
            | Fault::Disconnect
            | Fault::IgnoreRange => {}
        }
        self
    }

    /// What hyper sends.
    pub(super) fn into_response(
        mut self,
        call: &Call,
        flushed: watch::Receiver<u64>,
        sent: Arc<AtomicU64>,
    ) -> Response<Body> {
        if self.overstated && call.version != Version::HTTP_2 {
            // all that is left to hyper is to close; it must not do so before the true bytes went out
            let length = self.plan.bytes.len() as u64;
            self.plan.cut = Some(self.plan.cut.unwrap_or(length));
        }
        let head = call.is_head();
        let mut response = Response::new(Body::new(self.plan, flushed, sent, head));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    fn holding(mut self, bytes: Bytes) -> Self {
        self.headers.insert(CONTENT_LENGTH, (bytes.len() as u64).into());
        self.plan.bytes = bytes;
        self
    }
}
