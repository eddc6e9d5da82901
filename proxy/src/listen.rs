//! Sockets become connections, connections become requests: under limits, with TLS where it is configured, until told to drain.

pub(crate) mod activity;
pub(crate) mod client;
mod pace;
mod patience;
mod seats;
pub(crate) mod stream;
mod tls;
pub(crate) mod zero_copy;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use config::Limits;
use http::{Method, Request, Version};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use metrics::{counter, gauge};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use tower::{BoxError, ServiceExt as _};

use crate::{
    app::StartError,
    error::{ApiError, Crowd},
    respond::{self, Answer},
    seldom::Seldom,
};
use activity::{Activity, Busy};
use client::{Client, Clients};
use pace::{Paced, Turn};
use patience::Patient;
use seats::{Room, Seats, Unseated};
use stream::Streams;
pub use tls::TlsFiles;
use zero_copy::{Link, ZeroCopy};

/// An open socket.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<TlsFiles>>,
    limits: Arc<Limits>,
}

/// A request, and who sent it.
pub struct Arrived {
    pub(crate) request: Request<Incoming>,
    pub(crate) client: Arc<Client>,
    /// For the body of its answer to keep.
    pub(crate) busy: Busy,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<TlsFiles>>,
        limits: Arc<Limits>,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: address.to_string(), source };
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        Ok(Self { tcp, tls, limits })
    }

    /// Where it listens; tells the port where the system chose one.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> Result<SocketAddr, StartError> {
        self.tcp.local_addr().map_err(|source| StartError::Listen { address: "?".to_owned(), source })
    }

    /// Accepts and serves until `drain` turns true, then lets requests under way end within `limits.drain_timeout`.
    pub async fn run<S>(self, service: S, mut drain: watch::Receiver<bool>)
    where
        S: tower::Service<Arrived, Response = Answer, Error = BoxError> + Clone + Send + 'static,
        S::Future: Send,
    {
        let seats = Arc::new(Seats::new(&self.limits));
        let builder = Arc::new(builder(&self.limits));
        // Closed when the last connection has dropped its end.
        let open = watch::Sender::new(());
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.tcp, &seats) => accepted,
                _ = drain.wait_for(|drain| *drain) => break,
            };
            let Some((stream, client, room)) = accepted else { continue };
            let (tls, limits, seats) = (self.tls.clone(), Arc::clone(&self.limits), Arc::clone(&seats));
            let (service, builder) = (service.clone(), Arc::clone(&builder));
            let (open, mut drain) = (open.subscribe(), drain.clone());
            tokio::spawn(async move {
                let counted = Counted::new();
                let seated = tokio::select! {
                    seated = seats.seat(client, room) => Some(seated),
                    // Nobody has heard what it wants.
                    _ = drain.wait_for(|drain| *drain) => None,
                };
                match seated {
                    Some(Ok(seated)) => {
                        let client = Arc::clone(&seated.client);
                        Talk { service, builder, client, drain, limits }.by(stream, tls).await;
                    }
                    Some(Err(unseated)) => {
                        refused(&unseated);
                        if let Unseated { client, told: Some(refusal) } = &unseated {
                            let (answered, drain) = watch::channel(false);
                            let service = refusing(refusal.crowd, refusal.max, answered);
                            let limit = limits.request_header_timeout;
                            let talk = Talk { service, builder, client: Arc::clone(client), drain, limits };
                            let _ = tokio::time::timeout(limit, Box::pin(talk.by(stream, tls))).await;
                        }
                    }
                    None => {}
                }
                drop(counted);
                drop(open);
            });
        }
        drop(self.tcp);
        if tokio::time::timeout(self.limits.drain_timeout, open.closed()).await.is_err() {
            tracing::warn!("requests under way were cut off after limits.drain_timeout");
        }
    }
}

/// A connection that is open, until this is dropped, also by a panic.
struct Counted;

impl Counted {
    fn new() -> Self {
        gauge!("pratique_connections").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gauge!("pratique_connections").decrement(1);
    }
}

