//! What a TUF repository vouches for. The rules of TUF are kept by `sigstore_tuf`; here it gets bounded files, and the time.

use std::{fmt, sync::Arc, time::Duration};

use config::{TrustRootRefresh, read_text};
use oci::UnixTime;
use sigstore_tuf::{Error, Updater, UpdaterConfig};

use super::{
    TRUST_ROOT_BYTES_MAX,
    error::TrustError,
    repository::{Files, LastFailure, Metadata, Source, locked},
};

/// The TUF root of public-good Sigstore, version 16, which verification begins with. It is what `sigstore-trust-root` 0.15.1 ships as
/// `repository/tuf_root.json` (SHA-256 27aea7e3…1fb19167) and hands out only together with an HTTP client of its own, which this
/// build does not want: so it lies here, as published. Later versions are learned from the repository, each signed by the one before.
const PUBLIC_GOOD_INITIAL: &str = include_str!("public-good.root.json");

/// As large as TUF lets a root be.
pub(super) const INITIAL_BYTES_MAX: u64 = 512_000;

/// What holds the trust root in every Sigstore's TUF repository.
const TARGET: &str = "trusted_root.json";

/// For a whole refresh: a dozen small files. A mirror that drips its bytes is not waited for longer.
const WITHIN: Duration = Duration::from_secs(120);

/// A target that TUF vouches for.
pub(super) struct Verified {
    pub(super) bytes: Vec<u8>,
    pub(super) versions: Versions,
}

/// Which metadata vouched for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of `root.json`.
    pub root: u64,
    /// Of `timestamp.json`.
    pub timestamp: u64,
    /// Of `snapshot.json`.
    pub snapshot: u64,
    /// Of `targets.json`.
    pub targets: u64,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root, timestamp, snapshot, targets } = self;
        write!(f, "root {root}, timestamp {timestamp}, snapshot {snapshot}, targets {targets}")
    }
}

/// The TUF root to begin with, and its name.
pub(super) fn initial(refresh: &TrustRootRefresh) -> Result<(String, String), TrustError> {
    match &refresh.initial {
        None => Ok(("compiled in".to_owned(), PUBLIC_GOOD_INITIAL.to_owned())),
        Some(path) => Ok((path.display().to_string(), read_text(path, INITIAL_BYTES_MAX)?)),
    }
}

/// Fetches and verifies: root by root, timestamp, snapshot, targets, the target itself. `metadata` is not gone back behind, and holds
/// afterwards what was verified, also where the end was not reached.
pub(super) async fn verified(
    source: Source,
    from: &str,
    (name, initial): (String, String),
    metadata: Metadata,
    now: UnixTime,
) -> Result<Verified, TrustError> {
    let failure = LastFailure::default();
    let files = Files { source, failure: Arc::clone(&failure) };
    let mut limits = UpdaterConfig::default();
    limits.target_max_length = TRUST_ROOT_BYTES_MAX;
    let mut updater = Updater::new(files, initial.as_bytes())
        .map_err(|source| TrustError::Initial { name, source: Box::new(source) })?
        .with_config(limits)
        .with_store(metadata);
    tokio::time::timeout(WITHIN, fetch(&mut updater, now))
        .await
        .map_err(|_| TrustError::Slow { from: from.to_owned(), within: WITHIN })?
        .map_err(|error| told(from, error, &failure))
}

async fn fetch(updater: &mut Updater, now: UnixTime) -> Result<Verified, Error> {
    let milliseconds = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX);
    updater.refresh(now).await?;
    let bytes = updater.get_target(TARGET, now).await?;
    let trusted = updater.trusted();
    let versions = Versions {
        root: trusted.root().version,
        timestamp: trusted.timestamp().map_or(0, |role| role.version),
        snapshot: trusted.snapshot().map_or(0, |role| role.version),
        targets: trusted.targets_role("targets").map_or(0, |role| role.version),
    };
    Ok(Verified { bytes, versions })
}

/// What did not come, where that was it; else the rule that is broken.
fn told(from: &str, error: Error, failure: &LastFailure) -> TrustError {
    let from = from.to_owned();
    match (locked(failure).take(), matches!(error, Error::Transport { .. })) {
        (Some((file, source)), true) => TrustError::Fetch { file, from, source: Box::new(source) },
        _ => TrustError::Refused { from, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_tuf_root_is_signed_by_itself_and_is_what_the_crate_ships() {
        let set = sigstore_tuf::TrustedMetadataSet::from_root(PUBLIC_GOOD_INITIAL.as_bytes()).unwrap();
        assert_eq!(set.root().version, 16);
        assert_eq!(
            oci::Digest::sha256(PUBLIC_GOOD_INITIAL.as_bytes()).hex(),
            "27aea7e372aa7864065174f0661784fcf8b0e28b1dbfebeada31a0f1fb19167f"
        );
    }
}
