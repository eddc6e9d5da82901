//! What tags mean, meant, and when that was last heard.

use oci::{Digest, Repository, Tag, UnixTime};

use super::{
    Snapshot,
    codec::{Decoder, Encoder},
    engine::{Batch, Order},
    served::{self, TagLook},
    table::Table,
    verdicts,
};
use crate::StoreError;

/// What a tag means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFact {
    /// What upstream last said it means.
    pub digest: Digest,
    /// Since when it has meant that, as far as we saw.
    pub seen_at: UnixTime,
    /// When upstream last said anything about it.
    pub checked_at: UnixTime,
    /// When upstream said that it is no more.
    pub gone_at: Option<UnixTime>,
}

/// A tag took on a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagEvent {
    /// What it meant from then on.
    pub digest: Digest,
    /// When we saw that.
    pub at: UnixTime,
    /// How it was answered when it was last looked at with that meaning; none where nobody looked.
    pub look: Option<TagLook>,
}

/// How much is kept of each tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct TagBounds {
    /// Tags in all. What is known of them goes on; one that is not is not written down.
    pub tags: usize,
    /// Events of its history.
    pub history: usize,
    /// Images that it was answered with.
    pub targets: usize,
}

impl Snapshot {
    /// What a tag means.
    pub fn tag(&self, repository: &Repository, tag: &Tag) -> Result<Option<TagFact>, StoreError> {
        let found = self.get(Table::Tags, &key(repository, tag).finish())?;
        found.map(|bytes| self.noticed(decode_fact(&bytes))).transpose()
    }

    /// How many tags are known, in all repositories. sled has to walk through them.
    pub fn tags_count(&self) -> Result<usize, StoreError> {
        self.count(Table::Tags)
    }

    /// The tags that are known in a repository, at most `limit`.
    pub fn tags(&self, repository: &Repository, limit: usize) -> Result<Vec<(Tag, TagFact)>, StoreError> {
        let entries = self.scan(Table::Tags, Encoder::repository(repository).prefix(), Order::Ascending, limit)?;
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let mut parts = Decoder::new(Table::Tags, key);
            parts.repository()?;
            let tag = parts.tag()?;
            parts.finish()?;
            Ok((tag, decode_fact(value)?))
        };
        entries.iter().map(|entry| self.noticed(read(entry))).collect()
    }

    /// What a tag has meant, the newest first; as many as are kept (`limits.tag_history_max`).
    pub fn tag_history(&self, repository: &Repository, tag: &Tag) -> Result<Vec<TagEvent>, StoreError> {
        let range = key(repository, tag).prefix();
        let entries = self.scan(Table::TagHistory, range, Order::Descending, usize::MAX)?;
        entries.iter().map(|(_, bytes)| self.noticed(decode_event(bytes))).collect()
    }
}

pub(super) fn set(
    batch: &Batch,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
    at: UnixTime,
    bounds: TagBounds,
) -> Result<(), StoreError> {
    let known = known(batch, repository, tag);
    if matches!(known, Ok(None)) && is_full(batch, bounds)? {
        return Ok(());
    }
    let known =
        verdicts::unless_damaged(repository, known)?.filter(|fact| fact.digest == *digest && fact.gone_at.is_none());
    if known.is_none() {
        remember(batch, repository, tag, digest, at, bounds.history)?;
    }
    let fact = TagFact {
        digest: digest.clone(),
        seen_at: known.map_or(at, |fact| fact.seen_at),
        checked_at: at,
        gone_at: None,
    };
    put(batch, repository, tag, &fact);
    Ok(())
}

