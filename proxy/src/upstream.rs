//! Upstream registries: the only outbound HTTP of the product.
//!
//! A [`Mirror`] hands out the files of a TUF repository. An [`Upstream`] asks one registry and hands back what it said, bounded in size and time and otherwise unjudged: no digest is
//! checked here. What it does judge is where a request may go and with which secrets:
//!
//! ```text
//! manifest, blob, lists ─▶ exchange ─▶ client ─▶ dial        name, address rule, TCP, TLS
//!                          │  │  │      │         └ tunnel   the same past a forward proxy
//!                          │  │  │      one request, one answer, timeouts, one retry
//!                          │  │  └ redirect   which targets, and never with Authorization to another origin
//!                          │  ├ auth ─▶ token  one fetch per scope, only from an allowed realm
//!                          │  │  └ credentials  what is configured, or what a helper hands out, again when that ends or is refused
//!                          │  └ backoff        nobody asks before the time that upstream named to anybody: for anything, or (outages) for this
//!                          └ challenge         what a 401 may ask for
//! ```

mod address;
mod auth;
mod backoff;
mod blob;
mod body;
mod challenge;
mod client;
mod credentials;
mod dial;
mod docker;
mod error;
mod exchange;
mod expiry;
#[doc(hidden)]
pub mod fuzz;
mod links;
mod lists;
mod lookups;
mod manifest;
mod meter;
mod mirror;
mod network;
mod origin;
mod outages;
mod rate;
mod redirect;
mod request;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod tunnel;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use config::{HostPort, Limits, Proxies};
use http::HeaderMap;
use oci::{RepositoryPath, UnixTime};
use url::Url;

use self::{
    auth::Auth,
    backoff::Backoff,
    client::{Answer, Client},
    credentials::Credentials,
    dial::Dialer,
    exchange::{Exchange, Question},
    meter::Meter,
    origin::Origin,
    redirect::Redirects,
};
pub use self::{
    blob::BlobStream,
    error::{Flaw, Forbidden, Kind, Outage, Pointer, ProxyFault, TlsFault, UpstreamError, UpstreamSetupError},
    lists::{Referrers, TagsPage},
    manifest::{Fetched, Head},
    mirror::Mirror,
    network::{Line, Network, NoLine, System},
};

/// One registry. Cheap enough to be made anew at every reload; connections and tokens of the former one end with it.
pub struct Upstream {
    exchange: Exchange,
    limits: Limits,
    name: String,
}

impl Upstream {
    /// Reads the CA file and the password, or docker's configuration, which may ask a helper: that blocks. Connects to nothing, and
    /// later through no proxy.
    pub fn new(upstream: &config::Upstream, limits: &Limits) -> Result<Self, UpstreamSetupError> {
        Self::within(upstream, limits, &Proxies::default(), &(Arc::new(System::default()) as Arc<dyn Network>))
    }

    /// The same through `proxies`, with connections from `network`.
    pub fn within(
        upstream: &config::Upstream,
        limits: &Limits,
        proxies: &Proxies,
        network: &Arc<dyn Network>,
    ) -> Result<Self, UpstreamSetupError> {
        Self::after(None, upstream, limits, proxies, network)
    }

    /// The same after a reload, going on where `former`, of the same name, is: what the very same upstream asks of either holds for both.
    pub fn after(
        former: Option<&Self>,
        upstream: &config::Upstream,
        limits: &Limits,
        proxies: &Proxies,
        network: &Arc<dyn Network>,
    ) -> Result<Self, UpstreamSetupError> {
        let own = Origin::of_upstream(&upstream.url);
        let former = former.filter(|former| former.exchange.own == own);
        let known = former.and_then(|former| former.exchange.auth.credentials());
        let credentials = Credentials::of(upstream, &own, known)?;
        let mut now = Self::having(credentials, upstream, limits, proxies, network)?;
        if let Some(Self { exchange: before, .. }) = former {
            let now = &mut now.exchange;
            now.backoff.go_on_from(&before.backoff);
            now.auth.backoff.go_on_from(&before.auth.backoff);
            now.meter = before.meter.clone();
            now.auth.meter = before.auth.meter.clone();
        }
        Ok(now)
    }

