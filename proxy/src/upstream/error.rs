//! What can go wrong between us and an upstream, in our own words only.
//!
//! No variant holds a header, a body, a credential or a query string. The one thing taken from outside is the host in
//! [`UpstreamError::Misdirected`], so that the log can name it.

use std::{fmt, path::PathBuf, time::Duration};

/// What was asked of an upstream. [`Kind::as_str`] is the `kind` label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Which digest a reference has.
    Head,
    /// A manifest or an index.
    Manifest,
    /// A blob, or the rest of one.
    Blob,
    /// What refers to a digest.
    Referrers,
    /// The tags of a repository.
    Tags,
    /// A token of the upstream's token endpoint.
    Token,
    /// A file of the TUF repository that the trust root comes from.
    Tuf,
}

impl Kind {
    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Referrers => "referrers",
            Self::Tags => "tags",
            Self::Token => "token",
            Self::Tuf => "tuf",
        }
    }
}

impl fmt::Display for Kind {
    /// The operation, as in "fetching referrers timed out".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "resolving the reference",
            Self::Manifest => "fetching the manifest",
            Self::Blob => "fetching the blob",
            Self::Referrers => "fetching referrers",
            Self::Tags => "listing tags",
            Self::Token => "asking for a token",
            Self::Tuf => "asking the mirror",
        })
    }
}

/// Why an upstream gave no usable answer. Clones are shared by those who waited for one request together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// Upstream answered 404.
    #[error("{what}: upstream does not have it")]
    NotFound {
        /// What was asked.
        what: Kind,
    },
    /// 401 after authentication, or 403: upstream does not take our credentials, or wants some and we have none.
    #[error("{what}: upstream does not let us in, status {status}")]
    Refused {
        /// What was asked.
        what: Kind,
        /// 401 or 403.
        status: u16,
    },
    /// Upstream answered 429.
    #[error("{what}: upstream limits our rate")]
    RateLimited {
        /// What was asked.
        what: Kind,
        /// When to come again, where upstream said so; a day at most.
        retry_after: Option<Duration>,
    },
    /// Upstream said a moment ago when it wants to be asked again: until then it is not. By a 429 that holds for whatever it was to be
    /// asked for, by a 5xx for this of this repository.
    #[error("{what}: upstream {}, and is not asked for another {}", if *.is_limit { "limits our rate" } else { "is out" }, Seconds(*.retry_after))]
    HeldBack {
        /// What was to be asked.
        what: Kind,
        /// How long it is still to be left alone.
        retry_after: Duration,
        /// It answered 429; else a status from 500 on.
        is_limit: bool,
    },
    /// Upstream could not be asked.
    #[error("{what}: {why}")]
    Unavailable {
        /// What was asked.
        what: Kind,
        /// Why not.
        why: Outage,
    },
    /// Upstream points where we may not go. Nothing was sent there.
    #[error("{what} leads to host {host:?}, which is {why}")]
    Misdirected {
        /// What pointed there.
        what: Pointer,
        /// The host, as upstream wrote it; for the log, not for clients.
        host: String,
        /// Which rule forbids it.
        why: Forbidden,
    },
    /// Upstream's answer is not what the protocol allows, or is larger than the limit.
    #[error("{what}: {why}")]
    Malformed {
        /// What was asked.
        what: Kind,
        /// What is wrong with the answer.
        why: Flaw,
    },
}

impl UpstreamError {
    /// The `outcome` label of the metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Refused { .. } => "refused",
            Self::RateLimited { .. } => "rate_limited",
            Self::HeldBack { .. } => "held_back",
            Self::Unavailable { .. } => "unavailable",
            Self::Misdirected { .. } => "misdirected",
            Self::Malformed { .. } => "malformed",
        }
    }

    /// What clients may be told: the same without the host, which is upstream's text.
    #[must_use]
    pub fn for_clients(&self) -> String {
        if let Self::Misdirected { what, why, .. } = self {
            format!("{what} leads to a host which is {why}")
        } else {
            self.to_string()
        }
    }

    /// When upstream wants to be asked again, where it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            Self::HeldBack { retry_after, .. } => Some(*retry_after),
            Self::Unavailable { why: Outage::ComeAgain(_, after), .. } => Some(*after),
            Self::Unavailable { .. }
            | Self::NotFound { .. }
            | Self::Refused { .. }
            | Self::Misdirected { .. }
            | Self::Malformed { .. } => None,
        }
    }
}

