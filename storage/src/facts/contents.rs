//! What is in the store: each blob's kind and size, and the sums, so that nobody need walk the directory to know them.

use oci::{Digest, Repository};

use super::{
    Snapshot,
    codec::{Decoder, Encoder},
    engine::{Batch, Order},
    links,
    table::Table,
    verdicts,
};
use crate::StoreError;

const TOTALS_KEY: &[u8] = b"totals";

/// Which budget a blob is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentClass {
    /// Layers of images.
    Layer,
    /// Manifests, configs and evidence.
    Metadata,
}

/// A blob that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// What it is.
    pub class: ContentClass,
    /// Its size, bytes.
    pub size: u64,
}

/// How much is in the store of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Blobs.
    pub blobs: u64,
    /// Their sizes together, bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.blobs = self.blobs.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// How much is in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Layers of images.
    pub layers: Amount,
    /// Manifests, configs and evidence.
    pub metadata: Amount,
}

impl Totals {
    /// The sum of one class.
    #[must_use]
    pub fn of(&self, class: ContentClass) -> Amount {
        match class {
            ContentClass::Layer => self.layers,
            ContentClass::Metadata => self.metadata,
        }
    }

    fn of_mut(&mut self, class: ContentClass) -> &mut Amount {
        match class {
            ContentClass::Layer => &mut self.layers,
            ContentClass::Metadata => &mut self.metadata,
        }
    }
}

impl Snapshot {
    /// What is known of a blob; `None` where it is not known to be in the store. The blob itself has the last word.
    pub fn content(&self, digest: &Digest) -> Result<Option<Content>, StoreError> {
        let found = self.get(Table::Contents, &key(digest))?;
        found.map(|bytes| self.noticed(decode(&bytes))).transpose()
    }

    /// The blobs that are known to be in the store, in the order of their digests: at most `limit`, from the first one behind `after` on.
    /// Fewer than `limit` are the last.
    pub fn contents(&self, after: Option<&Digest>, limit: usize) -> Result<Vec<(Digest, Content)>, StoreError> {
        let range = match after {
            Some(digest) => Encoder::default().prefix_after(key(digest)),
            None => Encoder::default().prefix(),
        };
        let entries = self.scan(Table::Contents, range, Order::Ascending, limit)?;
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| Ok((decode_key(key)?, decode(value)?));
        entries.iter().map(|entry| self.noticed(read(entry))).collect()
    }

    /// How much is known to be in the store.
    pub fn totals(&self) -> Result<Totals, StoreError> {
        let found = self.get(Table::Meta, TOTALS_KEY)?;
        found.map_or(Ok(Totals::default()), |bytes| self.noticed(decode_totals(&bytes)))
    }
}

/// A blob is in the store. Without a class it is what the edges to it say.
pub(super) fn stored(batch: &Batch, digest: &Digest, size: u64, class: Option<ContentClass>) -> Result<(), StoreError> {
    let class = match class {
        Some(class) => class,
        // What nobody points at was found in the directory; if it counts for anything, it is large.
        None => links::class(batch, digest)?.unwrap_or(ContentClass::Layer),
    };
    replace(batch, digest, Some(Content { class, size }))
}

/// The first edge leads to a blob. One that lay here and nobody knew was counted as a layer; what was stored as anything else is that.
pub(super) fn reached(batch: &Batch, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
    let known = batch.get(Table::Contents, &key(digest));
    let known = known.and_then(|found| found.map(|bytes| decode(&bytes)).transpose());
    let Some(Content { class: ContentClass::Layer, size }) = verdicts::unless_damaged(repository, known)? else {
        return Ok(());
    };
    stored(batch, digest, size, None)
}

/// A blob is no more in the store.
pub(super) fn gone(batch: &Batch, digest: &Digest) -> Result<(), StoreError> {
    replace(batch, digest, None)
}

fn replace(batch: &Batch, digest: &Digest, new: Option<Content>) -> Result<(), StoreError> {
    let key = key(digest);
    let known = batch.get(Table::Contents, &key)?.map(|bytes| decode(&bytes)).transpose()?;
    if known == new {
        return Ok(());
    }
    let mut totals =
        batch.get(Table::Meta, TOTALS_KEY)?.map(|bytes| decode_totals(&bytes)).transpose()?.unwrap_or_default();
    if let Some(old) = known {
        let amount = totals.of_mut(old.class);
        amount.blobs = amount.blobs.saturating_sub(1);
        amount.bytes = amount.bytes.saturating_sub(old.size);
    }
    match new {
        Some(content) => {
            totals.of_mut(content.class).add(content.size);
            batch.put(Table::Contents, &key, &encode(content));
        }
        None => batch.remove(Table::Contents, &key),
    }
    let encoded = [totals.layers, totals.metadata]
        .iter()
        .fold(Encoder::default(), |encoder, amount| encoder.number(amount.blobs).number(amount.bytes));
    batch.put(Table::Meta, TOTALS_KEY, &encoded.finish());
    Ok(())
}

fn key(digest: &Digest) -> Vec<u8> {
    Encoder::default().digest(digest).finish()
}

fn encode(content: Content) -> Vec<u8> {
    let code = match content.class {
        ContentClass::Layer => 1,
        ContentClass::Metadata => 2,
    };
    Encoder::default().byte(code).number(content.size).finish()
}

fn decode_key(bytes: &[u8]) -> Result<Digest, StoreError> {
    let mut decoder = Decoder::new(Table::Contents, bytes);
    let digest = decoder.digest()?;
    decoder.finish()?;
    Ok(digest)
}

fn decode(bytes: &[u8]) -> Result<Content, StoreError> {
    let mut decoder = Decoder::new(Table::Contents, bytes);
    let class = match decoder.byte()? {
        1 => ContentClass::Layer,
        2 => ContentClass::Metadata,
        _ => return Err(decoder.unreadable("it holds an unknown class of content")),
    };
    let content = Content { class, size: decoder.number()? };
    decoder.finish()?;
    Ok(content)
}

fn decode_totals(bytes: &[u8]) -> Result<Totals, StoreError> {
    let mut decoder = Decoder::new(Table::Meta, bytes);
    let mut amount = || Ok::<_, StoreError>(Amount { blobs: decoder.number()?, bytes: decoder.number()? });
    let totals = Totals { layers: amount()?, metadata: amount()? };
    decoder.finish()?;
    Ok(totals)
}
