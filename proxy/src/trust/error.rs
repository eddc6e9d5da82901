//! Why a trust root did not become another.

use std::{path::PathBuf, time::Duration};

use config::ConfigError;
use oci::UnixTime;
use storage::StoreError;

use crate::{
    app::StartError,
    upstream::{UpstreamError, UpstreamSetupError},
};

/// Why a refresh or an import came to nothing. What was in force stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// There is nothing to refresh from, and nothing to import for.
    #[error("the trust root is the file {}, and no TUF repository belongs to it", path.display())]
    NotRefreshed {
        /// `policy.trust_root`.
        path: PathBuf,
    },
    /// Somebody else refreshes or imports at this moment.
    #[error("another refresh or import is under way")]
    Busy,
    /// The store's own trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept was damaged, and could not be set aside.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file that the operator named.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The trust root that is configured cannot be used.
    #[error(transparent)]
    Configured(#[from] StartError),
    /// The mirror cannot be spoken to as configured.
    #[error(transparent)]
    Setup(#[from] Box<UpstreamSetupError>),
    /// The TUF root to begin with is none.
    #[error("the initial TUF root {name} cannot be used")]
    Initial {
        /// Its file, or `compiled in`.
        name: String,
        /// Why not.
        source: Box<sigstore_tuf::Error>,
    },
    /// The repository does not have a file that must be there, or did not hand it out.
    #[error("cannot fetch {file} from {from}")]
    Fetch {
        /// Which file.
        file: String,
        /// The repository.
        from: String,
        /// Why not.
        source: Box<FetchError>,
    },
    /// The whole took too long.
    #[error("{from} did not hand out everything within {} s", within.as_secs())]
    Slow {
        /// The repository.
        from: String,
        /// How long it had.
        within: Duration,
    },
    /// What the repository says does not hold by the rules of TUF.
    #[error("{from} is not believed")]
    Refused {
        /// The repository.
        from: String,
        /// Which rule is broken.
        source: Box<sigstore_tuf::Error>,
    },
    /// A document that nobody doubts and that is no trust root we can use.
    #[error("{from}: trusted_root.json cannot be used")]
    Unusable {
        /// The repository or file.
        from: String,
        /// Why not.
        source: policy::TrustRootError,
    },
    /// An imported file was written before what is in force was last known to be current.
    #[error("{} is of {file_as_of}, and the trust root in force is of {as_of}", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// When it was written.
        file_as_of: UnixTime,
        /// When what is in force was known to be current.
        as_of: UnixTime,
    },
    /// An imported file does not name what is trusted now, or trusts it for longer.
    #[error("{} looks older than the trust root in force: {lost}", path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// The first anchor that is amiss.
        lost: String,
    },
}

/// Why one file of a TUF repository is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The repository says so.
    #[error("it is not there")]
    Missing,
    /// The mirror.
    #[error(transparent)]
    Mirror(#[from] UpstreamError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] ConfigError),
    /// Metadata name a file as no repository does.
    #[error("{0:?} is not the name of a file in a TUF repository")]
    Name(String),
}

impl TrustError {
    /// The `outcome` label of the metric.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Fetch { .. } | Self::Slow { .. } => "unreachable",
            Self::Refused { .. } | Self::Older { .. } | Self::Lacks { .. } => "refused",
            Self::Unusable { .. } => "unusable",
            Self::Busy => "busy",
            Self::NotRefreshed { .. }
            | Self::Store(_)
            | Self::Damaged { .. }
            | Self::File(_)
            | Self::Configured(_)
            | Self::Setup(_)
            | Self::Initial { .. } => "failed",
        }
    }

    /// Advice, for a line of its own.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotRefreshed { .. } => Some(
                "replace that file and reload, or set policy.trust_root_mirror and policy.trust_root_initial to refresh it",
            ),
            Self::Busy => Some("a running server may be refreshing; try again in a minute"),
            Self::Older { .. } | Self::Lacks { .. } => Some(
                "fetch the current trusted_root.json; to take this one all the same, and trust again what is no longer trusted, add --danger-allow-older",
            ),
            Self::Unusable { .. } => Some("what was in force stays; a newer pratique may be needed to read it"),
            Self::Refused { .. } | Self::Fetch { .. } | Self::Slow { .. } => Some("what was in force stays"),
            Self::Store(_)
            | Self::Damaged { .. }
            | Self::File(_)
            | Self::Configured(_)
            | Self::Setup(_)
            | Self::Initial { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_small_enough_to_be_handed_up() {
        assert!(size_of::<TrustError>() < 128, "{}", size_of::<TrustError>());
    }
}
