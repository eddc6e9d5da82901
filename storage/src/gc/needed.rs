//! Who needs a blob.

use oci::{Digest, Repository};

use super::{PAGE, edges, forget::Gone, is_fresher};
use crate::{ContentClass, EdgeKind, Snapshot, StoreError, Usage};

/// How far up subjects and indexes are looked for.
const DEPTH_MAX: usize = 4;
/// Blobs looked at at once for what nothing reaches.
const LOST_PAGE: usize = 1024;

/// The layers in the store that leave with an image, and their sizes: those that no pinned image and none used since needs. Those in
/// `gone` have left already.
pub(super) fn layers_of(snapshot: &Snapshot, image: &Usage, gone: &Gone) -> Result<Vec<(Digest, u64)>, StoreError> {
    let mut layers = Vec::new();
    if standing(snapshot, &image.repository, &image.digest, 0)?.is_none_or(|standing| standing.pinned) {
        return Ok(layers);
    }
    edges(snapshot, &image.repository, &image.digest, |edge| {
        if edge.kind == EdgeKind::Layer
            && !gone.has_blob(&edge.child)
            && let Some(content) = snapshot.content(&edge.child)?
            && content.class == ContentClass::Layer
            && !is_needed(snapshot, &edge.child, image)?
        {
            layers.push((edge.child, content.size));
        }
        Ok(())
    })?;
    Ok(layers)
}

/// Whether a pinned image, or one used after `image`, reaches a blob.
fn is_needed(snapshot: &Snapshot, blob: &Digest, image: &Usage) -> Result<bool, StoreError> {
    reached(snapshot, blob, |repository, edge| {
        if (repository, &edge.parent) == (&image.repository, &image.digest) {
            return Ok(false);
        }
        let standing = standing(snapshot, repository, &edge.parent, 0)?;
        Ok(standing.is_some_and(|other| other.pinned || is_fresher(&other, image)))
    })
}

/// Whether any of the edges to a blob is such a one.
pub(super) fn reached(
    snapshot: &Snapshot,
    blob: &Digest,
    mut wanted: impl FnMut(&Repository, &crate::Edge) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let page = snapshot.reached_by(blob, after.as_ref(), PAGE)?;
        for (repository, edge) in &page {
            if wanted(repository, edge)? {
                return Ok(true);
            }
        }
        if page.len() < PAGE {
            return Ok(false);
        }
        after = page.into_iter().next_back();
    }
}

/// The use of a manifest, which counts for more where that of its subject or index does: pinned with them, and evidence as fresh as
/// what it speaks about. `None` where the manifest is not known.
pub(super) fn standing(
    snapshot: &Snapshot,
    repository: &Repository,
    digest: &Digest,
    depth: usize,
) -> Result<Option<Usage>, StoreError> {
    let Some(mut usage) = snapshot.usage(repository, digest)? else { return Ok(None) };
    if usage.pinned || depth >= DEPTH_MAX {
        return Ok(Some(usage));
    }
    let parents = snapshot.parents(repository, digest, None, PAGE)?.found;
    for edge in parents.iter().filter(|edge| matches!(edge.kind, EdgeKind::Child | EdgeKind::Referrer)) {
        let Some(parent) = standing(snapshot, repository, &edge.parent, depth + 1)? else { continue };
        usage.pinned |= parent.pinned;
        if edge.kind == EdgeKind::Referrer {
            usage.used_at = usage.used_at.max(parent.used_at);
        }
    }
    Ok(Some(usage))
}

/// Large blobs that nothing reaches, and their sizes in bytes.
pub(super) struct Lost {
    pub(super) blobs: Vec<(Digest, u64)>,
    /// The last that was looked at, where there are more.
    pub(super) until: Option<Digest>,
}

/// Those behind `after`, of as many blobs as are looked at at once.
pub(super) fn lost(snapshot: &Snapshot, after: Option<&Digest>) -> Result<Lost, StoreError> {
    let page = snapshot.contents(after, LOST_PAGE)?;
    let until = page.get(LOST_PAGE - 1).map(|(digest, _)| digest.clone());
    let mut blobs = Vec::new();
    for (digest, content) in page {
        if content.class == ContentClass::Layer && is_unreached(snapshot, &digest)? {
            blobs.push((digest, content.size));
        }
    }
    Ok(Lost { blobs, until })
}

/// Whether no manifest is, or reaches, a blob.
pub(super) fn is_unreached(snapshot: &Snapshot, digest: &Digest) -> Result<bool, StoreError> {
    Ok(snapshot.reached_by(digest, None, 1)?.is_empty() && snapshot.usages(digest, 1)?.is_empty())
}
