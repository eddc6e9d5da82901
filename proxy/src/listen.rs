//! Sockets become connections, connections become requests: under limits, with TLS where it is configured, until told to drain.

mod pace;
mod patience;
pub(crate) mod stream;
mod tls;
pub(crate) mod zero_copy;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use config::Limits;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use metrics::{counter, gauge};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use tower::BoxError;

use crate::{app::StartError, respond::Answer};
use pace::{Paced, Turn};
use patience::Patient;
use stream::Streams;
pub use tls::TlsFiles;
use zero_copy::{Link, ZeroCopy};

/// An open socket.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<TlsFiles>>,
    limits: Arc<Limits>,
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
        S: tower::Service<Request<Incoming>, Response = Answer, Error = BoxError> + Clone + Send + 'static,
        S::Future: Send,
    {
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(self.limits.connections_max));
        let builder = Arc::new(builder(&self.limits));
        loop {
            // Above the limit connections wait in the kernel's queue instead of being accepted and starved.
            let accepted = tokio::select! {
                accepted = accept(&self.tcp, &slots) => accepted,
                _ = drain.wait_for(|drain| *drain) => break,
            };
            let Some((stream, slot)) = accepted else { continue };
            let (tls, limits) = (self.tls.clone(), Arc::clone(&self.limits));
            let (service, builder, watcher) = (service.clone(), Arc::clone(&builder), graceful.watcher());
            tokio::spawn(async move {
                gauge!("pratique_connections").increment(1);
                match tls {
                    None => {
                        let link = Arc::new(Link::default());
                        let io = ZeroCopy::new(stream, Arc::clone(&link));
                        link.scope(converse(io, service, &builder, watcher, &limits)).await;
                    }
                    Some(tls) => {
                        let handshake = tls.acceptor().accept(stream);
                        match tokio::time::timeout(limits.request_header_timeout, handshake).await {
                            Ok(Ok(stream)) => converse(stream, service, &builder, watcher, &limits).await,
                            Ok(Err(error)) => tracing::debug!("tls handshake failed: {error}"),
                            Err(_) => tracing::debug!("tls handshake timed out"),
                        }
                    }
                }
                gauge!("pratique_connections").decrement(1);
                drop(slot);
            });
        }
        drop(self.tcp);
        if tokio::time::timeout(self.limits.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests under way were cut off after limits.drain_timeout");
        }
    }
}

async fn accept(tcp: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match tcp.accept().await {
        Ok((stream, _)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, slot))
        }
        Err(error) => {
            // Out of file descriptors, most likely: a pause lets some be given back.
            counter!("pratique_accept_errors_total").increment(1);
            tracing::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// How much of one HTTP/2 stream's body waits in h2 for the client, in bytes.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;

fn builder(limits: &Limits) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams { patience: limits.client_write_timeout });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_header_timeout)
        .max_buf_size(usize::try_from(limits.request_header_bytes_max).unwrap_or(usize::MAX).max(8192))
        .max_headers(limits.request_headers_max)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_send_buf_size(STREAM_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(limits.request_header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.client_idle_timeout)
        .keep_alive_timeout(limits.request_header_timeout);
    builder
}

async fn converse<I, S>(
    stream: I,
    service: S,
    builder: &auto::Builder<Streams>,
    watcher: hyper_util::server::graceful::Watcher,
    limits: &Limits,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: tower::Service<Request<Incoming>, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    let turn = Turn::default();
    let paced = Paced::new(stream, turn.clone());
    let io = TokioIo::new(Patient::new(paced, limits.request_header_timeout, limits.client_write_timeout));
    let connection = builder.serve_connection(io, TowerToHyperService::new(service)).into_owned();
    if let Err(error) = turn.scope(watcher.watch(connection)).await {
        // Clients that leave are everyday; what the body broke on was told where it broke.
        tracing::debug!("connection ended: {error}");
    }
}
