//! Where connections come from: the operating system, or a network that a simulation makes up.

use std::{
    convert::Infallible,
    future::ready,
    io, iter,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tower::{BoxError, ServiceExt as _, service_fn};

use super::lookups::Lookups;

/// Resolves names and opens connections, and judges neither: which addresses may be connected to was decided between the two.
pub trait Network: Send + Sync {
    /// The addresses of a host, which is a name or an address without brackets.
    fn lookup(self: Arc<Self>, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
    /// A connection to the first of `addresses` that answers, all of them within that time, so that a dead one leaves time for the
    /// others. An `io::Error` among the causes of the error says why there is none.
    fn connect(
        self: Arc<Self>,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Line, NoLine>>;
}

/// The operating system's network.
#[derive(Default)]
pub struct System {
    lookups: Lookups,
}

impl Network for System {
    fn lookup(self: Arc<Self>, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(vec![(address, port).into()]);
            }
            let resolve = |(host, port): &(String, u16)| {
                let found = (host.as_str(), *port).to_socket_addrs().map_err(|error| error.kind())?;
                Ok(found.collect())
            };
            self.lookups.join((host, port), resolve).await.map_err(io::Error::from)
        })
    }

    fn connect(
        self: Arc<Self>,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Line, NoLine>> {
        Box::pin(async move {
            let late = |_| Err(NoLine::new(io::Error::from(io::ErrorKind::TimedOut)));
            timeout(within, first_of(addresses)).await.unwrap_or_else(late)
        })
    }
}

/// How long an address is tried alone before the next one is tried beside it (RFC 8305 §5).
const APART: Duration = Duration::from_millis(250);
/// A connection on which nothing has come for so long is asked whether it is alive, and again,
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(5);
/// and is dead when that often nothing came back: in half a minute, whatever waits for it.
const KEEPALIVE_TRIES: u32 = 3;

/// A connection to whichever of `addresses` answers first. Each of them gets its turn: hyper-util's own way tries the addresses of one
/// family after each other, so that a dead one would take half of the time that there is.
async fn first_of(addresses: Vec<SocketAddr>) -> Result<Line, NoLine> {
    let mut next = by_turns(addresses).into_iter();
    let mut trying = FuturesUnordered::new();
    let mut last = NoLine::new(io::Error::from(io::ErrorKind::AddrNotAvailable));
    loop {
        match next.next() {
            Some(address) => trying.push(tcp(address)),
            None if trying.is_empty() => return Err(last),
            None => {}
        }
        // The next one is due when one has failed, or when it is time.
        match timeout(APART, trying.next()).await {
            Ok(Some(Ok(line))) => return Ok(line),
            Ok(Some(Err(error))) => last = error,
            Ok(None) | Err(_) => {}
        }
    }
}

/// In the order in which they came, but one of either family in turn: where a machine has no way out by one of them, that costs little.
fn by_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == is_first_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    while first.len() + second.len() > 0 {
        turns.extend(first.next().into_iter().chain(second.next()));
    }
    turns
}

async fn tcp(address: SocketAddr) -> Result<Line, NoLine> {
    let resolved = service_fn(move |_| ready(Ok::<_, Infallible>(iter::once(address))));
    let mut tcp = HttpConnector::new_with_resolver(resolved);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_AGAIN));
    tcp.set_keepalive_retries(Some(KEEPALIVE_TRIES));
    // The name is only there to be resolved, and that has been done.
    let stream = tcp.oneshot(Uri::from_static("http://resolved")).await.map_err(NoLine::new)?;
    Ok(Line(Kind::Tcp(stream)))
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
        let connected = match &self.0 {
            Kind::Tcp(tcp) => tcp.connected(),
            Kind::Other(_) => Connected::new(),
        };
        connected.extra(Used::default())
    }
}

/// Whether a connection has brought an answer already.
#[derive(Clone, Default)]
pub(super) struct Used(Arc<AtomicBool>);

impl Used {
    pub(super) fn is_used(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use rustix::net::sockopt;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let v4 = |last| SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 1));
        let v6 = |last| SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), 1));
        for (addresses, wanted) in [
            (vec![], vec![]),
            (vec![v4(1), v4(2)], vec![v4(1), v4(2)]),
            (vec![v6(1), v6(2), v6(3), v4(1)], vec![v6(1), v4(1), v6(2), v6(3)]),
            (vec![v4(1), v6(1), v6(2), v4(2)], vec![v4(1), v6(1), v4(2), v6(2)]),
        ] {
            assert_eq!(by_turns(addresses), wanted);
        }
    }

    #[tokio::test]
    async fn a_connection_is_asked_whether_it_is_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = tcp(listener.local_addr().unwrap()).await.unwrap();
        let Kind::Tcp(stream) = &line.0 else { panic!("a socket") };
        let stream = stream.inner();
        assert!(sockopt::socket_keepalive(stream).unwrap() && sockopt::tcp_nodelay(stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(stream).unwrap(), KEEPALIVE);
        assert_eq!(sockopt::tcp_keepintvl(stream).unwrap(), KEEPALIVE_AGAIN);
        assert_eq!(sockopt::tcp_keepcnt(stream).unwrap(), KEEPALIVE_TRIES);
    }
}
