//! Sockets become connections, connections become calls.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use storage::Told;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::Place;
use super::answer::answer;
use super::builder::Options;
use super::calls::{Call, Calls};
use super::contents::Contents;
use super::fault::Faults;
use super::flushes::Flushes;
use super::tls::{Certificate, TestCa};
use super::token::Tokens;

/// What all places share; it outlives a stop.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) ca: TestCa,
    pub(super) contents: RwLock<Contents>,
    pub(super) calls: Calls,
    pub(super) faults: Faults,
    pub(super) tokens: Tokens,
    /// Changes when all connections are to break.
    pub(super) cut: Told<u64>,
    pub(super) connections: Connections,
    /// Bytes of all bodies so far.
    pub(super) sent: Arc<AtomicU64>,
    ports: OnceLock<BTreeMap<Place, u16>>,
}

/// Counts connections, in all and by place.
#[derive(Default)]
pub(super) struct Connections {
    total: AtomicU64,
    by_place: BTreeMap<Place, AtomicU64>,
}

impl Connections {
    pub(super) fn of(&self, place: Place) -> u64 {
        self.by_place.get(&place).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    /// Counts one more, and numbers it.
    fn accepted(&self, place: Place) -> u64 {
        if let Some(count) = self.by_place.get(&place) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        self.total.fetch_add(1, Ordering::SeqCst)
    }
}

impl Shared {
    pub(super) fn new(options: Options, ca: TestCa) -> Self {
        let by_place = Place::ALL.map(|place| (place, AtomicU64::new(0))).into();
        Self {
            options,
            ca,
            contents: RwLock::default(),
            calls: Calls::new(),
            faults: Faults::default(),
            tokens: Tokens::default(),
            cut: Told::new(0),
            connections: Connections { total: AtomicU64::new(0), by_place },
            sent: Arc::default(),
            ports: OnceLock::new(),
        }
    }

    pub(super) fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The range asked for, unless this registry knows none.
    pub(super) fn range<'a>(&self, call: &'a Call) -> Option<&'a str> {
        call.range().filter(|_| !self.options.ignore_ranges)
    }

    /// Whether tokens are handed out at this place.
    pub(super) fn tokens_at(&self, place: Place) -> bool {
        self.options.token_auth.as_ref().is_some_and(|auth| auth.realm() == place)
    }

    pub(super) fn port_of(&self, place: Place) -> u16 {
        self.ports.get().and_then(|ports| ports.get(&place)).copied().unwrap_or_default()
    }

    pub(super) fn host_port_of(&self, place: Place) -> String {
        let host = self.options.hosts.get(&place).map_or("127.0.0.1", String::as_str);
        format!("{host}:{}", self.port_of(place))
    }

    pub(super) fn url_of(&self, place: Place) -> String {
        let scheme = if self.tls_at(place) { "https" } else { "http" };
        format!("{scheme}://{}", self.host_port_of(place))
    }

    /// Where all places are that no socket listens at.
    pub(super) fn set_ports(&self, ports: BTreeMap<Place, u16>) {
        self.ports.get_or_init(|| ports);
    }

    fn tls_at(&self, place: Place) -> bool {
        self.options.https && !self.options.plain.contains(&place)
    }

    fn acceptor(&self, place: Place) -> io::Result<Option<TlsAcceptor>> {
        if !self.tls_at(place) {
            return Ok(None);
        }
        let certificate = self.options.certificates.get(&place).copied().unwrap_or(Certificate::Good);
        let alpn: &[&[u8]] = if self.options.http1_only { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        let config = self.ca.server_config(certificate, alpn).map_err(io::Error::other)?;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// The listeners while they listen.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

impl Running {
    /// Binds all places.
    pub(super) async fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let mut bound = Vec::new();
        for place in Place::ALL {
            let port = shared.options.ports.get(&place).copied().unwrap_or_default();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
            bound.push((place, listener, shared.acceptor(place)?));
        }
        let mut ports = BTreeMap::new();
        for (place, listener, _) in &bound {
            ports.insert(*place, listener.local_addr()?.port());
        }
        shared.set_ports(ports);
        let stop = watch::Sender::new(false);
        let listeners = bound
            .into_iter()
            .map(|(place, listener, acceptor)| {
                let shared = Arc::clone(shared);
                tokio::spawn(listen(shared, place, listener, acceptor, stop.subscribe()))
            })
            .collect();
        Ok(Self { stop, listeners })
    }

    /// When it returns, nothing listens and every connection is closed.
    pub(super) async fn stop(mut self, shared: &Shared) -> Closed {
        self.stop.send_replace(true);
        for listener in self.listeners.drain(..) {
            // a listener that panicked has ended as well
            let _ = listener.await;
        }
        // Another test's server may have been faster.
        Closed(shared.ports.get().into_iter().flatten().filter_map(|(_, port)| closed(*port).ok()).collect())
    }
}

/// Ports that refuse whoever connects, and that the system gives to nobody else who asks for any.
pub(super) struct Closed(#[expect(dead_code, reason = "it is there")] Vec<TcpSocket>);

/// Bound, and not listening.
fn closed(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // what was connected to it lingers
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}

impl Drop for Running {
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

async fn listen(
    shared: Arc<Shared>,
    place: Place,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    // dropped with this task, and then all of its connections end
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        if let Ok((socket, _)) = accepted {
            let number = shared.connections.accepted(place);
            let shared = Arc::clone(&shared);
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let epoch = shared.cut.get();
                tokio::select! {
                    () = connect(&shared, place, number, socket, acceptor) => {}
                    _ = shared.cut.until(|now| *now != epoch) => {}
                }
            });
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// What a connection in memory holds of what the other side has not taken yet, each way.
const BUFFER: usize = 64 * 1024;

/// The other end of a connection that came by no socket, and what serves it until that end is dropped or all connections are cut.
pub(super) fn line(shared: &Arc<Shared>, place: Place) -> (DuplexStream, impl Future<Output = ()> + Send + use<>) {
    let (near, far) = duplex(BUFFER);
    let (shared, number) = (Arc::clone(shared), shared.connections.accepted(place));
    let serving = async move {
        let epoch = shared.cut.get();
        tokio::select! {
            biased;
            _ = shared.cut.until(|now| *now != epoch) => {}
            () = serve(&shared, place, number, near) => {}
        }
    };
    (far, serving)
}

async fn connect(shared: &Arc<Shared>, place: Place, number: u64, socket: TcpStream, acceptor: Option<TlsAcceptor>) {
    match acceptor {
        None => serve(shared, place, number, socket).await,
        Some(acceptor) => {
            // a client that does not trust us goes away: what some tests want
            if let Ok(stream) = acceptor.accept(socket).await {
                serve(shared, place, number, stream).await;
            }
        }
    }
}

async fn serve<S>(shared: &Arc<Shared>, place: Place, number: u64, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, flushed) = Flushes::count(stream);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let shared = Arc::clone(shared);
        let flushed = flushed.clone();
        async move {
            let (request, _) = request.into_parts();
            answer(&shared, place, number, flushed, request).await
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    if shared.options.http1_only {
        server = server.http1_only();
    }
    // it ends with an error when the client goes away or a fault breaks it; both are wanted
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
