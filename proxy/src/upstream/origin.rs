//! Scheme, host and port: what credentials are bound to.

use std::net::IpAddr;

use url::Url;

/// Scheme, host and port. Equal origins are the same server as far as secrets are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) is_https: bool,
    /// As in a URL: lower case, an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    pub(super) fn of_upstream(url: &config::UpstreamUrl) -> Self {
        Self {
            is_https: match url.scheme {
                config::Scheme::Https => true,
                config::Scheme::Http => false,
            },
            host: url.host.clone(),
            port: url.port,
        }
    }

    /// None unless `url` is http or https with a host.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = url.host_str()?.to_owned();
        let port = url.port_or_known_default()?;
        Some(Self { is_https, host, port })
    }

    /// The URL of a path and query on this origin.
    pub(super) fn at(&self, path_and_query: &str) -> Option<Url> {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}:{}{path_and_query}", self.host, self.port).parse().ok()
    }

    /// Whether the name can only mean this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || without_brackets(&self.host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether a name server may say which machine that is, and no certificate would.
    pub(super) fn is_localhost_in_the_clear(&self) -> bool {
        !self.is_https && self.host == "localhost"
    }

    /// Whether secrets may travel there at all: over TLS, or without leaving the machine.
    pub(super) fn keeps_secrets(&self) -> bool {
        self.is_https || self.is_loopback()
    }

    /// Whether one of `listed` names this host and port.
    pub(super) fn is_listed(&self, listed: &[config::HostPort]) -> bool {
        listed.iter().any(|listed| listed.matches(&self.host, self.port))
    }
}

/// The host as resolvers and certificates have it.
pub(super) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The host for a log line: ASCII by the URL parser's rules, and no longer than a host name can be.
pub(super) fn shown_host(url: &Url) -> String {
    url.host_str().unwrap_or_default().chars().take(253).collect()
}
