//! What can be written down.

use oci::{Digest, Repository, Tag, UnixTime};

use super::{
    ContentClass, Edge, Loss, ManifestFact, TagLook, contents, engine::Batch, links, loss, served, tags,
    tags::TagBounds, uses, verdicts,
};
use crate::StoreError;

/// One thing to remember. All changes of one [`apply`](crate::Facts::apply) are made together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Upstream said that a tag means this digest. A new meaning, or the return of a tag that was gone, enters its history. Without effect
    /// on a tag that is not known, where as many are known as may be.
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
    /// A tag was looked at with this meaning, and served or not. It is noted with the newest event of that meaning in its history; what is
    /// served enters, besides, what was ever served under the tag. Without effect on a tag that is not known, where as many are known as
    /// may be.
    TagLooked {
        /// The tag's repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// What it means.
        digest: Digest,
        /// How it was answered.
        look: TagLook,
    },
    /// A tag is forgotten, and its history. Without effect on one that ever served anything, or that upstream said something about since.
    TagForgotten {
        /// The tag's repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// Since when.
        since: UnixTime,
    },
    /// How new the images were that a tag was answered with does not count any more. Its targets and its history stay.
    TagNewestGone {
        /// The tag's repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
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
        /// The blobs it names, and their sizes in bytes: they stay while the note does, and leave with its subject. Those that only the
        /// earlier note named do not.
        names: Vec<(Digest, u64)>,
    },
    /// A verdict is not wanted any more.
    VerdictGone {
        /// The repository.
        repository: Repository,
        /// The manifest decided on.
        digest: Digest,
        /// What the decision depended on.
        fingerprint: [u8; 32],
    },
    /// A manifest leaves a repository, with its verdicts, the note on its evidence, its use, and all that it points at. What tags mean and
    /// meant stays.
    Forgotten {
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
        /// Without effect where this manifest of the repository is pinned by then.
        unless_pinned: Option<Digest>,
    },
    /// A blob is in the store.
    Stored {
        /// The blob.
        digest: Digest,
        /// Its size, bytes.
        size: u64,
        /// What it is; what the edges to it say where nobody knows.
        class: Option<ContentClass>,
    },
    /// A blob is no more in the store.
    Removed {
        /// The blob.
        digest: Digest,
    },
    /// What was lost with earlier facts is kept for its return, or no longer.
    Loss(Option<Loss>),
    /// A manifest was used, and with it the indexes that list it. Without effect on one that is not known, or was used later.
    Used {
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
        /// When.
        at: UnixTime,
    },
    /// A manifest was decided on and not served: until it is, it counts as used before all that was. Without effect on one that is not
    /// known, or was used since it was met.
    Unserved {
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
    },
    /// A manifest stays whatever the budgets say, or no longer does: then it counts as used. Without effect on one that is not known.
    Pinned {
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
        /// Whether it stays.
        pinned: bool,
        /// When that was said.
        at: UnixTime,
    },
}

pub(super) fn make(batch: &Batch, change: &Change, bounds: TagBounds) -> Result<(), StoreError> {
    match change {
        Change::Tag { repository, tag, digest, at } => tags::set(batch, repository, tag, digest, *at, bounds),
        Change::TagChecked { repository, tag, at } => tags::checked(batch, repository, tag, *at),
        Change::TagGone { repository, tag, at } => tags::gone(batch, repository, tag, *at),
        Change::TagLooked { repository, tag, digest, look } => {
            tags::looked(batch, (repository, tag), digest, look, bounds)
        }
        Change::TagForgotten { repository, tag, since } => tags::forget(batch, repository, tag, *since),
        Change::TagNewestGone { repository, tag } => served::forget_newest(batch, repository, tag),
        Change::Manifest { repository, digest, fact } => verdicts::set_manifest(batch, repository, digest, fact),
        Change::Edge { repository, edge } => {
            let was_reached = links::is_reached(batch, &edge.child)?;
            links::set(batch, repository, edge);
            if was_reached { Ok(()) } else { contents::reached(batch, repository, &edge.child) }
        }
        Change::Verdict { repository, digest, fingerprint, bytes } => {
            verdicts::set_verdict(batch, repository, digest, fingerprint, bytes);
            Ok(())
        }
        Change::Evidence { repository, digest, bytes, names } => {
            verdicts::set_evidence(batch, repository, digest, bytes);
            links::note(batch, repository, digest, names)
        }
        Change::VerdictGone { repository, digest, fingerprint } => {
            verdicts::forget_verdict(batch, repository, digest, fingerprint);
            Ok(())
        }
        Change::Forgotten { repository, digest, unless_pinned } => match unless_pinned {
            Some(image) if uses::is_pinned(batch, repository, image)? => Ok(()),
            Some(_) | None => verdicts::forget(batch, repository, digest),
        },
        Change::Stored { digest, size, class } => contents::stored(batch, digest, *size, *class),
        Change::Removed { digest } => contents::gone(batch, digest),
        Change::Loss(loss) => {
            loss::set(batch, *loss);
            Ok(())
        }
        Change::Used { repository, digest, at } => uses::used(batch, repository, digest, *at),
        Change::Unserved { repository, digest } => verdicts::unserved(batch, repository, digest),
        Change::Pinned { repository, digest, pinned, at } => uses::pin(batch, repository, digest, *pinned, *at),
    }
}
