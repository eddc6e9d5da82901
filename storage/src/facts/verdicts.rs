//! What a repository has, what was decided on it, and which evidence was collected. Verdicts and notes are bytes to the store.

use oci::{Digest, Repository, UnixTime};

use super::{
    Snapshot,
    codec::{Decoder, Encoder},
    engine::{Batch, Order},
    table::Table,
};
use crate::StoreError;

/// What is known of a manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFact {
    /// Under which media type it is served.
    pub media_type: String,
    /// Its size, bytes.
    pub size: u64,
    /// When it was first met in that repository.
    pub first_seen: UnixTime,
}

impl Snapshot {
    /// What is known of a manifest; `None` where that repository is not known to have it.
    pub fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Option<ManifestFact>, StoreError> {
        let found = self.get(Table::Manifests, &key(repository, digest).finish())?;
        found.map(|bytes| self.noticed(decode_manifest(&bytes))).transpose()
    }

    /// The manifests that are known, in the order of repository and digest: at most `limit`, from the first one behind `after` on.
    /// Fewer than `limit` are the last.
    pub fn manifests(
        &self,
        after: Option<&(Repository, Digest)>,
        limit: usize,
    ) -> Result<Vec<(Repository, Digest)>, StoreError> {
        let all = Encoder::default();
        let range = match after {
            Some((repository, digest)) => all.prefix_after(key(repository, digest).finish()),
            None => all.prefix(),
        };
        let entries = self.scan(Table::Manifests, range, Order::Ascending, limit)?;
        entries.iter().map(|(key, _)| self.noticed(decode_key(key))).collect()
    }

    /// What was decided on a manifest under this fingerprint. Whether it still holds is for the reader to judge.
    pub fn verdict(
        &self,
        repository: &Repository,
        digest: &Digest,
        fingerprint: &[u8; 32],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key(repository, digest).raw(fingerprint).finish();
        self.get(Table::Verdicts, &key)
    }

    /// The note on which evidence of a manifest was collected.
    pub fn evidence(&self, repository: &Repository, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(Table::Evidence, &key(repository, digest).finish())
    }
}

pub(super) fn set_manifest(
    batch: &Batch,
    repository: &Repository,
    digest: &Digest,
    fact: &ManifestFact,
) -> Result<(), StoreError> {
    let key = key(repository, digest).finish();
    let known = batch.get(Table::Manifests, &key);
    let known = known.and_then(|found| found.map(|bytes| decode_manifest(&bytes)).transpose());
    let first_seen = unless_damaged(repository, known)?.map_or(fact.first_seen, |it| it.first_seen);
    let value = Encoder::default().text(&fact.media_type).number(fact.size).time(first_seen).finish();
    batch.put(Table::Manifests, &key, &value);
    Ok(())
}

pub(super) fn set_verdict(
    batch: &Batch,
    repository: &Repository,
    digest: &Digest,
    fingerprint: &[u8; 32],
    bytes: &[u8],
) {
    let key = key(repository, digest).raw(fingerprint).finish();
    batch.put(Table::Verdicts, &key, bytes);
}

pub(super) fn set_evidence(batch: &Batch, repository: &Repository, digest: &Digest, bytes: &[u8]) {
    let key = key(repository, digest).finish();
    batch.put(Table::Evidence, &key, bytes);
}

/// What was known, unless it is damaged: it must not stand in the way of the fresh fact that replaces it.
pub(super) fn unless_damaged<T>(
    repository: &Repository,
    known: Result<Option<T>, StoreError>,
) -> Result<Option<T>, StoreError> {
    match known {
        Err(error @ StoreError::FactUnreadable { .. }) => {
            tracing::error!(repository = %repository, error = %error, "a damaged fact is replaced");
            Ok(None)
        }
        known => known,
    }
}

fn key(repository: &Repository, digest: &Digest) -> Encoder {
    Encoder::repository(repository).digest(digest)
}

fn decode_key(bytes: &[u8]) -> Result<(Repository, Digest), StoreError> {
    let mut decoder = Decoder::new(Table::Manifests, bytes);
    let key = (decoder.repository()?, decoder.digest()?);
    decoder.finish()?;
    Ok(key)
}

fn decode_manifest(bytes: &[u8]) -> Result<ManifestFact, StoreError> {
    let mut decoder = Decoder::new(Table::Manifests, bytes);
    let fact = ManifestFact { media_type: decoder.text()?, size: decoder.number()?, first_seen: decoder.time()? };
    decoder.finish()?;
    Ok(fact)
}
