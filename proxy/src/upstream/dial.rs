//! From a URL to a connection: name, address rule, TCP, TLS, all within one timeout.

use std::{
    error::Error,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use rustls::ClientConfig;
use tower::{Service, ServiceExt as _};

use super::{
    address,
    error::{Outage, TlsFault},
    network::{Line, Network, NoLine},
    origin::{Origin, without_brackets},
};

/// Opens connections for one upstream.
///
/// The addresses that are looked at are the ones connected to, so a name cannot point elsewhere in between.
#[derive(Clone)]
pub(super) struct Dialer(Arc<Rules>);

struct Rules {
    network: Arc<dyn Network>,
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
    pub(super) fn new(
        network: Arc<dyn Network>,
        tls: Arc<ClientConfig>,
        own: Origin,
        listed: Vec<config::HostPort>,
        timeout: Duration,
    ) -> Self {
        Self(Arc::new(Rules { network, tls, own, listed, timeout }))
    }
}

impl Rules {
    async fn dial(&self, uri: Uri) -> Result<MaybeHttpsStream<Line>, DialError> {
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let addresses = self.addresses(Origin { is_https, host, port }).await?;

        let resolved = Resolved { network: Arc::clone(&self.network), addresses, within: self.timeout };
        HttpsConnector::from((resolved, Arc::clone(&self.tls)))
            .oneshot(uri)
            .await
            .map_err(|error| DialError::Outage(self.outage(&*error)))
    }

    async fn addresses(&self, target: Origin) -> Result<Vec<SocketAddr>, DialError> {
        let found = Arc::clone(&self.network).lookup(without_brackets(&target.host).to_owned(), target.port).await;
        let addresses = found.map_err(|_| DialError::Outage(Outage::NameUnknown))?;
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

/// Connects to addresses that were looked at, whatever it is asked for.
struct Resolved {
    network: Arc<dyn Network>,
    addresses: Vec<SocketAddr>,
    within: Duration,
}

impl Service<Uri> for Resolved {
    type Response = Line;
    type Error = NoLine;
    type Future = BoxFuture<'static, Result<Line, NoLine>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoLine>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Arc::clone(&self.network).connect(self.addresses.clone(), self.within)
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
