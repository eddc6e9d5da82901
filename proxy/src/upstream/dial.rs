//! From a URL to a connection: name, address rule, TCP, TLS, all within one timeout.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tower::{Service, ServiceExt as _, service_fn};

use super::{
    address,
    error::{Outage, TlsFault},
    origin::{Origin, without_brackets},
};

/// Opens connections for one upstream.
///
/// The addresses that are looked at are the ones connected to, so a name cannot point elsewhere in between.
#[derive(Clone)]
pub(super) struct Dialer(Arc<Rules>);

struct Rules {
    tls: Arc<ClientConfig>,
    /// The upstream's own host: the operator named it, wherever it is.
    own: Origin,
    /// Further hosts that may have private addresses.
    listed: Vec<config::HostPort>,
    timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("no connection")]
    Outage(#[source] Outage),
    #[error("the host has an address that is not public")]
    NotPublic,
}

impl Dialer {
    pub(super) fn new(tls: Arc<ClientConfig>, own: Origin, listed: Vec<config::HostPort>, timeout: Duration) -> Self {
        Self(Arc::new(Rules { tls, own, listed, timeout }))
    }
}

impl Rules {
    async fn dial(&self, uri: Uri) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, DialError> {
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let addresses = self.addresses(Origin { is_https, host, port }).await?;

        let resolved = service_fn(move |_| ready(Ok::<_, Infallible>(addresses.clone().into_iter())));
        let mut tcp = HttpConnector::new_with_resolver(resolved);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared out among the addresses, so that a dead one leaves time for the others.
        tcp.set_connect_timeout(Some(self.timeout));
        HttpsConnector::from((tcp, Arc::clone(&self.tls)))
            .oneshot(uri)
            .await
            .map_err(|error| DialError::Outage(self.outage(&*error)))
    }

    async fn addresses(&self, target: Origin) -> Result<Vec<SocketAddr>, DialError> {
        let found = lookup_host((without_brackets(&target.host), target.port)).await;
        let addresses: Vec<_> = found.map_err(|_| DialError::Outage(Outage::NameUnknown))?.collect();
        let is_exempt =
            (&target.host, target.port) == (&self.own.host, self.own.port) || target.is_listed(&self.listed);
        // One special address among public ones is reason enough: whoever publishes it wants it tried.
        if !is_exempt && !addresses.iter().all(|address| address::is_public(address.ip())) {
            return Err(DialError::NotPublic);
        }
        Ok(addresses)
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
}

impl Service<Uri> for Dialer {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let rules = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::time::timeout(rules.timeout, rules.dial(uri))
                .await
                .unwrap_or(Err(DialError::Outage(Outage::ConnectTimedOut(rules.timeout))))
        })
    }
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
