//! What was answered under tags: how new it ever was, and the last of it. Apart from the history, whose bound does not touch it.

use oci::{Digest, Repository, Tag, UnixTime};

use super::{
    Snapshot,
    codec::{Decoder, Encoder},
    engine::{Batch, Order},
    table::Table,
    tags::{TagFact, decode_fact, key},
};
use crate::StoreError;

/// Most pieces of evidence that are named with one answer.
const EVIDENCE_MAX: usize = 16;
/// Longest text kept with one answer, in bytes.
const TOLD_BYTES_MAX: usize = 512;

/// How a tag was answered when it was last looked at with one meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagLook {
    /// When.
    pub at: UnixTime,
    /// Whether that meaning was served.
    pub served: bool,
    /// When what it means was signed, on trusted word; none where nobody said.
    pub signed_at: Option<UnixTime>,
    /// By which evidence it was let in: the first sixteen pieces are kept.
    pub evidence: Vec<Digest>,
    /// The refusal or the warning, one line; empty where there was nothing to tell. The first 512 bytes are kept.
    pub told: String,
}

/// What was served under a tag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagServed {
    /// What was signed last of all that was ever served, and when that was signed.
    pub newest: Option<(Digest, UnixTime)>,
    /// What was served, the last first; as many as are kept (`limits.tag_targets_max`).
    pub targets: Vec<TagTarget>,
}

/// An image that was served under a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagTarget {
    /// The image.
    pub digest: Digest,
    /// When it began to be served, the last time.
    pub served_at: UnixTime,
    /// When it was signed, on trusted word.
    pub signed_at: Option<UnixTime>,
}

impl TagLook {
    /// As it is kept.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.evidence.truncate(EVIDENCE_MAX);
        let end = (0..=TOLD_BYTES_MAX.min(self.told.len())).rev().find(|at| self.told.is_char_boundary(*at));
        self.told.truncate(end.unwrap_or(0));
        self
    }
}

impl Snapshot {
    /// What was served under a tag; `None` where nothing ever was. It stays when the tag is gone, and when its images are.
    pub fn tag_served(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagServed>, StoreError> {
        let found = self.get(Table::TagServed, &key(repository, tag).finish())?;
        found.map(|bytes| self.noticed(decode(&bytes))).transpose()
    }

    /// What tags mean, in the order of repository and tag: at most `limit`, from the first one behind `after` on. Fewer than `limit` are
    /// the last.
    pub fn tag_facts(
        &self,
        after: Option<&(Repository, Tag)>,
        limit: usize,
    ) -> Result<Vec<(Repository, Tag, TagFact)>, StoreError> {
        let all = Encoder::default();
        let range = match after {
            Some((repository, tag)) => all.prefix_after(key(repository, tag).finish()),
            None => all.prefix(),
        };
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let mut parts = Decoder::new(Table::Tags, key);
            let (repository, tag) = (parts.repository()?, parts.tag()?);
            parts.finish()?;
            Ok((repository, tag, decode_fact(value)?))
        };
        let entries = self.scan(Table::Tags, range, Order::Ascending, limit)?;
        entries.iter().map(|entry| self.noticed(read(entry))).collect()
    }
}

/// A tag was answered with this image. The floor rises only by what was signed later than all before; one that cannot be read is not
/// replaced by none.
pub(super) fn serve(
    batch: &Batch,
    (repository, tag): (&Repository, &Tag),
    digest: &Digest,
    look: &TagLook,
    targets_max: usize,
) -> Result<(), StoreError> {
    let mut served = known(batch, repository, tag)?.unwrap_or_default();
    let floor = served.newest.as_ref().map(|(_, at)| *at);
    if let Some(signed_at) = look.signed_at.filter(|at| floor.is_none_or(|floor| *at > floor)) {
        served.newest = Some((digest.clone(), signed_at));
    }
    served.targets.retain(|target| target.digest != *digest);
    let target = TagTarget { digest: digest.clone(), served_at: look.at, signed_at: look.signed_at };
    served.targets.insert(0, target);
    served.targets.truncate(targets_max);
    put(batch, repository, tag, &served);
    Ok(())
}

/// How new a tag ever was is forgotten; what it was answered with is not, but where none of it can be read.
pub(super) fn forget_newest(batch: &Batch, repository: &Repository, tag: &Tag) -> Result<(), StoreError> {
    match known(batch, repository, tag) {
        Ok(Some(served)) if served.newest.is_some() => {
            put(batch, repository, tag, &TagServed { newest: None, ..served });
        }
        Ok(_) => {}
        Err(error @ StoreError::FactUnreadable { .. }) => {
            tracing::error!(%repository, %tag, error = %error, "a damaged fact is removed");
            batch.remove(Table::TagServed, &key(repository, tag).finish());
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Whether anything is written down of what was served under a tag, readable or not.
pub(super) fn is_known(batch: &Batch, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
    match known(batch, repository, tag) {
        Ok(served) => Ok(served.is_some()),
        Err(StoreError::FactUnreadable { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn known(batch: &Batch, repository: &Repository, tag: &Tag) -> Result<Option<TagServed>, StoreError> {
    let found = batch.get(Table::TagServed, &key(repository, tag).finish())?;
    found.map(|bytes| decode(&bytes)).transpose()
}

fn put(batch: &Batch, repository: &Repository, tag: &Tag, served: &TagServed) {
    let (digest, at) = match &served.newest {
        Some((digest, at)) => (Some(digest), Some(*at)),
        None => (None, None),
    };
    let mut value = Encoder::default().maybe_time(at);
    if let Some(digest) = digest {
        value = value.digest(digest);
    }
    value = value.number(served.targets.len() as u64);
    for target in &served.targets {
        value = value.digest(&target.digest).time(target.served_at).maybe_time(target.signed_at);
    }
    batch.put(Table::TagServed, &key(repository, tag).finish(), &value.finish());
}

fn decode(bytes: &[u8]) -> Result<TagServed, StoreError> {
    let mut decoder = Decoder::new(Table::TagServed, bytes);
    let newest = match decoder.maybe_time()? {
        Some(at) => Some((decoder.digest()?, at)),
        None => None,
    };
    let count = decoder.number()?;
    let mut targets = Vec::new();
    for _ in 0..count {
        let (digest, served_at, signed_at) = (decoder.digest()?, decoder.time()?, decoder.maybe_time()?);
        targets.push(TagTarget { digest, served_at, signed_at });
    }
    decoder.finish()?;
    Ok(TagServed { newest, targets })
}

/// As a part of the tag's history.
pub(super) fn encode_look(value: Encoder, look: &TagLook) -> Encoder {
    let mut value = value.byte(u8::from(look.served)).time(look.at).maybe_time(look.signed_at);
    value = value.number(look.evidence.len() as u64);
    for digest in &look.evidence {
        value = value.digest(digest);
    }
    value.text(&look.told)
}

pub(super) fn decode_look(decoder: &mut Decoder<'_>) -> Result<TagLook, StoreError> {
    let (served, at, signed_at) = (decoder.byte()? != 0, decoder.time()?, decoder.maybe_time()?);
    let count = decoder.number()?;
    let mut evidence = Vec::new();
    for _ in 0..count {
        evidence.push(decoder.digest()?);
    }
    Ok(TagLook { at, served, signed_at, evidence, told: decoder.text()? })
}
