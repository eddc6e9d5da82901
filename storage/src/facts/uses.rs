//! When images were last used, in the order of that, and which of them are pinned.

use oci::{Digest, Repository, UnixTime};

use super::{
    Snapshot,
    codec::{Decoder, Encoder},
    engine::{Batch, KeyRange, Order},
    links::{self, EdgeKind},
    table::Table,
    verdicts,
};
use crate::StoreError;

/// Before all uses.
const NEVER: UnixTime = UnixTime::from_millis(0);
/// Indexes within indexes that a use is counted for.
const INDEXES_MAX: usize = 4;

/// A manifest in a repository, and when it was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Of the manifest.
    pub repository: Repository,
    /// Of the manifest.
    pub digest: Digest,
    /// When it was last served, or first met; the beginning of time where it was decided on and never served.
    pub used_at: UnixTime,
    /// It stays whatever the budgets say.
    pub pinned: bool,
}

impl Snapshot {
    /// When a manifest was last used in a repository; `None` where that is not known to have it.
    pub fn usage(&self, repository: &Repository, digest: &Digest) -> Result<Option<Usage>, StoreError> {
        let found = self.get(Table::Uses, &key(repository, digest))?;
        let usage =
            |(used_at, pinned)| Usage { repository: repository.clone(), digest: digest.clone(), used_at, pinned };
        found.map(|bytes| self.noticed(decode(&bytes)).map(usage)).transpose()
    }

    /// The repositories that are known to have a manifest, at most `limit` of them.
    pub fn usages(&self, digest: &Digest, limit: usize) -> Result<Vec<Usage>, StoreError> {
        let entries = self.scan(Table::Uses, Encoder::default().digest(digest).prefix(), Order::Ascending, limit)?;
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let mut parts = Decoder::new(Table::Uses, key);
            let (digest, repository) = (parts.digest()?, parts.repository()?);
            parts.finish()?;
            let (used_at, pinned) = decode(value)?;
            Ok(Usage { repository, digest, used_at, pinned })
        };
        entries.iter().map(|entry| self.noticed(read(entry))).collect()
    }

    /// Manifests, the least recently used first: at most `limit`, from the first one behind `after` on. Fewer than `limit` are the last.
    pub fn least_recently_used(&self, after: Option<&Usage>, limit: usize) -> Result<Vec<Usage>, StoreError> {
        let all = Encoder::default();
        let range = match after {
            Some(usage) => all.prefix_after(order_key(usage.used_at, &usage.repository, &usage.digest)),
            None => all.prefix(),
        };
        self.by_use(range, Order::Ascending, limit)
    }

    /// Manifests, the most recently used first: at most `limit`, from the first one ahead of `before` on. Fewer than `limit` are the last.
    pub fn most_recently_used(&self, before: Option<&Usage>, limit: usize) -> Result<Vec<Usage>, StoreError> {
        let all = Encoder::default();
        let range = match before {
            Some(usage) => all.prefix_before(order_key(usage.used_at, &usage.repository, &usage.digest)),
            None => all.prefix(),
        };
        self.by_use(range, Order::Descending, limit)
    }

    fn by_use(&self, range: KeyRange, order: Order, limit: usize) -> Result<Vec<Usage>, StoreError> {
        let entries = self.scan(Table::Oldest, range, order, limit)?;
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let mut parts = Decoder::new(Table::Oldest, key);
            let (used_at, digest, repository) = (parts.time()?, parts.digest()?, parts.repository()?);
            parts.finish()?;
            Ok(Usage { repository, digest, used_at, pinned: decode_pinned(value)? })
        };
        entries.iter().map(|entry| self.noticed(read(entry))).collect()
    }
}

/// A manifest was met: it counts as used, unless its use is known already.
pub(super) fn met(batch: &Batch, repository: &Repository, digest: &Digest, at: UnixTime) -> Result<(), StoreError> {
    if known(batch, repository, digest)?.is_none() {
        put(batch, repository, digest, at, false);
    }
    Ok(())
}

