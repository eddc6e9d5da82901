//! What the registry holds. It believes whatever it is given: a digest may be a lie, a tag may lead nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use oci::Digest;

/// There is no such manifest or blob.
#[derive(Debug)]
pub struct NoSuchContent {
    repository: String,
    reference: String,
}

impl NoSuchContent {
    pub(super) fn new(repository: &str, reference: &str) -> Self {
        Self { repository: repository.to_owned(), reference: reference.to_owned() }
    }
}

impl fmt::Display for NoSuchContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream holds no {} in {}", self.reference, self.repository)
    }
}

impl std::error::Error for NoSuchContent {}

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

/// All repositories by their paths.
#[derive(Debug, Default)]
pub(super) struct Contents {
    repositories: BTreeMap<String, Held>,
}

#[derive(Debug, Default)]
struct Held {
    manifests: BTreeMap<Digest, Stored>,
    tags: BTreeMap<String, Digest>,
    blobs: BTreeMap<Digest, Bytes>,
}

impl Contents {
    pub(super) fn put_manifest(&mut self, repository: &str, digest: &Digest, media_type: &str, bytes: Bytes) {
        let stored = Stored { media_type: media_type.to_owned(), bytes };
        self.held(repository).manifests.insert(digest.clone(), stored);
    }

    pub(super) fn put_tag(&mut self, repository: &str, tag: &str, digest: &Digest) {
        self.held(repository).tags.insert(tag.to_owned(), digest.clone());
    }

    pub(super) fn put_blob(&mut self, repository: &str, digest: &Digest, bytes: Bytes) {
        self.held(repository).blobs.insert(digest.clone(), bytes);
    }

    pub(super) fn delete_tag(&mut self, repository: &str, tag: &str) {
        self.held(repository).tags.remove(tag);
    }

    pub(super) fn delete_manifest(&mut self, repository: &str, digest: &Digest) {
        let held = self.held(repository);
        held.manifests.remove(digest);
        held.tags.retain(|_, target| target != digest);
    }

    pub(super) fn delete_blob(&mut self, repository: &str, digest: &Digest) {
        self.held(repository).blobs.remove(digest);
    }

    /// By digest or by tag; a tag never looks like a digest, it has no colon.
    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<(Digest, Stored)> {
        let held = self.repositories.get(repository)?;
        let digest = match reference.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => held.tags.get(reference)?.clone(),
        };
        let stored = held.manifests.get(&digest)?.clone();
        Some((digest, stored))
    }

    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.repositories.get(repository)?.blobs.get(digest).cloned()
    }

    /// The blob from whatever repository has it.
    pub(super) fn blob_anywhere(&self, digest: &Digest) -> Option<Bytes> {
        self.repositories.values().find_map(|held| held.blobs.get(digest).cloned())
    }

    /// In the order of the distribution specification, which is that of bytes; nothing for an unknown repository.
    pub(super) fn tags(&self, repository: &str) -> Option<BTreeSet<String>> {
        let held = self.repositories.get(repository)?;
        Some(held.tags.keys().cloned().collect())
    }

    pub(super) fn manifests<'a>(
        &'a self,
        repository: &str,
    ) -> impl Iterator<Item = (&'a Digest, &'a Stored)> + use<'a> {
        self.repositories.get(repository).into_iter().flat_map(|held| held.manifests.iter())
    }

    fn held(&mut self, repository: &str) -> &mut Held {
        self.repositories.entry(repository.to_owned()).or_default()
    }
}
