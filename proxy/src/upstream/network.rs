//! Where connections come from: the operating system, or a network that a simulation makes up.

use std::{
    convert::Infallible,
    future::ready,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tower::{BoxError, ServiceExt as _, service_fn};

/// Resolves names and opens connections, and judges neither: which addresses may be connected to was decided between the two.
pub trait Network: Send + Sync {
    /// The addresses of a host, which is a name or an address without brackets.
    fn lookup(self: Arc<Self>, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
    /// A connection to the first of `addresses` that answers. `within` is shared out among them, so that a dead one leaves time for the
    /// others. An `io::Error` among the causes of the error says why there is none.
    fn connect(
        self: Arc<Self>,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Line, NoLine>>;
}

/// The operating system's network.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Network for System {
    fn lookup(self: Arc<Self>, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(lookup_host((host.as_str(), port)).await?.collect()) })
    }

    fn connect(
        self: Arc<Self>,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Line, NoLine>> {
        Box::pin(async move {
            let resolved = service_fn(move |_| ready(Ok::<_, Infallible>(addresses.clone().into_iter())));
            let mut tcp = HttpConnector::new_with_resolver(resolved);
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(within));
            // The name is only there to be resolved, and that has been done.
            Ok(Line(Kind::Tcp(tcp.oneshot(Uri::from_static("http://resolved")).await.map_err(NoLine::new)?)))
        })
    }
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
#[error("no connection")]
pub struct NoLine(#[source] BoxError);

impl NoLine {
    /// For this reason.
    pub fn new(why: impl Into<BoxError>) -> Self {
        Self(why.into())
    }
}

/// A connection.
pub struct Line(Kind);

enum Kind {
    Tcp(TokioIo<TcpStream>),
    Other(TokioIo<Box<dyn Stream>>),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Line {
    /// Over something that is no socket.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self(Kind::Other(TokioIo::new(Box::new(stream))))
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        match &self.0 {
            Kind::Tcp(tcp) => tcp.connected(),
            Kind::Other(_) => Connected::new(),
        }
    }
}

impl Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Tcp(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Kind::Other(other) => Pin::new(other).poll_read(context, buffer),
        }
    }
}

impl Write for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Tcp(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Kind::Other(other) => Pin::new(other).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Kind::Other(other) => Pin::new(other).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Kind::Tcp(tcp) => tcp.is_write_vectored(),
            Kind::Other(other) => other.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Tcp(tcp) => Pin::new(tcp).poll_flush(context),
            Kind::Other(other) => Pin::new(other).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Tcp(tcp) => Pin::new(tcp).poll_shutdown(context),
            Kind::Other(other) => Pin::new(other).poll_shutdown(context),
        }
    }
}