/// A manifest that was met then counts as never used, unless it was used since.
pub(super) fn never(batch: &Batch, repository: &Repository, digest: &Digest, met: UnixTime) -> Result<(), StoreError> {
    if let Some((used_at, pinned)) = known(batch, repository, digest)?
        && used_at == met
    {
        batch.remove(Table::Oldest, &order_key(used_at, repository, digest));
        put(batch, repository, digest, NEVER, pinned);
    }
    Ok(())
}

/// A manifest that is known was used, and with it the indexes that list it.
pub(super) fn used(batch: &Batch, repository: &Repository, digest: &Digest, at: UnixTime) -> Result<(), StoreError> {
    used_within(batch, repository, digest, at, 0)
}

fn used_within(
    batch: &Batch,
    repository: &Repository,
    digest: &Digest,
    at: UnixTime,
    depth: usize,
) -> Result<(), StoreError> {
    let Some((used_at, pinned)) = known(batch, repository, digest)? else { return Ok(()) };
    if used_at < at {
        batch.remove(Table::Oldest, &order_key(used_at, repository, digest));
        put(batch, repository, digest, at, pinned);
    }
    if depth >= INDEXES_MAX {
        return Ok(());
    }
    links::parents_in(batch, repository, digest, EdgeKind::Child)?
        .try_for_each(|index| used_within(batch, repository, &index, at, depth + 1))
}

/// Pins a manifest that is known, or lets it go again: it then counts as used at `at`.
pub(super) fn pin(
    batch: &Batch,
    repository: &Repository,
    digest: &Digest,
    pinned: bool,
    at: UnixTime,
) -> Result<(), StoreError> {
    let Some((used_at, _)) = known(batch, repository, digest)? else { return Ok(()) };
    batch.remove(Table::Oldest, &order_key(used_at, repository, digest));
    put(batch, repository, digest, used_at.max(at), pinned);
    Ok(())
}

pub(super) fn is_pinned(batch: &Batch, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
    Ok(known(batch, repository, digest)?.is_some_and(|(_, pinned)| pinned))
}

pub(super) fn forget(batch: &Batch, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
    let Some((used_at, _)) = known(batch, repository, digest)? else { return Ok(()) };
    batch.remove(Table::Oldest, &order_key(used_at, repository, digest));
    batch.remove(Table::Uses, &key(repository, digest));
    Ok(())
}

fn known(batch: &Batch, repository: &Repository, digest: &Digest) -> Result<Option<(UnixTime, bool)>, StoreError> {
    let found = batch.get(Table::Uses, &key(repository, digest));
    verdicts::unless_damaged(repository, found.and_then(|found| found.map(|bytes| decode(&bytes)).transpose()))
}

fn put(batch: &Batch, repository: &Repository, digest: &Digest, at: UnixTime, pinned: bool) {
    let pinned = u8::from(pinned);
    let value = Encoder::default().time(at).byte(pinned).finish();
    batch.put(Table::Uses, &key(repository, digest), &value);
    batch.put(Table::Oldest, &order_key(at, repository, digest), &[pinned]);
}

/// The digest first: who has a manifest is asked of all repositories.
fn key(repository: &Repository, digest: &Digest) -> Vec<u8> {
    Encoder::default().digest(digest).in_repository(repository).finish()
}

fn order_key(at: UnixTime, repository: &Repository, digest: &Digest) -> Vec<u8> {
    Encoder::default().time(at).digest(digest).in_repository(repository).finish()
}

fn decode(bytes: &[u8]) -> Result<(UnixTime, bool), StoreError> {
    let mut decoder = Decoder::new(Table::Uses, bytes);
    let usage = (decoder.time()?, decoder.byte()? != 0);
    decoder.finish()?;
    Ok(usage)
}

fn decode_pinned(bytes: &[u8]) -> Result<bool, StoreError> {
    let mut decoder = Decoder::new(Table::Oldest, bytes);
    let pinned = decoder.byte()? != 0;
    decoder.finish()?;
    Ok(pinned)
}
