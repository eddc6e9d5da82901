//! What can be written down.

use oci::{Digest, Repository, Tag, UnixTime};

use super::{Edge, ManifestFact, engine::Batch, links, tags, verdicts};
use crate::StoreError;

/// One thing to remember. All changes of one [`apply`](crate::Facts::apply) are made together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Upstream said that a tag means this digest. A new meaning, or the return of a tag that was gone, enters its history.
    Tag {
        /// The tag's repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// What it means.
        digest: Digest,
        /// When upstream said so.
        at: UnixTime,
    },
    /// Upstream said that a tag still means what it meant. Without effect on a tag that is not known, or gone.
    TagChecked {
        /// The tag's repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// When upstream said so.
        at: UnixTime,
    },
    /// Upstream said that there is no such tag. Its history stays. Without effect on a tag that is not known, or gone already.
    TagGone {
        /// The tag's repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// When upstream said so.
        at: UnixTime,
    },
    /// A repository has this manifest. The first time it was seen stays as it was.
    Manifest {
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
        /// What is known of it.
        fact: ManifestFact,
    },
    /// One thing points at another.
    Edge {
        /// The repository in which it does.
        repository: Repository,
        /// What points at what.
        edge: Edge,
    },
    /// What was decided; replaces an earlier verdict under the same fingerprint.
    Verdict {
        /// The repository.
        repository: Repository,
        /// The manifest decided on.
        digest: Digest,
        /// What the decision depended on.
        fingerprint: [u8; 32],
        /// The record, which the store does not read.
        bytes: Vec<u8>,
    },
    /// Which evidence was collected; replaces an earlier note.
    Evidence {
        /// The repository.
        repository: Repository,
        /// The subject of the evidence.
        digest: Digest,
        /// The note, which the store does not read.
        bytes: Vec<u8>,
    },
}

pub(super) fn make(batch: &Batch, change: &Change, tag_history_max: usize) -> Result<(), StoreError> {
    match change {
        Change::Tag { repository, tag, digest, at } => tags::set(batch, repository, tag, digest, *at, tag_history_max),
        Change::TagChecked { repository, tag, at } => tags::checked(batch, repository, tag, *at),
        Change::TagGone { repository, tag, at } => tags::gone(batch, repository, tag, *at),
        Change::Manifest { repository, digest, fact } => verdicts::set_manifest(batch, repository, digest, fact),
        Change::Edge { repository, edge } => {
            links::set(batch, repository, edge);
            Ok(())
        }
        Change::Verdict { repository, digest, fingerprint, bytes } => {
            verdicts::set_verdict(batch, repository, digest, fingerprint, bytes);
            Ok(())
        }
        Change::Evidence { repository, digest, bytes } => {
            verdicts::set_evidence(batch, repository, digest, bytes);
            Ok(())
        }
    }
}
