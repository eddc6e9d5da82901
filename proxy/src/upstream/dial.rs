//! From a URL to a connection: forward proxy or name and address rule, TCP, TLS, all within one timeout.

use std::{
    error::Error,
    future::{Future, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use config::{ForwardProxy, Proxies, Scheme};
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use rustls::ClientConfig;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tower::{Service, ServiceExt as _, service_fn};

use super::{
    address,
    error::{Outage, ProxyFault, TlsFault},
    network::{Line, Network, NoLine},
    origin::{Origin, without_brackets},
    tunnel,
};
use crate::flight::Flight;

/// Opens connections for one upstream.
///
/// The addresses that are looked at are the ones connected to, so a name cannot point elsewhere in between. Where a forward proxy
/// connects, it is the one that looks names up: then only an address that is written as one is looked at.
#[derive(Clone)]
pub(super) struct Dialer(Arc<Rules>);

struct Rules {
    network: Arc<dyn Network>,
    proxies: Proxies,
    tls: Arc<ClientConfig>,
    /// The upstream's own host: the operator named it, wherever it is.
    own: Origin,
    /// Further hosts that may have private addresses.
    listed: Vec<config::HostPort>,
    timeout: Duration,
    /// Looks at names that upstream has made up, or may have.
    strangers: Flight<(String, u16), Result<Vec<SocketAddr>, io::ErrorKind>>,
    /// Those of them that are under way.
    turns: Arc<Semaphore>,
}

/// Of these at one time: others' names are looked up beside them, however long a name server of upstream's choice is silent.
const STRANGERS_MAX: usize = 4;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("no connection")]
    Outage(#[source] Outage),
    #[error("the host has an address that is not public")]
    NotPublic,
}

impl Dialer {
    pub(super) fn new(
        network: Arc<dyn Network>,
        proxies: Proxies,
        tls: Arc<ClientConfig>,
        own: Origin,
        listed: Vec<config::HostPort>,
        timeout: Duration,
    ) -> Self {
        let (strangers, turns) = (Flight::default(), Arc::new(Semaphore::new(STRANGERS_MAX)));
        Self(Arc::new(Rules { network, proxies, tls, own, listed, timeout, strangers, turns }))
    }
}

impl Rules {
    async fn dial(&self, uri: Uri) -> Result<MaybeHttpsStream<Line>, DialError> {
        let deadline = Instant::now() + self.timeout;
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let scheme = if is_https { Scheme::Https } else { Scheme::Http };
        let target = Origin { is_https, host, port };

        let late = Outage::ConnectTimedOut(self.timeout);
        let line = match self.proxies.proxy_for(scheme, &target.host, port) {
            None => by(deadline, late, self.line_to(&target)).await?,
            Some(proxy) => {
                let late = Outage::Proxy(ProxyFault::TimedOut(self.timeout));
                by(deadline, late, self.line_through(proxy, &target)).await?
            }
        };
        by(deadline, late, self.secured(uri, line)).await
    }

    async fn line_to(&self, target: &Origin) -> Result<Line, DialError> {
        let is_exempt = self.is_exempt(target);
        let found = self.lookup(target, is_exempt).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| DialError::Outage(Outage::NameUnknown))?;
        // One special address among public ones is reason enough: whoever publishes it wants it tried.
        if !is_exempt && !addresses.iter().all(|address| address::is_public(address.ip())) {
            return Err(DialError::NotPublic);
        }
        // Whom the system means by it may be told by a name server; secrets go there in the clear.
        if target.is_localhost_in_the_clear() && !addresses.iter().all(|address| address.ip().is_loopback()) {
            return Err(DialError::NotPublic);
        }
        let line = Arc::clone(&self.network).connect(addresses, self.timeout).await;
        line.map_err(|error| DialError::Outage(self.outage(&error)))
    }

    /// The addresses of a host; of one that nobody configured within a share of its own, which is held until the look has ended, whoever
    /// still waits for it.
    async fn lookup(&self, target: &Origin, is_exempt: bool) -> io::Result<Vec<SocketAddr>> {
        let host = without_brackets(&target.host).to_owned();
        let look = Arc::clone(&self.network).lookup(host.clone(), target.port);
        if is_exempt || host.parse::<IpAddr>().is_ok() {
            return look.await;
        }
        let turns = Arc::clone(&self.turns);
        let looking = self.strangers.join((host, target.port), || async move {
            let _turn = turns.acquire().await;
            Ok(look.await.map_err(|error| error.kind()))
        });
        looking.await.unwrap_or(Err(io::ErrorKind::Other)).map_err(io::Error::from)
    }

    /// The operator named the proxy, wherever it is.
    async fn line_through(&self, proxy: &ForwardProxy, target: &Origin) -> Result<Line, DialError> {
        let address = without_brackets(&target.host).parse::<IpAddr>();
        if !self.is_exempt(target) && address.is_ok_and(|address| !address::is_public(address)) {
            return Err(DialError::NotPublic);
        }
        let outage = |why| DialError::Outage(Outage::Proxy(why));
        let found = Arc::clone(&self.network).lookup(without_brackets(&proxy.host).to_owned(), proxy.port).await;
        let addresses = found.map_err(|_| outage(ProxyFault::NameUnknown))?;
        let line = Arc::clone(&self.network).connect(addresses, self.timeout).await;
        let line = line.map_err(|error| outage(self.proxy_fault(&error)))?;
        tunnel::open(line, proxy, target).await.map_err(outage)
    }

    /// Whether it may have a private address.
    fn is_exempt(&self, target: &Origin) -> bool {
        (&target.host, target.port) == (&self.own.host, self.own.port) || target.is_listed(&self.listed)
    }

    /// TLS over `line` where the URL asks for it.
    async fn secured(&self, uri: Uri, line: Line) -> Result<MaybeHttpsStream<Line>, DialError> {
        let mut line = Some(line);
        let connected = service_fn(move |_| {
            ready(line.take().ok_or_else(|| NoLine::new(io::Error::from(io::ErrorKind::NotConnected))))
        });
        HttpsConnector::from((connected, Arc::clone(&self.tls)))
            .oneshot(uri)
            .await
            .map_err(|error| DialError::Outage(self.outage(&*error)))
    }

    fn outage(&self, error: &(dyn Error + 'static)) -> Outage {
        if let Some(tls) = cause::<rustls::Error>(error) {
            return Outage::Tls(TlsFault::of(tls));
        }
        match cause::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Outage::ConnectionRefused,
            Some(io::ErrorKind::TimedOut) => Outage::ConnectTimedOut(self.timeout),
            Some(_) | None => Outage::ConnectFailed,
        }
    }

    fn proxy_fault(&self, error: &(dyn Error + 'static)) -> ProxyFault {
        match cause::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => ProxyFault::ConnectionRefused,
            Some(io::ErrorKind::TimedOut) => ProxyFault::TimedOut(self.timeout),
            Some(_) | None => ProxyFault::ConnectFailed,
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = MaybeHttpsStream<Line>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let rules = Arc::clone(&self.0);
        Box::pin(async move { rules.dial(uri).await })
    }
}

/// What `connecting` comes to until then, or that it is `late`.
async fn by<T>(
    deadline: Instant,
    late: Outage,
    connecting: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout_at(deadline, connecting).await.unwrap_or(Err(DialError::Outage(late)))
}

/// The first `T` among an error and its causes, outermost first. Looks into `io::Error`, whose `source` skips the error it wraps.
pub(super) fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
