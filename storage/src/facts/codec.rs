//! How keys and values are spelled in bytes.
//!
//! A key is a row of parts, each of which says where it ends, so no row of parts is the beginning of another with the same shape:
//! names end with a zero byte that their grammar excludes, digests start with a byte for the algorithm, numbers are big-endian so
//! that byte order is number order.

use std::ops::Bound;

use oci::{Algorithm, Digest, Repository, Tag, UnixTime};

use super::{engine::KeyRange, table::Table};
use crate::StoreError;

/// Writes one key or value, part after part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn repository(repository: &Repository) -> Self {
        Self::default().in_repository(repository)
    }

    pub(crate) fn in_repository(self, repository: &Repository) -> Self {
        self.name(&repository.to_string())
    }

    pub(crate) fn tag(self, tag: &Tag) -> Self {
        self.name(tag.as_str())
    }

    /// A name whose grammar excludes the zero byte.
    fn name(mut self, name: &str) -> Self {
        self.0.extend_from_slice(name.as_bytes());
        self.byte(0)
    }

    pub(crate) fn digest(mut self, digest: &Digest) -> Self {
        let raw = hex::decode(digest.hex()).expect("a digest's hex is hex");
        self.0.push(match digest.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        });
        self.0.extend_from_slice(&raw);
        self
    }

    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn number(self, number: u64) -> Self {
        self.raw(&number.to_be_bytes())
    }

    pub(crate) fn time(self, time: UnixTime) -> Self {
        self.number(time.as_millis())
    }

    /// An instant, or none.
    pub(crate) fn maybe_time(self, time: Option<UnixTime>) -> Self {
        self.byte(u8::from(time.is_some())).time(time.unwrap_or(UnixTime::from_millis(0)))
    }

    /// Free text, which may hold any byte; only for values, its order means nothing.
    pub(crate) fn text(self, text: &str) -> Self {
        self.number(text.len() as u64).raw(text.as_bytes())
    }

    /// Bytes whose length the reader knows.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    /// All keys that begin with these parts.
    pub(crate) fn prefix(self) -> KeyRange {
        let end = successor(&self.0);
        (Bound::Included(self.0), end)
    }

    /// All keys that begin with these parts and come before `key`, which does too.
    pub(crate) fn prefix_before(self, key: Vec<u8>) -> KeyRange {
        (Bound::Included(self.0), Bound::Excluded(key))
    }

    /// All keys that begin with these parts and come after `key`, wherever that lies.
    pub(crate) fn prefix_after(self, key: Vec<u8>) -> KeyRange {
        if key.starts_with(&self.0) {
            return (Bound::Excluded(key), successor(&self.0));
        }
        if key < self.0 {
            return self.prefix();
        }
        let nothing = self.0;
        (Bound::Included(nothing.clone()), Bound::Excluded(nothing))
    }
}

/// The first key that does not begin with `prefix`, excluded.
fn successor(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

/// Reads a key or value back, part after part, and refuses what the encoder cannot have written.
pub(crate) struct Decoder<'a> {
    table: Table,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(table: Table, bytes: &'a [u8]) -> Self {
        Self { table, rest: bytes }
    }

    pub(crate) fn unreadable(&self, why: &'static str) -> StoreError {
        StoreError::FactUnreadable { table: self.table.name(), why }
    }

    pub(crate) fn repository(&mut self) -> Result<Repository, StoreError> {
        let name = self.name()?;
        name.parse().map_err(|_| self.unreadable("it names no repository"))
    }

    pub(crate) fn tag(&mut self) -> Result<Tag, StoreError> {
        let name = self.name()?;
        name.parse().map_err(|_| self.unreadable("it names no tag"))
    }

    fn name(&mut self) -> Result<&'a str, StoreError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or_else(|| self.unreadable("a name does not end"))?;
        let name = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(name).map_err(|_| self.unreadable("a name is not text"))
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, StoreError> {
        let (algorithm, length) = match self.byte()? {
            1 => (Algorithm::Sha256, 32),
            2 => (Algorithm::Sha512, 64),
            _ => return Err(self.unreadable("it holds an unknown digest algorithm")),
        };
        let hex = hex::encode(self.take(length)?);
        format!("{algorithm}:{hex}").parse().map_err(|_| self.unreadable("it holds no digest"))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, StoreError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, StoreError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn time(&mut self) -> Result<UnixTime, StoreError> {
        self.number().map(UnixTime::from_millis)
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<UnixTime>, StoreError> {
        let is_there = match self.byte()? {
            0 => false,
            1 => true,
            _ => return Err(self.unreadable("it says neither that there is a time nor that there is none")),
        };
        let time = self.time()?;
        Ok(is_there.then_some(time))
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| self.unreadable("its text is not text"))
    }

    /// Whether nothing follows.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.unreadable("it is too long")) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.unreadable("it is too short"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], StoreError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.unreadable("it is too short"))?;
        self.rest = rest;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
