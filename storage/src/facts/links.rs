//! What points at what. Each edge is kept twice, by parent and by child, and always both in one commit.

use oci::{Digest, Repository};

use super::{
    Snapshot,
    codec::{Decoder, Encoder},
    engine::{Batch, Order},
    table::Table,
};
use crate::StoreError;

/// One thing points at another, in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// In which way.
    pub kind: EdgeKind,
    /// What points.
    pub parent: Digest,
    /// What is pointed at.
    pub child: Digest,
    /// The child's media type as the parent states it.
    pub media_type: String,
    /// The child's size as the parent states it, bytes.
    pub size: u64,
}

/// What an edge means. The store only keeps them apart; who may be served by which is decided elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeKind {
    /// An index points at a manifest.
    Child,
    /// An image manifest points at its config.
    Config,
    /// An image manifest points at a layer.
    Layer,
    /// A subject is spoken about by an evidence manifest.
    Referrer,
    /// An evidence manifest points at its layer or config.
    EvidenceBlob,
}

/// Edges, as many as were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edges {
    /// In order of the digest at the other end.
    pub found: Vec<Edge>,
    /// Whether there are more behind the last of these: ask again with that one as `after`.
    pub more: bool,
}

impl Snapshot {
    /// What points at `child`: at most `limit` edges, from the first one behind `after` on.
    pub fn parents(
        &self,
        repository: &Repository,
        child: &Digest,
        after: Option<&Edge>,
        limit: usize,
    ) -> Result<Edges, StoreError> {
        let after = after.map(|edge| by_child(repository, edge));
        self.edges(Table::Parents, repository, child, after, limit)
    }

    /// What `parent` points at: at most `limit` edges, from the first one behind `after` on.
    pub fn children(
        &self,
        repository: &Repository,
        parent: &Digest,
        after: Option<&Edge>,
        limit: usize,
    ) -> Result<Edges, StoreError> {
        let after = after.map(|edge| by_parent(repository, edge));
        self.edges(Table::Children, repository, parent, after, limit)
    }

    fn edges(
        &self,
        table: Table,
        repository: &Repository,
        near: &Digest,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Edges, StoreError> {
        let prefix = Encoder::repository(repository).digest(near);
        let range = match after {
            Some(key) => prefix.prefix_after(key),
            None => prefix.prefix(),
        };
        // One more than wanted, to know whether there are more.
        let entries = self.scan(table, range, Order::Ascending, limit.saturating_add(1))?;
        let more = entries.len() > limit;
        let found = entries
            .iter()
            .take(limit)
            .map(|(key, value)| self.noticed(decode(table, key, value)))
            .collect::<Result<_, _>>()?;
        Ok(Edges { found, more })
    }
}

pub(super) fn set(batch: &Batch, repository: &Repository, edge: &Edge) {
    let value = Encoder::default().text(&edge.media_type).number(edge.size).finish();
    batch.put(Table::Children, &by_parent(repository, edge), &value);
    batch.put(Table::Parents, &by_child(repository, edge), &value);
}

fn by_parent(repository: &Repository, edge: &Edge) -> Vec<u8> {
    Encoder::repository(repository).digest(&edge.parent).digest(&edge.child).byte(edge.kind.code()).finish()
}

fn by_child(repository: &Repository, edge: &Edge) -> Vec<u8> {
    Encoder::repository(repository).digest(&edge.child).digest(&edge.parent).byte(edge.kind.code()).finish()
}

impl EdgeKind {
    const ALL: [Self; 5] = [Self::Child, Self::Config, Self::Layer, Self::Referrer, Self::EvidenceBlob];

    /// How it is spelled in keys: part of the store's format.
    fn code(self) -> u8 {
        match self {
            Self::Child => 1,
            Self::Config => 2,
            Self::Layer => 3,
            Self::Referrer => 4,
            Self::EvidenceBlob => 5,
        }
    }
}

fn decode(table: Table, key: &[u8], value: &[u8]) -> Result<Edge, StoreError> {
    let mut parts = Decoder::new(table, key);
    parts.repository()?;
    let (near, far, code) = (parts.digest()?, parts.digest()?, parts.byte()?);
    let kind = EdgeKind::ALL.into_iter().find(|kind| kind.code() == code);
    let kind = kind.ok_or_else(|| parts.unreadable("it holds an unknown kind of edge"))?;
    parts.finish()?;
    let (parent, child) = if table == Table::Children { (near, far) } else { (far, near) };
    let mut parts = Decoder::new(table, value);
    let (media_type, size) = (parts.text()?, parts.number()?);
    parts.finish()?;
    Ok(Edge { kind, parent, child, media_type, size })
}