/// Why an upstream could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Outage {
    /// TCP and TLS took longer than `limits.connect_timeout`.
    #[error("timed out after {} connecting", Seconds(*.0))]
    ConnectTimedOut(Duration),
    /// The head of the answer took longer than `limits.upstream_response_timeout`.
    #[error("timed out after {} waiting for an answer", Seconds(*.0))]
    AnswerTimedOut(Duration),
    /// No byte of the body came for `limits.upstream_stall_timeout`.
    #[error("body stalled for {}", Seconds(*.0))]
    Stalled(Duration),
    /// Bytes of a blob came more slowly than so many a second, `limits.upstream_bytes_per_second_min`.
    #[error("body came more slowly than {0} bytes a second")]
    TooSlow(u64),
    /// A small body was not whole after this time, though bytes kept coming.
    #[error("body not whole after {}", Seconds(*.0))]
    Slow(Duration),
    /// All of `limits.upstream_connections_max` were in use until the time was over.
    #[error("all {0} connections were in use")]
    Busy(usize),
    /// DNS.
    #[error("host name does not resolve")]
    NameUnknown,
    /// Nobody listens there.
    #[error("connection refused")]
    ConnectionRefused,
    /// No route, or the connection ended before it was usable.
    #[error("connection failed")]
    ConnectFailed,
    /// TLS.
    #[error("TLS: {0}")]
    Tls(TlsFault),
    /// The forward proxy that `HTTPS_PROXY` or `HTTP_PROXY` names gave no way to upstream.
    #[error("forward proxy: {0}")]
    Proxy(ProxyFault),
    /// The connection ended before the answer did.
    #[error("connection lost")]
    ConnectionLost,
    /// A status from 500 on.
    #[error("upstream fails with status {0}")]
    Status(u16),
    /// A status from 500 on, and when to come again; a day at most.
    #[error("upstream fails with status {0}, and wants to be asked again after {after}", after = Seconds(*.1))]
    ComeAgain(u16, Duration),
}

/// Why a forward proxy gave no way through. The log names it at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyFault {
    /// DNS.
    #[error("its host name does not resolve")]
    NameUnknown,
    /// Nobody listens there.
    #[error("connection to it refused")]
    ConnectionRefused,
    /// No route, or the connection ended before it had answered.
    #[error("connection to it failed")]
    ConnectFailed,
    /// It gave no way through within `limits.connect_timeout`.
    #[error("timed out after {} waiting for it to connect", Seconds(*.0))]
    TimedOut(Duration),
    /// It wants credentials, or others than its URL has.
    #[error("it does not let us in, status 407")]
    Unauthorized,
    /// It does not connect to upstream, or cannot: the status of its answer to CONNECT.
    #[error("it does not connect to upstream, status {0}")]
    Status(u16),
    /// Its answer to CONNECT is not HTTP, has no end, or something comes with it.
    #[error("its answer to CONNECT is not acceptable HTTP")]
    Http,
}

/// Why a TLS session did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// The names in the certificate are others.
    #[error("certificate is not valid for host")]
    WrongHost,
    /// The certificate has ended.
    #[error("certificate expired")]
    Expired,
    /// The certificate has not begun.
    #[error("certificate not yet valid")]
    NotYetValid,
    /// No chain to a compiled-in root or to one of `ca_file`.
    #[error("unknown issuer")]
    UnknownIssuer,
    /// Any other flaw of the certificate.
    #[error("certificate is not acceptable")]
    BadCertificate,
    /// No protocol version or cipher in common, or no TLS at all.
    #[error("handshake failed")]
    Handshake,
}

