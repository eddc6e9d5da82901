//! That facts were lost once. What nothing reaches then may be what they knew, and comes back into use when manifests come back.

use oci::UnixTime;

use super::{Snapshot, codec::Decoder, codec::Encoder, engine::Batch, table::Table};
use crate::StoreError;

const KEY: &[u8] = b"lost";

/// The facts of this store were lost, and blobs that no manifest reaches are kept for their return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// When that was first noticed, which is when a server first compared facts and directory; `None` before.
    pub noticed_at: Option<UnixTime>,
}

impl Snapshot {
    /// Whether the facts were lost, and blobs are kept for that.
    pub fn loss(&self) -> Result<Option<Loss>, StoreError> {
        self.get(Table::Meta, KEY)?.map(|bytes| self.noticed(decode(&bytes))).transpose()
    }
}

pub(super) fn set(batch: &Batch, loss: Option<Loss>) {
    match loss {
        Some(Loss { noticed_at: None }) => batch.put(Table::Meta, KEY, &[]),
        Some(Loss { noticed_at: Some(at) }) => batch.put(Table::Meta, KEY, &Encoder::default().time(at).finish()),
        None => batch.remove(Table::Meta, KEY),
    }
}

fn decode(bytes: &[u8]) -> Result<Loss, StoreError> {
    if bytes.is_empty() {
        return Ok(Loss { noticed_at: None });
    }
    let mut decoder = Decoder::new(Table::Meta, bytes);
    let loss = Loss { noticed_at: Some(decoder.time()?) };
    decoder.finish()?;
    Ok(loss)
}
