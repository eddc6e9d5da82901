//! The requests we send.

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::Empty;
use url::Url;

use super::error::{Flaw, Kind, UpstreamError};

pub(super) const USER_AGENT: &str = concat!("pratique/", env!("CARGO_PKG_VERSION"));

/// A GET without credentials that asks for bytes as they are.
pub(super) fn get(what: Kind, url: &Url, accept: &'static str) -> Result<Request<Empty<Bytes>>, UpstreamError> {
    Request::get(url.as_str())
        .header(header::ACCEPT, HeaderValue::from_static(accept))
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(header::USER_AGENT, HeaderValue::from_static(USER_AGENT))
        .body(Empty::new())
        // A redirect's target can parse as a URL and still be none for HTTP.
        .map_err(|_| UpstreamError::Malformed { what, why: Flaw::Header("location") })
}