/// The next connection, and the room for it. Where nobody can even wait, those behind it are left in the kernel's queue.
async fn accept(tcp: &TcpListener, seats: &Seats) -> Option<(TcpStream, Arc<Client>, Room)> {
    static FAILED: Seldom = Seldom::new();
    match tcp.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            // Not before: a seat that nobody sits on yet would be one too few.
            let room = seats.room().await;
            Some((stream, seats.client(peer.ip()), room))
        }
        Err(error) => {
            // Out of file descriptors, most likely: a pause lets some be given back.
            counter!("pratique_accept_errors_total").increment(1);
            if let Some(times) = FAILED.times() {
                tracing::warn!(times, "cannot accept a connection: {error}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// Tells of a connection that got no seat.
fn refused(Unseated { client, told }: &Unseated) {
    static REFUSED: Seldom = Seldom::new();
    let why = told.as_ref().map_or(Crowd::Waiting, |refusal| refusal.crowd);
    counter!("pratique_connections_refused_total", "why" => why.label()).increment(1);
    if let Some(times) = REFUSED.times() {
        let closed =
            || "closed, as limits.connections_waiting_max wait already, or half of them of this client".to_owned();
        let why = told.as_ref().map_or_else(closed, |refusal| format!("{} is {}", refusal.crowd, refusal.max));
        tracing::warn!(client = %client.address, times, "a connection was refused: {why}");
    }
}

/// What a connection without a seat is answered, whatever it asks for. After that there is nothing more to be said.
fn refusing(
    crowd: Crowd,
    max: usize,
    answered: watch::Sender<bool>,
) -> impl tower::Service<Arrived, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let answered = Arc::new(answered);
    tower::service_fn(move |Arrived { request, busy, .. }: Arrived| {
        let mut answer = respond::error(&ApiError::Overloaded { crowd, max }, request.method() == Method::HEAD);
        if request.version() != Version::HTTP_2 {
            respond::close(&mut answer);
        }
        answer.body_mut().keep(busy);
        answered.send_replace(true);
        std::future::ready(Ok(answer))
    })
}

/// How much of the bodies of requests an HTTP/2 client may send before anybody has read of it, in bytes: what the protocol begins with.
const WINDOW_BYTES: u32 = 65_535;
/// How much of one HTTP/2 stream's body waits in h2 for the client, in bytes.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;
/// Streams that a client may have opened and reset before we have looked at them; at more its connection is closed (rapid reset).
const RESETS_PENDING_MAX: usize = 20;
/// Streams of one connection that we may have to reset for the client's errors; at more it is closed.
const RESETS_FOR_ERRORS_MAX: usize = 256;

fn builder(limits: &Limits) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams { patience: limits.client_write_timeout });
    builder
        .http1()
        .timer(TokioTimer::new())
        // Patient looks after that: hyper counts from the answer before, so that an idle connection would end with it.
        .header_read_timeout(None)
        .max_buf_size(usize::try_from(limits.request_header_bytes_max).unwrap_or(usize::MAX).max(8192))
        .max_headers(limits.request_headers_max)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        // Bodies of requests are read by nobody.
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(STREAM_BUFFER_BYTES)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_FOR_ERRORS_MAX)
        // No pings: one would wait behind all that is on its way to the client, and a slow reader's answer to it would come too late. Who is
        // gone takes nothing, or asks nothing.
        .max_header_list_size(u32::try_from(limits.request_header_bytes_max).unwrap_or(u32::MAX));
    builder
}

/// Serves one connection of `client` that came by no socket, to its end: what [`Listener::run`] does with each of its own, without TLS and
/// without sendfile.
pub async fn attend<I, S>(stream: I, client: IpAddr, service: S, limits: Arc<Limits>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: tower::Service<Arrived, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let client = Arc::new(Clients::new(&limits)).known(client);
    let builder = Arc::new(builder(&limits));
    // Held to the end: one that is gone tells its connection to drain.
    let (open, drain) = watch::channel(false);
    Talk { service, builder, client, drain, limits }.over(stream).await;
    drop(open);
}

/// What a connection is served with.
struct Talk<S> {
    service: S,
    builder: Arc<auto::Builder<Streams>>,
    client: Arc<Client>,
    drain: watch::Receiver<bool>,
    limits: Arc<Limits>,
}

impl<S> Talk<S>
where
    S: tower::Service<Arrived, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    /// Serves over a socket, with TLS where there is any.
    async fn by(self, stream: TcpStream, tls: Option<Arc<TlsFiles>>) {
        let Some(tls) = tls else {
            let link = Arc::new(Link::default());
            let io = ZeroCopy::new(stream, Arc::clone(&link));
            return link.scope(self.over(io)).await;
        };
        let handshake = tls.acceptor().accept(stream);
        match tokio::time::timeout(self.limits.request_header_timeout, handshake).await {
            Ok(Ok(stream)) => self.over(stream).await,
            Ok(Err(error)) => tracing::debug!("tls handshake failed: {error}"),
            Err(_) => tracing::debug!("tls handshake timed out"),
        }
    }

    /// Serves until the client leaves, has had nothing to ask for too long, or we drain.
    async fn over<I>(self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { service, builder, client, mut drain, limits } = self;
        let (turn, activity) = (Turn::default(), Arc::new(Activity::new()));
        let paced = Paced::new(stream, turn.clone());
        let patient =
            Patient::new(paced, limits.request_header_timeout, limits.client_write_timeout, Arc::clone(&activity));
        let active = Arc::clone(&activity);
        let service = service.map_request(move |request| {
            let (client, busy) = (Arc::clone(&client), active.begin());
            Arrived { request, client, busy }
        });
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection(TokioIo::new(patient), service).into_owned();
        let talk = async {
            let mut connection = std::pin::pin!(connection);
            let is_idle = tokio::select! {
                biased;
                ended = connection.as_mut() => return ended,
                _ = drain.wait_for(|drain| *drain) => false,
                () = activity.ceases(limits.client_idle_timeout, Instant::now()) => true,
            };
            connection.as_mut().graceful_shutdown();
            if !is_idle {
                return connection.await;
            }
            // Over HTTP/2 the client is told, and may have asked for something at this very moment; who does not answer is left.
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = activity.ceases(limits.request_header_timeout, Instant::now()) => Ok(()),
            }
        };
        if let Err(error) = turn.scope(talk).await {
            // Clients that leave are everyday; what the body broke on was told where it broke.
            tracing::debug!("connection ended: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
