//! The TUF repository that the trust root comes from: plain files, small, without credentials, from one origin.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use config::{Limits, Proxies, TrustRootRefresh};
use tokio::time::Instant;

use super::{
    client::{Answer, Client, single},
    dial::Dialer,
    error::{Forbidden, Kind, Pointer, UpstreamError, UpstreamSetupError},
    meter::Meter,
    network::System,
    origin::{Origin, shown_host},
    request, tls,
};

/// A TUF repository's mirror. It is asked for files and followed nowhere.
pub struct Mirror {
    client: Client,
    own: Origin,
    path: String,
    meter: Meter,
    whole_within: Duration,
}

impl Mirror {
    /// Reads the CA file; connects to nothing.
    pub fn new(refresh: &TrustRootRefresh, limits: &Limits, proxies: &Proxies) -> Result<Self, UpstreamSetupError> {
        let own = Origin::of_upstream(&refresh.mirror.origin);
        let tls = tls::client_config("policy.trust_root_mirror", refresh.ca_file.as_deref())?;
        let (network, proxies) = (Arc::new(System::default()), proxies.clone());
        let dialer = Dialer::new(network, proxies, tls, own.clone(), Vec::new(), limits.connect_timeout);
        Ok(Self {
            client: Client::new(dialer, Pointer::Redirect, limits),
            meter: Meter::new(own.host.clone()),
            own,
            path: refresh.mirror.path.clone(),
            whole_within: limits.upstream_stall_timeout.saturating_mul(2),
        })
    }

    /// The file at `path` below the repository, of at most `bytes_max` bytes; `None` where the mirror says that there is none. `path`
    /// has no part that needs escaping.
    pub async fn get(&self, path: &str, bytes_max: u64) -> Result<Option<Bytes>, UpstreamError> {
        let started = Instant::now();
        let outcome = self.ask(path).await;
        self.meter.count(Kind::Tuf, started, outcome.as_ref().err());
        match outcome {
            Ok(answer) => answer.body.read(bytes_max, self.whole_within).await.map(Some),
            // Object stores that do not let strangers list say 403 where they have nothing.
            Err(UpstreamError::NotFound { .. } | UpstreamError::Refused { status: 403, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, path: &str) -> Result<Answer, UpstreamError> {
        let url = self
            .own
            .at(&format!("{}{path}", self.path))
            .expect("a configured origin, and a path of which no part needs escaping, are a URL");
        let answer = self.client.send(Kind::Tuf, request::get(Kind::Tuf, &url, "*/*")?).await?;
        if answer.status().is_redirection() {
            let location = single(answer.headers(), "location").ok().flatten();
            let target = location.and_then(|location| url.join(location).ok()).unwrap_or(url);
            let (host, why) = (shown_host(&target), Forbidden::Unexpected);
            return Err(UpstreamError::Misdirected { what: Pointer::Redirect, host, why });
        }
        answer.expect_success(Kind::Tuf)
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("host", &self.own.host).finish_non_exhaustive()
    }
}
