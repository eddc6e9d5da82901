//! What leaves together with an image's manifest.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use oci::{Digest, Repository};

use super::{edges, is_blob, needed};
use crate::{Content, EdgeKind, Snapshot, StoreError, Usage};

/// Repositories that are asked whether they have a manifest.
const REPOSITORIES_MAX: usize = 1024;
/// How far evidence about evidence is followed to an image, and how much of it.
const SUBJECTS_DEEP: usize = 4;
const SUBJECTS_MAX: usize = 256;

/// What has left in this pass, or would have in a dry run. It may still stand in the facts, and speaks for nothing there any more: only so
/// does a dry run tell what the real one does.
#[derive(Debug, Default)]
pub(super) struct Gone {
    manifests: HashSet<(Repository, Digest)>,
    /// By the first half of their digests: of a million blobs a dry run may have to remember them all.
    blobs: HashSet<u128>,
}

impl Gone {
    pub(super) fn has_blob(&self, blob: &Digest) -> bool {
        self.blobs.contains(&beginning(blob))
    }

    pub(super) fn blob(&mut self, blob: &Digest) {
        self.blobs.insert(beginning(blob));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.blobs.is_empty()
    }

    pub(super) fn all_of(&mut self, leaving: &Leaving) {
        self.manifests.extend(leaving.manifests.iter().cloned());
        self.blobs.extend(leaving.blobs.keys().map(beginning));
    }

    fn has(&self, repository: &Repository, digest: &Digest) -> bool {
        self.manifests.contains(&(repository.clone(), digest.clone()))
    }
}

/// 128 bits of it.
fn beginning(digest: &Digest) -> u128 {
    let hex = digest.hex().get(..32).unwrap_or_default();
    u128::from_str_radix(hex, 16).expect("a digest is at least 64 hexadecimal digits")
}

/// What leaves in one step.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// These are forgotten,
    pub(super) manifests: BTreeSet<(Repository, Digest)>,
    /// and then these removed, each with one of the manifests that pointed at it.
    pub(super) blobs: BTreeMap<Digest, (Content, Usage)>,
}

/// An image with its evidence. `None` where it stays: it is pinned, or it is evidence and leaves with its subject.
pub(super) fn alone(snapshot: &Snapshot, image: &Usage, gone: &Gone) -> Result<Option<Leaving>, StoreError> {
    let (repository, digest) = (&image.repository, &image.digest);
    if gone.has(repository, digest)
        || needed::standing(snapshot, repository, digest, 0)?.is_none_or(|standing| standing.pinned)
        || has_subject(snapshot, repository, digest, |subject| gone.has(repository, subject))?
    {
        return Ok(None);
    }
    whole(snapshot, std::slice::from_ref(image), gone).map(Some)
}

/// Images with their evidence, pinned or not.
pub(super) fn whole(snapshot: &Snapshot, images: &[Usage], gone: &Gone) -> Result<Leaving, StoreError> {
    let mut leaving = Leaving::default();
    leaving.manifests.extend(images.iter().map(|image| (image.repository.clone(), image.digest.clone())));
    let subjects = leaving.manifests.clone();
    let mut usages = images.to_vec();
    for (repository, subject) in &subjects {
        let leaves = |subject: &Digest| {
            subjects.contains(&(repository.clone(), subject.clone())) || gone.has(repository, subject)
        };
        edges(snapshot, repository, subject, |edge| {
            if edge.kind == EdgeKind::Referrer
                && !gone.has(repository, &edge.child)
                && let Some(usage) = snapshot.usage(repository, &edge.child)?
                && !usage.pinned
                && !has_subject(snapshot, repository, &edge.child, leaves)?
                && leaving.manifests.insert((repository.clone(), edge.child))
            {
                usages.push(usage);
            }
            Ok(())
        })?;
    }
    for manifest in &usages {
        leaving.take(snapshot, manifest, &manifest.digest, gone)?;
        let mut pointed = Vec::new();
        edges(snapshot, &manifest.repository, &manifest.digest, |edge| {
            pointed.extend(Some(edge.child).filter(|_| is_blob(edge.kind)));
            Ok(())
        })?;
        pointed.iter().try_for_each(|blob| leaving.take(snapshot, manifest, blob, gone))?;
    }
    Ok(leaving)
}

impl Leaving {
    /// Takes a blob along with `manifest`, unless somebody who stays needs it.
    fn take(&mut self, snapshot: &Snapshot, manifest: &Usage, blob: &Digest, gone: &Gone) -> Result<(), StoreError> {
        if gone.has_blob(blob) || self.blobs.contains_key(blob) {
            return Ok(());
        }
        let Some(content) = snapshot.content(blob)? else { return Ok(()) };
        let leaves = |repository: &Repository, digest: &Digest| {
            self.manifests.contains(&(repository.clone(), digest.clone())) || gone.has(repository, digest)
        };
        let elsewhere = snapshot.usages(blob, REPOSITORIES_MAX)?;
        let stays = elsewhere.iter().any(|usage| !leaves(&usage.repository, &usage.digest))
            // An edge from an index or a subject is knowledge, not need.
            || needed::reached(snapshot, blob, |repository, edge| {
                Ok(is_blob(edge.kind) && !leaves(repository, &edge.parent))
            })?;
        if !stays {
            self.blobs.insert(blob.clone(), (content, manifest.clone()));
        }
        Ok(())
    }
}

/// Whether a manifest speaks, if through other evidence, about an image that is known and stays. Evidence about each other holds nothing,
/// and no more is looked at than an honest upstream has.
fn has_subject(
    snapshot: &Snapshot,
    repository: &Repository,
    digest: &Digest,
    leaves: impl Fn(&Digest) -> bool,
) -> Result<bool, StoreError> {
    let mut seen = BTreeSet::from([digest.clone()]);
    let mut level = vec![digest.clone()];
    for _ in 0..SUBJECTS_DEEP {
        let mut above = Vec::new();
        for evidence in level {
            let subjects = subjects(snapshot, repository, &evidence, &leaves)?;
            if subjects.is_empty() && evidence != *digest {
                return Ok(true);
            }
            above.extend(subjects.into_iter().filter(|subject| seen.insert(subject.clone())));
        }
        if above.is_empty() || seen.len() > SUBJECTS_MAX {
            return Ok(false);
        }
        level = above;
    }
    Ok(false)
}

/// What a manifest speaks about, of what is known and stays.
fn subjects(
    snapshot: &Snapshot,
    repository: &Repository,
    digest: &Digest,
    leaves: impl Fn(&Digest) -> bool,
) -> Result<Vec<Digest>, StoreError> {
    let mut subjects = Vec::new();
    needed::reached(snapshot, digest, |in_repository, edge| {
        if in_repository == repository
            && edge.kind == EdgeKind::Referrer
            && !leaves(&edge.parent)
            && snapshot.usage(repository, &edge.parent)?.is_some()
        {
            subjects.push(edge.parent.clone());
        }
        Ok(subjects.len() > SUBJECTS_MAX)
    })?;
    Ok(subjects)
}
