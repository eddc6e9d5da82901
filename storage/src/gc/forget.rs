//! What leaves together with an image's manifest.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Digest, Repository};

use super::{edges, is_blob, needed};
use crate::{Content, EdgeKind, Snapshot, StoreError, Usage};

/// Repositories that are asked whether they have a manifest.
const REPOSITORIES_MAX: usize = 1024;

/// What leaves in one step.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// These are forgotten,
    pub(super) manifests: BTreeSet<(Repository, Digest)>,
    /// and then these removed.
    pub(super) blobs: BTreeMap<Digest, Content>,
}

/// An image with its evidence. `None` where it stays: it is pinned, or it is evidence and leaves with its subject.
pub(super) fn alone(snapshot: &Snapshot, image: &Usage) -> Result<Option<Leaving>, StoreError> {
    let (repository, digest) = (&image.repository, &image.digest);
    if needed::standing(snapshot, repository, digest, 0)?.is_none_or(|standing| standing.pinned)
        || has_subject(snapshot, repository, digest, None)?
    {
        return Ok(None);
    }
    whole(snapshot, image).map(Some)
}

/// An image with its evidence, pinned or not.
pub(super) fn whole(snapshot: &Snapshot, image: &Usage) -> Result<Leaving, StoreError> {
    let (repository, digest) = (&image.repository, &image.digest);
    let mut leaving = Leaving::default();
    leaving.manifests.insert((repository.clone(), digest.clone()));
    edges(snapshot, repository, digest, |edge| {
        if edge.kind == EdgeKind::Referrer
            && snapshot.usage(repository, &edge.child)?.is_some_and(|usage| !usage.pinned)
            && !has_subject(snapshot, repository, &edge.child, Some(digest))?
        {
            leaving.manifests.insert((repository.clone(), edge.child));
        }
        Ok(())
    })?;
    for (repository, manifest) in leaving.manifests.clone() {
        leaving.take(snapshot, &manifest)?;
        let mut pointed = Vec::new();
        edges(snapshot, &repository, &manifest, |edge| {
            pointed.extend(Some(edge.child).filter(|_| is_blob(edge.kind)));
            Ok(())
        })?;
        pointed.iter().try_for_each(|blob| leaving.take(snapshot, blob))?;
    }
    Ok(leaving)
}

impl Leaving {
    /// Takes a blob along, unless somebody who stays needs it.
    fn take(&mut self, snapshot: &Snapshot, blob: &Digest) -> Result<(), StoreError> {
        let Some(content) = snapshot.content(blob)? else { return Ok(()) };
        let leaves =
            |repository: &Repository, digest: &Digest| self.manifests.contains(&(repository.clone(), digest.clone()));
        let elsewhere = snapshot.usages(blob, REPOSITORIES_MAX)?;
        let stays = elsewhere.iter().any(|usage| !leaves(&usage.repository, &usage.digest))
            // An edge from an index or a subject is knowledge, not need.
            || needed::reached(snapshot, blob, |repository, edge| {
                Ok(is_blob(edge.kind) && !leaves(repository, &edge.parent))
            })?;
        if !stays {
            self.blobs.insert(blob.clone(), content);
        }
        Ok(())
    }
}

/// Whether a manifest speaks about one that is known, other than `except`.
fn has_subject(
    snapshot: &Snapshot,
    repository: &Repository,
    digest: &Digest,
    except: Option<&Digest>,
) -> Result<bool, StoreError> {
    needed::reached(snapshot, digest, |in_repository, edge| {
        let other = in_repository == repository && edge.kind == EdgeKind::Referrer && Some(&edge.parent) != except;
        Ok(other && snapshot.usage(repository, &edge.parent)?.is_some())
    })
}