    fn having(
        credentials: Option<Arc<Credentials>>,
        upstream: &config::Upstream,
        limits: &Limits,
        proxies: &Proxies,
        network: &Arc<dyn Network>,
    ) -> Result<Self, UpstreamSetupError> {
        let own = Origin::of_upstream(&upstream.url);
        let tls = tls::client_config(upstream.name.as_str(), upstream.ca_file.as_deref())?;
        let dialer = |listed: &[HostPort]| {
            let (network, proxies) = (Arc::clone(network), proxies.clone());
            Dialer::new(network, proxies, tls.clone(), own.clone(), listed.to_vec(), limits.connect_timeout)
        };
        // Two clients, so that a host listed for tokens is not reachable by redirect, nor the other way round.
        let token_client = Client::new(dialer(&upstream.realms), Pointer::Realm, limits);
        let client = Client::new(dialer(&upstream.redirects), Pointer::Redirect, limits);
        let name = upstream.name.to_string();
        let meter = Meter::new(name.clone());
        let backoff = || Backoff::new(name.clone(), limits);
        let exchange = Exchange {
            client,
            auth: Auth::new(
                own.clone(),
                upstream.realms.clone(),
                credentials,
                token_client,
                meter.clone(),
                backoff(),
                limits,
            ),
            redirects: Redirects { own: own.clone(), listed: upstream.redirects.clone() },
            redirects_max: limits.redirects_max,
            backoff: backoff(),
            meter,
            own,
        };
        Ok(Self { exchange, limits: limits.clone(), name })
    }

    /// When the credentials for it end, where that is known.
    #[must_use]
    pub fn credentials_end(&self) -> Option<UnixTime> {
        self.exchange.auth.credentials()?.end()
    }

    /// Whether a helper hands out other credentials when these end.
    #[must_use]
    pub fn credentials_are_renewed(&self) -> bool {
        self.exchange.auth.credentials().is_some_and(|credentials| credentials.are_renewed())
    }

    /// Asks the helper for other credentials where these say themselves that they are about to end.
    pub async fn renew_credentials(&self, now: UnixTime) {
        if let Some(credentials) = self.exchange.auth.credentials() {
            credentials.renew_before_end(now).await;
        }
    }

    /// Whether it is to be spared what nobody waits for: it limits our rate, or is about to.
    #[must_use]
    pub fn is_to_be_spared(&self) -> bool {
        self.exchange.backoff.is_held() || self.exchange.meter.is_used_up()
    }

    /// What the operator calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `rest` under the repository, on the upstream's own origin.
    fn url(&self, repository: &RepositoryPath, rest: &str) -> Url {
        self.exchange
            .own
            .at(&format!("/v2/{}/{rest}", repository.as_str()))
            .expect("a configured origin, and a path of which no part needs escaping, are a URL")
    }

    /// The headers of an answer and its whole body, of at most `bytes_max` bytes; asked for once more where the connection is lost in the
    /// middle of it.
    async fn whole(&self, question: &Question<'_>, bytes_max: u64) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let (headers, bytes) = self.whole_where(question, bytes_max, &|_| true).await?;
        Ok((headers, bytes.unwrap_or_default()))
    }

    /// The same, where `may` is asked about each number of bytes before there are so many; without a body where it says no.
    async fn whole_where(
        &self,
        question: &Question<'_>,
        bytes_max: u64,
        may: &(impl Fn(u64) -> bool + Sync),
    ) -> Result<(HeaderMap, Option<Bytes>), UpstreamError> {
        let read = |answer: Answer| async {
            let headers = answer.headers().clone();
            Ok((headers, answer.body.read_where(bytes_max, may, self.whole_within()).await?))
        };
        again_where_lost(|| self.exchange.ask(question), read).await
    }

    /// How long a manifest or a page of a list may take: longer than any pause in it, not longer than a few.
    fn whole_within(&self) -> Duration {
        self.limits.upstream_stall_timeout.saturating_mul(2)
    }
}

/// What is read of an answer; asked for once more where the connection is lost in the middle of it. Before that the client sees to it.
async fn again_where_lost<A, T, Asked, Read>(
    ask: impl Fn() -> Asked,
    read: impl Fn(A) -> Read,
) -> Result<T, UpstreamError>
where
    Asked: Future<Output = Result<A, UpstreamError>>,
    Read: Future<Output = Result<T, UpstreamError>>,
{
    match read(ask().await?).await {
        Err(UpstreamError::Unavailable { why: Outage::ConnectionLost, .. }) => read(ask().await?).await,
        outcome => outcome,
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}
