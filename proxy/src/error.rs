//! Everything that can end a request without its content, and the answer it becomes.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use oci::NameError;
use policy::{Refusal, TagRefusal};
use serde_json::{Value, json};

use crate::upstream::{Kind, UpstreamError};

/// Why a request is not answered with content. Cloned to everyone who waited for the same thing.
///
/// A *refusal* is a decision (403), a *failure* means that nothing could be decided or fetched (429, 502, 503), a *fault* is ours (500).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A name, tag, digest or number that cannot be one.
    #[error("{1}")]
    Malformed(NameErrorCode, String),
    /// No upstream is configured for the name, or the upstream does not know it.
    #[error("{what} is unknown here and upstream")]
    Unknown {
        /// The OCI code that fits: `NAME_UNKNOWN`, `MANIFEST_UNKNOWN`, `BLOB_UNKNOWN`.
        code: &'static str,
        /// What was asked for.
        what: String,
    },
    /// The policy says no, or nothing speaks for the image.
    #[error("{}", .0.message)]
    Refused(Arc<Refusal>),
    /// The tag leads to an image that policy lets in, and a guard of tags says no.
    #[error("{}", .0.message)]
    Led(Arc<TagRefusal>),
    /// No policy matches the repository, so not even its lists are told.
    #[error("no policy matches repository {repository}, and no_match = \"deny\"")]
    RepositoryRefused {
        /// The repository asked about.
        repository: String,
    },
    /// Upstream's content is not what it must be, or upstream points where we may not go.
    #[error("{message}; nothing served")]
    Wrong {
        /// The OCI code that fits: `MANIFEST_INVALID`, `DIGEST_INVALID`, `SIZE_INVALID`.
        code: &'static str,
        /// What is wrong, in our words.
        message: String,
    },
    /// Nothing could be decided or fetched now.
    #[error("{message}; nothing served")]
    Undecided {
        /// What could not be done, and why.
        message: String,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// Nothing that was judged yet says anything, and nobody was asked: the same as undecided to whom it is told.
    #[error("not judged yet; nothing served")]
    NotJudged,
    /// Upstream asks us to slow down.
    #[error("{message}; nothing served")]
    RateLimited {
        /// Who said so.
        message: String,
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// Writes and other methods.
    #[error("method {method} is not supported: pratique only serves")]
    Unsupported {
        /// The method, one of the registered ones or `other`.
        method: String,
    },
    /// A path outside the distribution API.
    #[error("no such endpoint")]
    NoSuchEndpoint,
    /// A range that no byte of the content lies in.
    #[error("range not satisfiable: the content has {size} bytes")]
    Range {
        /// Length of the content in bytes.
        size: u64,
    },
    /// Too much at once.
    #[error("{crowd} is {max}")]
    Overloaded {
        /// Whose.
        crowd: Crowd,
        /// The limit.
        max: usize,
    },
    /// More header lines than a request needs.
    #[error("too many header lines; limits.request_headers_max is {max}")]
    HeadersTooMany {
        /// The limit.
        max: usize,
    },
    /// Our own store or code failed.
    #[error("internal error: {message}; nothing served")]
    Fault {
        /// What failed; no upstream text.
        message: String,
    },
}

/// Who has asked for too much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Crowd {
    /// The client itself.
    #[error("too many requests of this client at once; limits.requests_per_client_max")]
    Client,
    /// The client itself, by its connections.
    #[error("too many connections of this client at once; limits.connections_per_client_max")]
    ClientConnections,
    /// All clients together.
    #[error("too many requests at once; limits.requests_max")]
    All,
    /// All clients together, by their connections.
    #[error("too many connections at once; limits.connections_max")]
    Connections,
    /// All clients together, and those who wait for a turn too.
    #[error("too many requests wait already; limits.requests_waiting_max")]
    Waiting,
}

impl Crowd {
    /// Whose, in one word.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ClientConnections => "client_connections",
            Self::All => "all",
            Self::Connections => "connections",
            Self::Waiting => "waiting",
        }
    }
}

