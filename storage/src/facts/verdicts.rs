//! What a repository has, what was decided on it, and which evidence was collected. Verdicts and notes are bytes to the store.

use oci::{Digest, Repository, UnixTime};

use super::{
    Snapshot,
    codec::{Decoder, Encoder},
    engine::{Batch, Order},
    links,
    table::Table,
    uses,
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

/// A subject in its repository, and the note on its evidence.
pub type EvidenceNote = ((Repository, Digest), Vec<u8>);

/// A fingerprint, and the record under it.
pub type StoredVerdict = ([u8; 32], Vec<u8>);

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

    /// All that was decided on a manifest, by fingerprint: at most `limit` verdicts.
    pub fn verdicts(
        &self,
        repository: &Repository,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let prefix = key(repository, digest).finish();
        let entries = self.scan(Table::Verdicts, key(repository, digest).prefix(), Order::Ascending, limit)?;
        let split = |(key, value): (Vec<u8>, Vec<u8>)| {
            let fingerprint = key.strip_prefix(prefix.as_slice()).and_then(|rest| rest.try_into().ok());
            let why = "its key holds no fingerprint";
            let fingerprint = fingerprint.ok_or(StoreError::FactUnreadable { table: Table::Verdicts.name(), why })?;
            Ok((fingerprint, value))
        };
        entries.into_iter().map(|entry| self.noticed(split(entry))).collect()
    }

    /// The notes on evidence, in the order of repository and digest: at most `limit`, from the first one behind `after` on. Fewer than
    /// `limit` are the last.
    pub fn evidence_notes(
        &self,
        after: Option<&(Repository, Digest)>,
        limit: usize,
    ) -> Result<Vec<EvidenceNote>, StoreError> {
        let all = Encoder::default();
        let range = match after {
            Some((repository, digest)) => all.prefix_after(key(repository, digest).finish()),
            None => all.prefix(),
        };
        let entries = self.scan(Table::Evidence, range, Order::Ascending, limit)?;
        entries.into_iter().map(|(key, note)| self.noticed(decode_key(&key)).map(|subject| (subject, note))).collect()
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
    uses::met(batch, repository, digest, first_seen)
}

/// Counts a manifest that was met and not served as never used.
pub(super) fn unserved(batch: &Batch, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
    let known = batch.get(Table::Manifests, &key(repository, digest).finish());
    let known = known.and_then(|found| found.map(|bytes| decode_manifest(&bytes)).transpose());
    match unless_damaged(repository, known)? {
        Some(fact) => uses::never(batch, repository, digest, fact.first_seen),
        None => Ok(()),
    }
}

/// Counts a manifest that is written down as used when it was first seen.
pub(super) fn meet(batch: &Batch, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let (repository, digest) = decode_key(key)?;
    uses::met(batch, &repository, &digest, decode_manifest(value)?.first_seen)
}

/// Forgets a manifest of a repository with all that was decided on it, collected about it, and that it points at.
pub(super) fn forget(batch: &Batch, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
    for verdict in batch.keys(Table::Verdicts, &key(repository, digest).prefix(), usize::MAX)? {
        batch.remove(Table::Verdicts, &verdict);
    }
    batch.remove(Table::Evidence, &key(repository, digest).finish());
    links::forget(batch, repository, digest)?;
    uses::forget(batch, repository, digest)?;
    batch.remove(Table::Manifests, &key(repository, digest).finish());
    Ok(())
}

pub(super) fn forget_verdict(batch: &Batch, repository: &Repository, digest: &Digest, fingerprint: &[u8; 32]) {
    batch.remove(Table::Verdicts, &key(repository, digest).raw(fingerprint).finish());
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
