//! A plain HTTP client for tests: it follows nothing, retries nothing, decodes nothing, and tells a broken body from a whole one.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use oci::{Algorithm, Digest, Hasher};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Clones share their connections; calls may run at the same time.
#[derive(Clone)]
pub struct Client {
    pool: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// As sent.
    pub status: StatusCode,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// As sent.
    pub headers: HeaderMap,
    /// Everything up to a proper end, or what came until the body broke.
    pub body: Result<Bytes, BrokenBody>,
}

/// A body that ended short of its announced length, or without its end mark, or with its stream reset.
#[derive(Debug)]
pub struct BrokenBody {
    /// What came before.
    pub received: Bytes,
    /// The client's own words for it.
    pub why: String,
}

/// An answer whose head has come and whose body has not been read.
pub struct Open {
    /// As sent.
    pub status: StatusCode,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// As sent.
    pub headers: HeaderMap,
    body: Incoming,
}

/// What a body was, where it is too long to keep.
#[derive(Debug, PartialEq, Eq)]
pub struct Drained {
    /// How many bytes came.
    pub length: u64,
    /// The SHA-256 of them.
    pub digest: Digest,
    /// Whether the body ended properly.
    pub complete: bool,
}

/// No head of an answer came: no connection, no trust, no HTTP, or a URL or header that cannot be sent.
#[derive(Debug)]
pub struct NoAnswer(String);

impl NoAnswer {
    fn new(error: &dyn Error) -> Self {
        Self(chain(error))
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer: {}", self.0)
    }
}

impl Error for NoAnswer {}

impl fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let received = self.received.len();
        write!(f, "body broke after {received} bytes: {}", self.why)
    }
}

impl Error for BrokenBody {}

impl Client {
    /// For plain HTTP; over TLS it trusts nobody.
    #[must_use]
    pub fn plain() -> Self {
        Self::with_roots(RootCertStore::empty(), true)
    }

    /// For TLS too, HTTP/2 where the server speaks it; trusts these CAs alone.
    ///
    /// # Errors
    ///
    /// When the PEM text is none, or holds no certificate.
    pub fn trusting(ca_pem: &str) -> Result<Self, NoAnswer> {
        Ok(Self::with_roots(roots(ca_pem)?, true))
    }

    /// The same without HTTP/2.
    ///
    /// # Errors
    ///
    /// When the PEM text is none, or holds no certificate.
    pub fn trusting_http1(ca_pem: &str) -> Result<Self, NoAnswer> {
        Ok(Self::with_roots(roots(ca_pem)?, false))
    }

    fn with_roots(roots: RootCertStore, http2: bool) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs supports the protocol versions that rustls prefers")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
        let connector = if http2 {
            connector.enable_all_versions().wrap_connector(tcp)
        } else {
            connector.enable_http1().wrap_connector(tcp)
        };
        let pool = legacy::Client::builder(TokioExecutor::new())
            // a request must not be sent twice behind a test's back
            .retry_canceled_requests(false)
            .build(connector);
        Self { pool }
    }

    /// GET, to the end of the body.
    ///
    /// # Errors
    ///
    /// When not even a head comes.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, NoAnswer> {
        Ok(self.open(Method::GET, url, headers).await?.whole().await)
    }

    /// HEAD.
    ///
    /// # Errors
    ///
    /// When no head comes.
    pub async fn head(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, NoAnswer> {
        Ok(self.open(Method::HEAD, url, headers).await?.whole().await)
    }

    /// GET with `Range: bytes=<range>`.
    ///
    /// # Errors
    ///
    /// When not even a head comes.
    pub async fn get_range(&self, url: &str, range: &str) -> Result<Answer, NoAnswer> {
        self.get(url, &[("range", &format!("bytes={range}"))]).await
    }

    /// Any method, without a request body; returns when the head has come.
    ///
    /// # Errors
    ///
    /// When no head comes.
    pub async fn open(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Open, NoAnswer> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = url.parse::<Uri>().map_err(|error| NoAnswer::new(&error))?;
        for (name, value) in headers {
            let name: HeaderName = name.parse().map_err(|error| NoAnswer::new(&error))?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| NoAnswer::new(&error))?;
            // several lines of one name are sent as several lines, as docker does with Accept
            request.headers_mut().append(name, value);
        }
        let answer = self.pool.request(request).await.map_err(|error| NoAnswer::new(&error))?;
        let (head, body) = answer.into_parts();
        Ok(Open { status: head.status, version: head.version, headers: head.headers, body })
    }
}

impl Answer {
    /// A header's value, where it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the body broke.
    pub fn is_broken(&self) -> bool {
        self.body.is_err()
    }

    /// What was received, whole or not.
    pub fn received(&self) -> &Bytes {
        match &self.body {
            Ok(body) => body,
            Err(broken) => &broken.received,
        }
    }

    /// What was received as text, for messages and error documents.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.received()).into_owned()
    }
}

impl Open {
    /// A header's value, where it is there and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes of the body; `None` at its proper end.
    ///
    /// # Errors
    ///
    /// When the body breaks; `received` then holds nothing.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BrokenBody> {
        while let Some(frame) = self.body.frame().await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(data)) => return Ok(Some(data)),
                // trailers: nobody sends them
                Ok(Err(_)) => {}
                Err(error) => {
                    return Err(BrokenBody { received: Bytes::new(), why: chain(&error) });
                }
            }
        }
        Ok(None)
    }

    /// Reads until at least so many bytes have come, or the end; may return more.
    ///
    /// # Errors
    ///
    /// When the body breaks before that.
    pub async fn at_least(&mut self, bytes: usize) -> Result<Bytes, BrokenBody> {
        let mut received = BytesMut::new();
        while received.len() < bytes {
            match self.chunk().await {
                Ok(Some(data)) => received.extend_from_slice(&data),
                Ok(None) => break,
                Err(BrokenBody { why, .. }) => {
                    let received = received.freeze();
                    return Err(BrokenBody { received, why });
                }
            }
        }
        Ok(received.freeze())
    }

    /// Reads the rest and keeps it.
    pub async fn whole(mut self) -> Answer {
        let body = self.at_least(usize::MAX).await;
        Answer { status: self.status, version: self.version, headers: self.headers, body }
    }

    /// Reads the rest and keeps only its length and digest.
    pub async fn drain(mut self) -> Drained {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut length = 0;
        let complete = loop {
            match self.chunk().await {
                Ok(Some(data)) => {
                    length += data.len() as u64;
                    hasher.update(&data);
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        Drained { length, digest: hasher.finish(), complete }
    }
}

fn roots(ca_pem: &str) -> Result<RootCertStore, NoAnswer> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| NoAnswer::new(&error))?;
        roots.add(certificate).map_err(|error| NoAnswer::new(&error))?;
    }
    if roots.is_empty() {
        return Err(NoAnswer("no certificate in the PEM text".to_owned()));
    }
    Ok(roots)
}

/// An error and its causes in one line: hyper says the interesting part last.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
