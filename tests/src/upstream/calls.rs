//! What was asked, by whom, and what the answer began with.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::header::{AUTHORIZATION, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use tokio::sync::watch;

use super::Place;
use super::waiting::{NeverReached, until};

/// One request that arrived.
#[derive(Debug, Clone)]
pub struct Call {
    /// Counts all calls of this registry, from 0.
    pub number: u64,
    /// Where it arrived.
    pub place: Place,
    /// The connection it came by; equal for calls that shared one.
    pub connection: u64,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// GET, HEAD, …
    pub method: Method,
    /// The path as sent, undecoded.
    pub path: String,
    /// The query as sent, without the question mark; empty if there is none.
    pub query: String,
    /// All headers as sent.
    pub headers: HeaderMap,
    /// What it was answered with, once it was.
    pub status: Option<StatusCode>,
}

/// What tells calls whose path ends so: those for a digest, mostly.
pub fn ends_with<T: Display + ?Sized>(end: &T) -> impl Fn(&Call) -> bool + Clone + Send + Sync + 'static + use<T> {
    let end = end.to_string();
    move |call| call.path.ends_with(&end)
}

impl Call {
    pub(super) fn new(place: Place, connection: u64, request: Parts) -> Self {
        Self {
            number: 0,
            place,
            connection,
            version: request.version,
            method: request.method,
            path: request.uri.path().to_owned(),
            query: request.uri.query().unwrap_or_default().to_owned(),
            headers: request.headers,
            status: None,
        }
    }

    /// A header's value, where it is sent and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The Authorization header.
    pub fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())
    }

    /// Whether it carries an Authorization header, of whatever kind.
    pub fn has_authorization(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }

    /// The Range header.
    pub fn range(&self) -> Option<&str> {
        self.header(RANGE.as_str())
    }

    /// Whether `text` occurs anywhere in it: path, query or a header.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        self.path.contains(text)
            || self.query.contains(text)
            || self.headers.values().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(text))
    }

    /// GET.
    #[must_use]
    pub fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    /// HEAD.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Asks the registry for a manifest.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        self.is_api("/manifests/")
    }

    /// Asks the registry for a blob (the storage behind it: `place == Place::Storage`).
    #[must_use]
    pub fn is_blob(&self) -> bool {
        self.is_api("/blobs/")
    }

    /// Asks the registry for the referrers of a digest.
    #[must_use]
    pub fn is_referrers(&self) -> bool {
        self.is_api("/referrers/")
    }

    /// Asks the registry for its tags.
    #[must_use]
    pub fn is_tags(&self) -> bool {
        self.is_api("/tags/list")
    }

    /// Asks the blob storage.
    #[must_use]
    pub fn is_storage(&self) -> bool {
        self.place == Place::Storage
    }

    /// Asks a token service, wherever it is.
    #[must_use]
    pub fn is_token(&self) -> bool {
        self.path == "/token"
    }

    fn is_api(&self, part: &str) -> bool {
        self.place == Place::Registry && self.path.starts_with("/v2/") && self.path.contains(part)
    }

    /// `GET Registry /v2/…`, for messages. Never the query or a header: these may be secrets.
    pub(super) fn line(&self) -> String {
        format!("{} {:?} {}", self.method, self.place, self.path)
    }
}

/// The log of all places.
pub(super) struct Calls {
    list: Mutex<Vec<Call>>,
    total: watch::Sender<u64>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self { list: Mutex::default(), total: watch::Sender::new(0) }
    }

    /// Writes a call down and says its number.
    pub(super) fn record(&self, call: &Call) -> u64 {
        let mut list = self.list();
        let number = *self.total.borrow();
        list.push(Call { number, ..call.clone() });
        // while the list is locked, so that no two calls get one number
        self.total.send_modify(|total| *total += 1);
        number
    }

    pub(super) fn answered(&self, number: u64, status: StatusCode) {
        if let Some(call) = self.list().iter_mut().find(|call| call.number == number) {
            call.status = Some(status);
        }
    }

    pub(super) fn all(&self) -> Vec<Call> {
        self.list().clone()
    }

    pub(super) fn clear(&self) {
        self.list().clear();
    }

    pub(super) async fn reached(&self, wanted: usize, such: impl Fn(&Call) -> bool) -> Result<(), NeverReached> {
        until(
            self.total.subscribe(),
            || self.list().iter().filter(|call| such(call)).count() >= wanted,
            || NeverReached { wanted, seen: self.list().iter().map(Call::line).collect() },
        )
        .await
    }

    fn list(&self) -> MutexGuard<'_, Vec<Call>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
