//! A server that answers as a closure says and remembers what it was asked.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready as ready_or_pending},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Interval, interval},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// One request as it came.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) version: Version,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn is_token(&self) -> bool {
        self.path.starts_with("/token")
    }

    /// The decoded query.
    pub(super) fn query(&self) -> Vec<(String, String)> {
        let url = url::Url::parse(&format!("http://host{}", self.path)).unwrap();
        url.query_pairs().into_owned().collect()
    }
}

/// A listener on loopback; it ends when dropped.
pub(super) struct Server {
    port: u16,
    ca_pem: Option<String>,
    seen: Arc<Mutex<Vec<Seen>>>,
    _connections: JoinSet<()>,
}

/// What the certificate of a TLS server looks like.
pub(super) struct Certificate {
    pub(super) name: &'static str,
    /// The year in which it ends.
    pub(super) until: i32,
}

pub(super) const GOOD: Certificate = Certificate { name: "127.0.0.1", until: 4000 };

type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;

impl Server {
    pub(super) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_async(move |seen| Box::pin(ready(answer(&seen)))).await
    }

    pub(super) async fn start_async(answer: impl Fn(Seen) -> Answering + Send + Sync + 'static) -> Self {
        Self::listen(None, answer).await
    }

    pub(super) async fn start_tls(
        certificate: Certificate,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(&certificate), move |seen| Box::pin(ready(answer(&seen)))).await
    }

    /// A server whose connections are handled byte by byte.
    pub(super) async fn start_raw<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut handlers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                handlers.spawn(handle(stream));
            }
        });
        Self { port, ca_pem: None, seen: Arc::default(), _connections: connections }
    }

    /// The same behind TLS.
    pub(super) async fn start_tls_raw<F>(
        certificate: Certificate,
        handle: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (acceptor, ca_pem) = acceptor(&certificate);
        let handle = Arc::new(handle);
        let server = Self::start_raw(move |stream| {
            let (acceptor, handle) = (acceptor.clone(), Arc::clone(&handle));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    handle(stream).await;
                }
            }
        })
        .await;
        Self { ca_pem: Some(ca_pem), ..server }
    }

    async fn listen(
        certificate: Option<&Certificate>,
        answer: impl Fn(Seen) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let (acceptor, ca_pem) = match certificate.map(acceptor) {
            None => (None, None),
            Some((acceptor, ca_pem)) => (Some(acceptor), Some(ca_pem)),
        };
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = Arc::clone(&seen);
        let answer = Arc::new(answer);
        let server = Self::start_raw(move |stream| {
            let (log, answer, acceptor) = (Arc::clone(&log), Arc::clone(&answer), acceptor.clone());
            async move {
                match acceptor {
                    None => serve(stream, &log, &*answer).await,
                    Some(acceptor) => {
                        // A client that does not like the certificate goes away here.
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, &log, &*answer).await;
                        }
                    }
                }
            }
        })
        .await;
        Self { ca_pem, seen, ..server }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is_tls(&self) -> bool {
        self.ca_pem.is_some()
    }

    pub(super) fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Where a request to `path` goes.
    pub(super) fn url(&self, path: &str) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn count(&self, is_meant: impl Fn(&Seen) -> bool) -> usize {
        self.seen().into_iter().filter(|seen| is_meant(seen)).count()
    }
}

async fn serve<S>(stream: S, log: &Mutex<Vec<Seen>>, answer: &(dyn Fn(Seen) -> Answering + Send + Sync))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Seen {
            method: request.method().clone(),
            path: request.uri().path_and_query().unwrap().to_string(),
            headers: request.headers().clone(),
            version: request.version(),
        };
        log.lock().unwrap().push(seen.clone());
        let answering = answer(seen);
        async move { Ok::<_, Infallible>(answering.await.0) }
    });
    // Clients that leave in the middle are part of the tests.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

fn acceptor(certificate: &Certificate) -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut leaf = CertificateParams::new([certificate.name.to_owned()]).unwrap();
    leaf.not_before = date_time_ymd(2000, 1, 1);
    leaf.not_after = date_time_ymd(certificate.until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

/// An answer in the making.
pub(super) struct Reply(Response<Script>);

/// What a body does next.
pub(super) enum Step {
    Bytes(Bytes),
    /// Nothing, for ever.
    Stall,
    /// The connection ends.
    Break,
    /// A byte every ten milliseconds, for ever.
    Trickle(Interval),
    /// Bytes without end.
    Flood,
}

impl Step {
    pub(super) fn trickle() -> Self {
        Self::Trickle(interval(Duration::from_millis(10)))
    }
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        let mut response = Response::new(Script::default());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Self(response)
    }

    /// 200 with a body.
    pub(super) fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.0.body_mut().length = Some(body.len() as u64);
        self.0.body_mut().steps.push_back(Step::Bytes(body));
        self
    }

    /// What the body does after what it did so far; it has no length.
    pub(super) fn then(mut self, step: Step) -> Self {
        self.0.body_mut().length = None;
        self.0.body_mut().steps.push_back(step);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.0.headers_mut().append(name, value.as_ref().parse().unwrap());
        self
    }

    pub(super) fn redirect(to: impl AsRef<str>) -> Self {
        Self::status(307).header("location", to)
    }

    /// 401 with a Bearer challenge for this realm.
    pub(super) fn bearer(realm: impl AsRef<str>) -> Self {
        let challenge = format!(
            r#"Bearer realm="{}",service="registry",scope="repository:other/secret:pull,push""#,
            realm.as_ref()
        );
        Self::status(401).header("www-authenticate", challenge).body("who are you?")
    }

    pub(super) fn token(token: &str) -> Self {
        Self::ok(format!(r#"{{"token":"{token}"}}"#))
    }
}

#[derive(Default)]
pub(super) struct Script {
    steps: VecDeque<Step>,
    length: Option<u64>,
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match self.steps.front_mut() {
            None => Poll::Ready(None),
            Some(Step::Stall) => Poll::Pending,
            Some(Step::Break) => Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into()))),
            Some(Step::Flood) => frame(Bytes::from_static(&[b'x'; 4096])),
            Some(Step::Trickle(interval)) => {
                ready_or_pending!(interval.poll_tick(context));
                frame(Bytes::from_static(b"x"))
            }
            Some(Step::Bytes(bytes)) => {
                let bytes = std::mem::take(bytes);
                self.steps.pop_front();
                frame(bytes)
            }
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}

/// Reads the head of a request; false where the client is gone.
pub(super) async fn read_head(stream: &mut TcpStream) -> bool {
    head(stream).await.is_some()
}

/// The head of a request; `None` where the client is gone.
pub(super) async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

pub(super) async fn write(stream: &mut TcpStream, text: &str) {
    // A client that has seen enough closes first.
    let _ = stream.write_all(text.as_bytes()).await;
}