pub(super) fn checked(batch: &Batch, repository: &Repository, tag: &Tag, at: UnixTime) -> Result<(), StoreError> {
    match known(batch, repository, tag)? {
        Some(mut fact) if fact.gone_at.is_none() => {
            fact.checked_at = at;
            put(batch, repository, tag, &fact);
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn gone(batch: &Batch, repository: &Repository, tag: &Tag, at: UnixTime) -> Result<(), StoreError> {
    match known(batch, repository, tag)? {
        Some(mut fact) if fact.gone_at.is_none() => {
            fact.checked_at = at;
            fact.gone_at = Some(at);
            put(batch, repository, tag, &fact);
        }
        _ => {}
    }
    Ok(())
}

/// A tag was looked at with this meaning. It is noted with the newest event of that meaning, where one is kept.
pub(super) fn looked(
    batch: &Batch,
    (repository, tag): (&Repository, &Tag),
    digest: &Digest,
    look: &TagLook,
    bounds: TagBounds,
) -> Result<(), StoreError> {
    let look = look.clone().bounded();
    let is_new = matches!(known(batch, repository, tag), Ok(None)) && !served::is_known(batch, repository, tag)?;
    if is_new && is_full(batch, bounds)? {
        return Ok(());
    }
    if look.served {
        served::serve(batch, (repository, tag), digest, &look, bounds.targets)?;
    }
    let entries = batch.keys(Table::TagHistory, &key(repository, tag).prefix(), usize::MAX)?;
    for entry in entries.iter().rev() {
        let event = batch.get(Table::TagHistory, entry);
        let event = event.and_then(|found| found.map(|bytes| decode_event(&bytes)).transpose());
        match verdicts::unless_damaged(repository, event)? {
            Some(event) if event.digest == *digest => {
                let event = TagEvent { look: Some(look), ..event };
                batch.put(Table::TagHistory, entry, &encode_event(&event));
                break;
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// A tag that never served anything, and of which nobody has asked since, is forgotten with its history.
pub(super) fn forget(batch: &Batch, repository: &Repository, tag: &Tag, since: UnixTime) -> Result<(), StoreError> {
    let fact = known(batch, repository, tag);
    let is_old = verdicts::unless_damaged(repository, fact)?.is_none_or(|fact| fact.checked_at < since);
    if is_old && !served::is_known(batch, repository, tag)? {
        for entry in batch.keys(Table::TagHistory, &key(repository, tag).prefix(), usize::MAX)? {
            batch.remove(Table::TagHistory, &entry);
        }
        batch.remove(Table::Tags, &key(repository, tag).finish());
    }
    Ok(())
}

/// Whether no tag can be written down that is not known.
fn is_full(batch: &Batch, bounds: TagBounds) -> Result<bool, StoreError> {
    Ok(batch.count(Table::Tags)? >= bounds.tags)
}

fn known(batch: &Batch, repository: &Repository, tag: &Tag) -> Result<Option<TagFact>, StoreError> {
    let found = batch.get(Table::Tags, &key(repository, tag).finish())?;
    found.map(|bytes| decode_fact(&bytes)).transpose()
}

fn put(batch: &Batch, repository: &Repository, tag: &Tag, fact: &TagFact) {
    let value = Encoder::default()
        .digest(&fact.digest)
        .time(fact.seen_at)
        .time(fact.checked_at)
        .byte(u8::from(fact.gone_at.is_some()))
        .time(fact.gone_at.unwrap_or(UnixTime::from_millis(0)))
        .finish();
    batch.put(Table::Tags, &key(repository, tag).finish(), &value);
}

/// Appends to the history and drops what is older than the newest `history_max`. Numbered, not dated: clocks go backwards.
fn remember(
    batch: &Batch,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
    at: UnixTime,
    history_max: usize,
) -> Result<(), StoreError> {
    let all = || key(repository, tag).prefix();
    let newest = batch.last_key(Table::TagHistory, all())?;
    let number = match &newest {
        Some(key) => number_in(repository, tag, key)?.saturating_add(1),
        None => 0,
    };
    let event = TagEvent { digest: digest.clone(), at, look: None };
    let entry = key(repository, tag).number(number).finish();
    batch.put(Table::TagHistory, &entry, &encode_event(&event));
    let kept = u64::try_from(history_max).unwrap_or(u64::MAX);
    while let Some(oldest) = batch.first_key(Table::TagHistory, all())? {
        if number - number_in(repository, tag, &oldest)?.min(number) < kept {
            break;
        }
        batch.remove(Table::TagHistory, &oldest);
    }
    Ok(())
}

fn number_in(repository: &Repository, tag: &Tag, entry: &[u8]) -> Result<u64, StoreError> {
    let prefix = key(repository, tag).finish();
    let rest = entry.strip_prefix(prefix.as_slice()).unwrap_or_default();
    let mut decoder = Decoder::new(Table::TagHistory, rest);
    let number = decoder.number()?;
    decoder.finish()?;
    Ok(number)
}

pub(super) fn key(repository: &Repository, tag: &Tag) -> Encoder {
    Encoder::repository(repository).tag(tag)
}

pub(super) fn decode_fact(bytes: &[u8]) -> Result<TagFact, StoreError> {
    let mut decoder = Decoder::new(Table::Tags, bytes);
    let digest = decoder.digest()?;
    let (seen_at, checked_at) = (decoder.time()?, decoder.time()?);
    let gone = decoder.byte()? != 0;
    let gone_at = Some(decoder.time()?).filter(|_| gone);
    decoder.finish()?;
    Ok(TagFact { digest, seen_at, checked_at, gone_at })
}

/// Where nobody looked, it ends early: so it was written by builds that did not know of looks.
fn encode_event(event: &TagEvent) -> Vec<u8> {
    let value = Encoder::default().digest(&event.digest).time(event.at);
    match &event.look {
        Some(look) => served::encode_look(value, look),
        None => value,
    }
    .finish()
}

fn decode_event(bytes: &[u8]) -> Result<TagEvent, StoreError> {
    let mut decoder = Decoder::new(Table::TagHistory, bytes);
    let (digest, at) = (decoder.digest()?, decoder.time()?);
    let look = if decoder.is_at_end() { None } else { Some(served::decode_look(&mut decoder)?) };
    decoder.finish()?;
    Ok(TagEvent { digest, at, look })
}
