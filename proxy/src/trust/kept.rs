//! `<storage>/trust/<source>.kept`: the last good trust root, and the TUF metadata that must not be rolled back, in one file, so that
//! they never disagree.
//!
//! The first line holds the SHA-256 of the rest. That is against rot, not against people: who can write here decides what is served
//! anyway, and the store refuses a directory that others can write to. TUF metadata are verified again at each refresh besides.

use std::collections::BTreeMap;

use config::{ConfigError, Settings};
use oci::{Digest, UnixTime};
use serde::{Deserialize, Serialize};
use storage::{StoreError, TrustDirectory, TrustLock};

use super::{error::TrustError, tuf::INITIAL_BYTES_MAX};

/// Another form of the file has another first word.
const FORMAT: &str = "pratique-trust-1";
/// Several times what TUF's own limits let through.
const BYTES_MAX: u64 = 32 << 20;

/// Everything that is kept of one source.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The last good trust root; `None` where there are only metadata so far.
    pub(super) root: Option<KeptRoot>,
    /// TUF metadata by the names that `sigstore_tuf` gives them.
    pub(super) metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptRoot {
    pub(super) text: String,
    pub(super) as_of: UnixTime,
    pub(super) from: Provenance,
}

/// How a kept trust root came here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Provenance {
    Refreshed(String),
    Imported(String),
}

/// Where one source's file is.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    directory: TrustDirectory,
    name: String,
}

/// The same, with the right to change it.
pub(super) struct Held {
    keeper: Keeper,
    lock: TrustLock,
}

impl Keeper {
    /// That of the configured source; `None` where nothing is kept, because the trust root is a file without a TUF repository.
    ///
    /// Another source, told by the TUF root it begins with, has another file: a store is never made to trust what was kept for
    /// somebody else.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let Some(refresh) = &settings.policy.trust_root_refresh else { return Ok(None) };
        let name = match &refresh.initial {
            None => "public-good.kept".to_owned(),
            Some(path) => {
                let digest = Digest::sha256(config::read_text(path, INITIAL_BYTES_MAX)?.as_bytes());
                format!("private-{}.kept", digest.hex().get(..16).unwrap_or_default())
            }
        };
        Ok(Some(Self { directory: TrustDirectory::of(&settings.storage.path), name }))
    }

    /// What is kept; a damaged file is set aside, told, and taken for none. Blocks.
    pub(super) fn read(&self) -> Result<Option<Kept>, TrustError> {
        match self.parsed() {
            // Looked at again under the lock: somebody may have put a good one there.
            Err(TrustError::Damaged { .. }) => self.hold()?.read(),
            other => other,
        }
    }

    fn parsed(&self) -> Result<Option<Kept>, TrustError> {
        let Some(bytes) = self.directory.load(&self.name, BYTES_MAX)? else { return Ok(None) };
        let damaged = |why| TrustError::Damaged { path: self.directory.path().join(&self.name), why };
        decode(&bytes).map(Some).map_err(damaged)
    }

    /// Takes the lock. Blocks, but waits for nobody.
    pub(super) fn hold(&self) -> Result<Held, TrustError> {
        match self.directory.lock() {
            Ok(lock) => Ok(Held { keeper: self.clone(), lock }),
            Err(StoreError::Locked { .. }) => Err(TrustError::Busy),
            Err(error) => Err(error.into()),
        }
    }
}

impl Held {
    /// As [`Keeper::read`].
    pub(super) fn read(&self) -> Result<Option<Kept>, TrustError> {
        match self.keeper.parsed() {
            Err(TrustError::Damaged { path, why }) => {
                let moved_to = self.lock.set_aside(&self.keeper.name)?;
                tracing::error!(
                    path = %path.display(),
                    moved_to = %moved_to.display(),
                    "what is kept of the trust root is damaged ({why}): it was set aside, and is not used"
                );
                Ok(None)
            }
            other => other,
        }
    }

    /// Writes all of it, durably. Blocks.
    pub(super) fn keep(&self, kept: &Kept) -> Result<(), TrustError> {
        Ok(self.lock.keep(&self.keeper.name, &encode(kept))?)
    }
}

fn encode(kept: &Kept) -> Vec<u8> {
    let body = serde_json::to_vec(kept).expect("strings and numbers are JSON");
    let mut bytes = format!("{FORMAT} {}\n", Digest::sha256(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Kept, String> {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(head), Some(body)) = (parts.next(), parts.next()) else {
        return Err("it has no first line".to_owned());
    };
    let want = format!("{FORMAT} {}", Digest::sha256(body));
    if head != want.as_bytes() {
        return Err("its content is not what its first line says".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let root = KeptRoot {
            text: "{\"a\":\n1}".to_owned(),
            as_of: UnixTime::from_millis(7),
            from: Provenance::Refreshed("https://tuf.example".to_owned()),
        };
        Kept { root: Some(root), metadata: BTreeMap::from([("timestamp.json".to_owned(), "{}".to_owned())]) }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(decode(&encode(&kept())), Ok(kept()));
        assert_eq!(decode(&encode(&Kept::default())), Ok(Kept::default()));
    }

    #[test]
    fn what_was_changed_or_cut_anywhere_is_damaged() {
        let good = encode(&kept());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "changed at {at}");
            assert!(decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