/// What can point somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pointer {
    /// `Location`.
    Redirect,
    /// `WWW-Authenticate: Bearer realm=…`.
    Realm,
    /// `Link: …; rel="next"`.
    NextPage,
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redirect => "redirect",
            Self::Realm => "token realm",
            Self::NextPage => "link to the next page",
        })
    }
}

/// Which rule forbids to go somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forbidden {
    /// A realm or a next page on a host that the operator did not name.
    #[error("neither the upstream itself nor listed for it")]
    OtherHost,
    /// `http:` where `https:` is wanted, or a scheme that is neither.
    #[error("not reached over https")]
    NotHttps,
    /// Any realm, where the token would then travel to the upstream in the clear.
    #[error("of no use to an upstream that is itself not reached over https")]
    PlainUpstream,
    /// A user or password in the URL.
    #[error("given with user information")]
    UserInformation,
    /// A private, loopback, link-local or otherwise special address.
    #[error("not at a public address")]
    NotPublic,
    /// The next page belongs to another repository.
    #[error("asked for another repository")]
    OtherRepository,
    /// More than `limits.redirects_max`.
    #[error("one redirect too many")]
    TooManyRedirects,
    /// A redirect where none belongs, such as of a list or of the token endpoint.
    #[error("given where no redirect belongs")]
    Unexpected,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Not HTTP, or a head larger than any limit.
    #[error("answer is not acceptable HTTP")]
    Http,
    /// More bytes of headers than `limits.upstream_header_bytes_max`.
    #[error("headers are larger than {0} bytes")]
    HeadersTooLarge(usize),
    /// A status that has no place here.
    #[error("unexpected status {0}")]
    Status(u16),
    /// A header that does not parse, or stands there twice and differs.
    #[error("header {0} is malformed")]
    Header(&'static str),
    /// A body larger than its limit, in bytes.
    #[error("body is larger than {0} bytes")]
    TooLarge(u64),
    /// A compressed body: digests are of the bytes as published.
    #[error("body is encoded, want it as it is")]
    Encoded,
    /// A range that is not the one asked for.
    #[error("range is not the one asked for")]
    Range,
    /// A body that is not the JSON document asked for.
    #[error("body is not the JSON document asked for")]
    Json,
    /// A list that leads back to a page already read.
    #[error("pages lead in a circle")]
    PageLoop,
    /// More pages than the limit.
    #[error("more than {0} pages")]
    TooManyPages(usize),
    /// More entries than the limit.
    #[error("more than {0} entries")]
    TooManyEntries(usize),
}

/// Why an [`Upstream`](super::Upstream) could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamSetupError {
    /// `ca_file` or `password_file` could not be read.
    #[error("upstream {upstream}: {key}")]
    File {
        /// The upstream's name.
        upstream: String,
        /// The key that names the file.
        key: &'static str,
        /// What is wrong with the file.
        source: config::ConfigError,
    },
    /// `docker_config` holds no credentials for it.
    #[error("upstream {upstream}: docker_config {}: {why}", path.display())]
    DockerConfig {
        /// The upstream's name.
        upstream: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// `ca_file` holds no certificate, or one that cannot be a root.
    #[error("upstream {upstream}: ca_file {}: want PEM certificates of authorities, got {got}", path.display())]
    CaFile {
        /// The upstream's name.
        upstream: String,
        /// The file.
        path: PathBuf,
        /// What is there instead.
        got: &'static str,
    },
    /// The user name cannot be sent as HTTP Basic, which ends it at the first colon.
    #[error("upstream {upstream}: username: want one without a colon or control characters")]
    Username {
        /// The upstream's name.
        upstream: String,
    },
    /// Credentials would travel in the clear.
    #[error("upstream {upstream}: credentials go over https, or to loopback, and its url is neither")]
    PlainCredentials {
        /// The upstream's name.
        upstream: String,
    },
    /// The TLS library refused its own defaults.
    #[error("upstream {upstream}: TLS could not be set up")]
    Tls {
        /// The upstream's name.
        upstream: String,
        /// What it said.
        source: rustls::Error,
    },
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", (self.0.as_secs_f64() * 1000.0).round() / 1000.0)
    }
}