/// The OCI code of a malformed part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameErrorCode(pub &'static str);

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        let code = match error.noun() {
            "digest" => "DIGEST_INVALID",
            "tag" => "TAG_INVALID",
            _ => "NAME_INVALID",
        };
        Self::Malformed(NameErrorCode(code), error.to_string())
    }
}

impl From<storage::StoreError> for ApiError {
    /// A store error is never a miss.
    fn from(error: storage::StoreError) -> Self {
        if error.is_out_of_files() {
            return Self::undecided("too many files are open for another one");
        }
        Self::Fault { message: format!("store: {}", chain(&error)) }
    }
}

/// Seconds after which a client may well come back, where nobody told us better.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// When to come again after `error`.
pub(crate) fn patience(error: &UpstreamError) -> Duration {
    error.retry_after().unwrap_or(RETRY_AFTER)
}

impl ApiError {
    /// Something that could not be decided in time or for want of an answer.
    #[must_use]
    pub fn undecided(message: impl Into<String>) -> Self {
        Self::Undecided { message: message.into(), retry_after: RETRY_AFTER }
    }

    /// The same, told as upstream's limit on our rate where that is why nothing could be decided: it said when to come again.
    #[must_use]
    pub fn limited(self, patience: Option<Duration>) -> Self {
        match (self, patience) {
            (Self::Undecided { message, .. }, Some(retry_after)) => Self::RateLimited { message, retry_after },
            (other, _) => other,
        }
    }

    /// What asking upstream for `what` ended in. `code` is the OCI code for not found.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else went wrong, nothing could be decided")]
    pub fn from_upstream(error: &UpstreamError, code: &'static str, what: &str) -> Self {
        let wrong = if code == "BLOB_UNKNOWN" { "DIGEST_INVALID" } else { "MANIFEST_INVALID" };
        match error {
            UpstreamError::NotFound { .. } => Self::Unknown { code, what: what.to_owned() },
            UpstreamError::RateLimited { .. } | UpstreamError::HeldBack { is_limit: true, .. } => {
                Self::RateLimited { message: format!("cannot fetch {what}: {error}"), retry_after: patience(error) }
            }
            UpstreamError::Misdirected { .. } => {
                tracing::warn!("cannot fetch {what}: {error}");
                Self::Wrong { code: wrong, message: format!("cannot fetch {what}: {}", error.for_clients()) }
            }
            // A token endpoint's nonsense says nothing about the content.
            UpstreamError::Malformed { what: kind, .. } if *kind != Kind::Token => {
                Self::Wrong { code: wrong, message: format!("cannot fetch {what}: {error}") }
            }
            _ => Self::Undecided { message: format!("cannot fetch {what}: {error}"), retry_after: patience(error) },
        }
    }

