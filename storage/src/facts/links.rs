//! What points at what. Each edge is kept twice, by parent and by child, and always both in one commit.

use oci::{Digest, Repository};

use super::{
    ContentClass, Snapshot,
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

impl Edge {
    /// From a subject to what the note on its evidence names.
    #[must_use]
    pub fn noted(subject: &Digest, blob: &Digest, size: u64) -> Self {
        let (parent, child) = (subject.clone(), blob.clone());
        // Whatever type it is of, it is in the note.
        Self { kind: EdgeKind::Noted, parent, child, media_type: String::new(), size }
    }
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
    /// The note on a subject's evidence names a piece of it, or a config that rules look at: to be kept with the subject.
    Noted,
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
        let prefix = if table == Table::Parents {
            Encoder::default().digest(near).in_repository(repository)
        } else {
            Encoder::repository(repository).digest(near)
        };
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
            .map(|(key, value)| self.noticed(decode(table, key, value)).map(|(_, edge)| edge))
            .collect::<Result<_, _>>()?;
        Ok(Edges { found, more })
    }

    /// What points at `child` in any repository: at most `limit` edges, from the first one behind `after` on. Fewer than `limit` are
    /// the last.
    pub fn reached_by(
        &self,
        child: &Digest,
        after: Option<&(Repository, Edge)>,
        limit: usize,
    ) -> Result<Vec<(Repository, Edge)>, StoreError> {
        let prefix = Encoder::default().digest(child);
        let range = match after {
            Some((repository, edge)) => prefix.prefix_after(by_child(repository, edge)),
            None => prefix.prefix(),
        };
        let entries = self.scan(Table::Parents, range, Order::Ascending, limit)?;
        entries.iter().map(|(key, value)| self.noticed(decode(Table::Parents, key, value))).collect()
    }
}

/// How many edges are looked at to tell what a blob is; whose first edges call it a layer is one.
const KINDS_LOOKED_AT: usize = 64;

/// What a blob is by what points at it, if anything does. What is a config, a manifest or part of the evidence anywhere is no layer.
pub(super) fn class(batch: &Batch, child: &Digest) -> Result<Option<ContentClass>, StoreError> {
    let keys = batch.keys(Table::Parents, &Encoder::default().digest(child).prefix(), KINDS_LOOKED_AT)?;
    for key in &keys {
        let (repository, kind, parent, _) = decode_key(Table::Parents, key)?;
        // A layer of evidence is evidence.
        if kind != EdgeKind::Layer || parents_in(batch, &repository, &parent, EdgeKind::Referrer)?.next().is_some() {
            return Ok(Some(ContentClass::Metadata));
        }
    }
    Ok((!keys.is_empty()).then_some(ContentClass::Layer))
}

/// Whether anything points at `child`.
pub(super) fn is_reached(batch: &Batch, child: &Digest) -> Result<bool, StoreError> {
    Ok(batch.first_key(Table::Parents, Encoder::default().digest(child).prefix())?.is_some())
}

/// What points at `child` in this repository by such an edge, as far as is looked.
pub(super) fn parents_in(
    batch: &Batch,
    repository: &Repository,
    child: &Digest,
    wanted: EdgeKind,
) -> Result<impl Iterator<Item = Digest>, StoreError> {
    let range = Encoder::default().digest(child).in_repository(repository).prefix();
    let keys = batch.keys(Table::Parents, &range, KINDS_LOOKED_AT)?;
    let decoded = keys.iter().map(|key| decode_key(Table::Parents, key)).collect::<Result<Vec<_>, _>>()?;
    Ok(decoded.into_iter().filter(move |(_, kind, ..)| *kind == wanted).map(|(_, _, parent, _)| parent))
}

/// Forgets everything that `parent` points at.
pub(super) fn forget(batch: &Batch, repository: &Repository, parent: &Digest) -> Result<(), StoreError> {
    let range = Encoder::repository(repository).digest(parent).prefix();
    for key in batch.keys(Table::Children, &range, usize::MAX)? {
        let (_, kind, parent, child) = decode_key(Table::Children, &key)?;
        batch.remove(Table::Children, &key);
        batch.remove(Table::Parents, &child_key(repository, &child, &parent, kind));
    }
    Ok(())
}

pub(super) fn set(batch: &Batch, repository: &Repository, edge: &Edge) {
    let value = Encoder::default().text(&edge.media_type).number(edge.size).finish();
    batch.put(Table::Children, &by_parent(repository, edge), &value);
    batch.put(Table::Parents, &by_child(repository, edge), &value);
}

/// Takes what the note on a subject's evidence names now for what it names at all.
pub(super) fn note(
    batch: &Batch,
    repository: &Repository,
    subject: &Digest,
    names: &[(Digest, u64)],
) -> Result<(), StoreError> {
    let range = Encoder::repository(repository).digest(subject).prefix();
    for key in batch.keys(Table::Children, &range, usize::MAX)? {
        let (_, kind, parent, child) = decode_key(Table::Children, &key)?;
        if kind == EdgeKind::Noted && !names.iter().any(|(named, _)| *named == child) {
            batch.remove(Table::Children, &key);
            batch.remove(Table::Parents, &child_key(repository, &child, &parent, kind));
        }
    }
    for (blob, size) in names {
        set(batch, repository, &Edge::noted(subject, blob, *size));
    }
    Ok(())
}

/// Writes an edge by its child that is written by its parent.
pub(super) fn copy_to_child(batch: &Batch, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let (repository, edge) = decode(Table::Children, key, value)?;
    batch.put(Table::Parents, &by_child(&repository, &edge), value);
    Ok(())
}

fn by_parent(repository: &Repository, edge: &Edge) -> Vec<u8> {
    Encoder::repository(repository).digest(&edge.parent).digest(&edge.child).byte(edge.kind.code()).finish()
}

fn by_child(repository: &Repository, edge: &Edge) -> Vec<u8> {
    child_key(repository, &edge.child, &edge.parent, edge.kind)
}

/// The child first: who reaches a blob is asked of one repository, and of all of them.
fn child_key(repository: &Repository, child: &Digest, parent: &Digest, kind: EdgeKind) -> Vec<u8> {
    Encoder::default().digest(child).in_repository(repository).digest(parent).byte(kind.code()).finish()
}

impl EdgeKind {
    const ALL: [Self; 6] = [Self::Child, Self::Config, Self::Layer, Self::Referrer, Self::EvidenceBlob, Self::Noted];

    /// How it is spelled in keys: part of the store's format.
    fn code(self) -> u8 {
        match self {
            Self::Child => 1,
            Self::Config => 2,
            Self::Layer => 3,
            Self::Referrer => 4,
            Self::EvidenceBlob => 5,
            Self::Noted => 6,
        }
    }
}

/// Repository, kind, parent, child.
fn decode_key(table: Table, key: &[u8]) -> Result<(Repository, EdgeKind, Digest, Digest), StoreError> {
    let mut parts = Decoder::new(table, key);
    let (repository, parent, child) = if table == Table::Parents {
        let (child, repository, parent) = (parts.digest()?, parts.repository()?, parts.digest()?);
        (repository, parent, child)
    } else {
        (parts.repository()?, parts.digest()?, parts.digest()?)
    };
    let code = parts.byte()?;
    let kind = EdgeKind::ALL.into_iter().find(|kind| kind.code() == code);
    let kind = kind.ok_or_else(|| parts.unreadable("it holds an unknown kind of edge"))?;
    parts.finish()?;
    Ok((repository, kind, parent, child))
}

fn decode(table: Table, key: &[u8], value: &[u8]) -> Result<(Repository, Edge), StoreError> {
    let (repository, kind, parent, child) = decode_key(table, key)?;
    let mut parts = Decoder::new(table, value);
    let (media_type, size) = (parts.text()?, parts.number()?);
    parts.finish()?;
    Ok((repository, Edge { kind, parent, child, media_type, size }))
}