    /// The status that clients see.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(..) => StatusCode::BAD_REQUEST,
            Self::Unknown { .. } | Self::NoSuchEndpoint => StatusCode::NOT_FOUND,
            Self::Refused(_) | Self::Led(_) | Self::RepositoryRefused { .. } => StatusCode::FORBIDDEN,
            Self::Wrong { .. } => StatusCode::BAD_GATEWAY,
            Self::RateLimited { .. } | Self::Overloaded { crowd: Crowd::Client | Crowd::ClientConnections, .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Undecided { .. } | Self::NotJudged | Self::Overloaded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::HeadersTooMany { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Unsupported { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Fault { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The OCI error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(code, _) => code.0,
            Self::Unknown { code, .. } | Self::Wrong { code, .. } => code,
            Self::Refused(_) | Self::Led(_) | Self::RepositoryRefused { .. } => "DENIED",
            Self::RateLimited { .. } | Self::Overloaded { crowd: Crowd::Client | Crowd::ClientConnections, .. } => {
                "TOOMANYREQUESTS"
            }
            Self::Undecided { .. } | Self::NotJudged | Self::Overloaded { .. } => "UNAVAILABLE",
            Self::Unsupported { .. } | Self::HeadersTooMany { .. } => "UNSUPPORTED",
            Self::NoSuchEndpoint => "NOT_FOUND",
            Self::Range { .. } => "RANGE_INVALID",
            Self::Fault { .. } => "UNKNOWN",
        }
    }

    /// Seconds for `Retry-After`, where coming back helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Undecided { retry_after, .. } | Self::RateLimited { retry_after, .. } => {
                Some(retry_after.as_secs().max(1))
            }
            Self::NotJudged => Some(RETRY_AFTER.as_secs()),
            Self::Overloaded { .. } => Some(1),
            Self::Malformed(..)
            | Self::Unknown { .. }
            | Self::Refused(_)
            | Self::Led(_)
            | Self::RepositoryRefused { .. }
            | Self::Wrong { .. }
            | Self::Unsupported { .. }
            | Self::HeadersTooMany { .. }
            | Self::NoSuchEndpoint
            | Self::Range { .. }
            | Self::Fault { .. } => None,
        }
    }

    /// The one of two that says more, where several ways were tried: what could not be decided must not pass for no, and a no not for
    /// unknown.
    #[must_use]
    pub fn or_worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    /// Unless something else is `open`: then that is told instead of a no, or of what nobody has asked.
    #[must_use]
    pub fn unless(self, open: Option<Self>) -> Self {
        if matches!(self, Self::Refused(_) | Self::NotJudged) { open.unwrap_or(self) } else { self }
    }

    /// Whether somebody was asked, or something looked at, and it could not be decided.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Undecided { .. } | Self::RateLimited { .. } | Self::Fault { .. })
    }

    fn weight(&self) -> u8 {
        match self {
            Self::Fault { .. } => 5,
            Self::Undecided { .. } | Self::RateLimited { .. } | Self::Overloaded { .. } => 4,
            Self::NotJudged => 3,
            Self::Wrong { .. } => 2,
            Self::Refused(_) | Self::Led(_) | Self::RepositoryRefused { .. } => 1,
            Self::Malformed(..)
            | Self::Unknown { .. }
            | Self::Unsupported { .. }
            | Self::HeadersTooMany { .. }
            | Self::NoSuchEndpoint
            | Self::Range { .. } => 0,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "everything else is written for clients")]
    /// What the client is told: paths and causes of our own faults stay in the log.
    fn public(&self) -> String {
        match self {
            Self::Fault { .. } => "internal error, see pratique's log; nothing served".to_owned(),
            other => other.to_string(),
        }
    }

    /// The error document of the distribution specification, as docker, podman and crane print it.
    #[must_use]
    pub fn document(&self) -> Vec<u8> {
        let mut error = json!({ "code": self.code(), "message": self.public() });
        if let (Some(detail), Some(fields)) = (self.detail(), error.as_object_mut()) {
            fields.insert("detail".to_owned(), detail);
        }
        json!({ "errors": [error] }).to_string().into_bytes()
    }
}

impl ApiError {
    /// What a program may want to know of a refusal.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever is no refusal has no more to tell")]
    fn detail(&self) -> Option<Value> {
        match self {
            Self::Refused(refusal) => Some(json!({
                "repository": refusal.repository.to_string(),
                "digest": refusal.digest.to_string(),
                "policy": refusal.policy,
                "authority": refusal.authority,
                "reason": refusal.reason.as_str(),
                "hint": refusal.hint,
            })),
            Self::Led(refusal) => Some(json!({
                "repository": refusal.repository.to_string(),
                "tag": refusal.tag.to_string(),
                "digest": refusal.digest.to_string(),
                "signed_at": refusal.signed_at.map(|at| at.to_string()),
                "newest": refusal.newest.as_ref().map(|(digest, at)| {
                    json!({ "digest": digest.to_string(), "signed_at": at.to_string() })
                }),
                "policy": refusal.policy,
                "reason": refusal.guard.reason(),
                "hint": refusal.hint,
            })),
            _ => None,
        }
    }
}

impl std::fmt::Display for NameErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
