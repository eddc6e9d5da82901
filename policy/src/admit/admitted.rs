//! The proof of an admission. Only the module above makes one.

use std::sync::Arc;

use bytes::Bytes;
use oci::{Digest, MediaType, Repository, UnixTime, UntrustedManifest};

use crate::{
    fingerprint::Fingerprint,
    guard::TagGuards,
    record::{self, Finding, PolicyFinding},
};

/// Most pieces of evidence that an admission names as its own.
const EVIDENCE_MAX: usize = 16;

/// A `T` that the policies in force let in, and on what grounds.
///
/// There is no way to make one but to be judged: no public constructor, no conversion, no `Default`, no `Deserialize`. It
/// counts until it ends and while its grounds are in force: ask [`Judge::in_force`](crate::Judge::in_force) before acting on
/// one that was kept.
#[derive(Debug)]
pub struct Admitted<T> {
    value: T,
    grounds: Arc<Grounds>,
}

/// What an admission rests on.
#[derive(Debug)]
pub(super) struct Grounds {
    pub repository: Repository,
    pub digest: Digest,
    /// The indexes, outermost first, through which it was reached; empty where it was judged by its own evidence.
    pub path: Vec<Digest>,
    /// What the index it was reached through rests on: this rests on it too.
    pub index: Option<Arc<Grounds>>,
    pub fingerprint: Fingerprint,
    pub ends: Option<UnixTime>,
    pub warning: Option<String>,
    pub findings: Vec<PolicyFinding>,
    /// Of the policies that govern it, made here so that an answer from memory matches no globs.
    pub guards: TagGuards,
}

/// A verdict that an admission rests on, and that ends no later than any other of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstToEnd<'a> {
    /// On which manifest.
    pub digest: &'a Digest,
    /// The indexes, outermost first, through which that was reached; empty where it was judged by its own evidence.
    pub path: &'a [Digest],
    /// When.
    pub ends: UnixTime,
}

impl Grounds {
    /// What was found, of it and of the indexes it was reached through.
    fn all_findings(&self) -> impl Iterator<Item = &PolicyFinding> + Clone {
        std::iter::successors(Some(self), |grounds| grounds.index.as_deref()).flat_map(|grounds| &grounds.findings)
    }
}

impl<T> Admitted<T> {
    /// Asserts that `value` was admitted. The one place where an admission comes to be.
    pub(super) fn assertion(value: T, grounds: Arc<Grounds>) -> Self {
        Self { value, grounds }
    }

    pub(super) fn grounds(&self) -> &Arc<Grounds> {
        &self.grounds
    }

    /// What was admitted.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// In which repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.grounds.repository
    }

    /// Under what it was judged; of an image reached through an index, the index's grounds included.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.grounds.fingerprint
    }

    /// When the admission ends by itself; never where none.
    #[must_use]
    pub fn ends(&self) -> Option<UnixTime> {
        self.grounds.ends
    }

    /// Whose verdict it is that ends first: its own, or that of the outermost index of those that end with it. Never where none.
    #[must_use]
    pub fn first_to_end(&self) -> Option<FirstToEnd<'_>> {
        let ends = self.ends()?;
        let Grounds { digest, path, .. } =
            std::iter::successors(Some(self.grounds.as_ref()), |grounds| grounds.index.as_deref())
                .take_while(|grounds| grounds.ends == Some(ends))
                .last()?;
        Some(FirstToEnd { digest, path, ends })
    }

    /// What the client is to be told besides, one line.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.grounds.warning.as_deref()
    }

    /// What was found, policy by policy. Empty for a child that inherits its index's admission.
    #[must_use]
    pub fn findings(&self) -> &[PolicyFinding] {
        &self.grounds.findings
    }

    /// The indexes, outermost first, through which it was reached.
    #[must_use]
    pub fn path(&self) -> &[Digest] {
        &self.grounds.path
    }

    /// When the image was signed, on trusted word: the earliest time of the evidence that let it in, of a child also of what let in the
    /// index. None where nothing that was verified has one. What satisfied a policy that only warns counts where no other governs it.
    #[must_use]
    pub fn signed_at(&self) -> Option<UnixTime> {
        record::signed_at(self.grounds.all_findings())
    }

    /// What the policies that govern it ask where a tag leads to it.
    #[must_use]
    pub fn guards(&self) -> &TagGuards {
        &self.grounds.guards
    }

    /// The evidence that let it in, of a child also of what let in the index: the first sixteen pieces, each once.
    #[must_use]
    pub fn evidence(&self) -> Vec<&Digest> {
        let mut evidence = vec![];
        for piece in record::letting_in(self.grounds.all_findings()).flat_map(PolicyFinding::pieces) {
            if evidence.len() < EVIDENCE_MAX && !evidence.contains(&&piece.evidence) {
                evidence.push(&piece.evidence);
            }
        }
        evidence
    }

    /// Whether every policy that was asked found a signature it accepts. Only then may the image be called verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        let verified = |finding: &PolicyFinding| matches!(finding.finding, Finding::Verified { .. });
        !self.grounds.findings.is_empty() && self.grounds.findings.iter().all(verified)
    }
}

/// A manifest, as what was admitted.
#[derive(Debug)]
pub struct Manifest(pub(super) UntrustedManifest);

/// A manifest of signatures or attestations, as what was let through for the sake of its subject. Nobody said it is true.
#[derive(Debug)]
pub struct EvidenceManifest(pub(super) UntrustedManifest);

impl Manifest {
    /// The manifest as parsed.
    #[must_use]
    pub fn manifest(&self) -> &UntrustedManifest {
        &self.0
    }
}

impl EvidenceManifest {
    /// The manifest as parsed.
    #[must_use]
    pub fn manifest(&self) -> &UntrustedManifest {
        &self.0
    }
}

/// The facts a response is made of come from the bytes that were judged.
macro_rules! response_facts {
    ($kind:ty) => {
        impl Admitted<$kind> {
            /// The digest of the bytes.
            #[must_use]
            pub fn digest(&self) -> &Digest {
                self.value.0.digest()
            }

            /// The bytes, as published.
            #[must_use]
            pub fn bytes(&self) -> &Bytes {
                self.value.0.addressed().bytes()
            }

            /// The media type, as published.
            #[must_use]
            pub fn media_type(&self) -> &MediaType {
                self.value.0.media_type()
            }
        }
    };
}

response_facts!(Manifest);
response_facts!(EvidenceManifest);

/// Leave to serve one blob in one repository, because an admitted manifest reaches it.
///
/// It never outlives the admission it came from: ask [`Judge::holds`](crate::Judge::holds) when the answer begins, and again for
/// every body in flight after a reload.
#[derive(Debug, Clone)]
pub struct Permit {
    blob: Digest,
    size: u64,
    is_layer: bool,
    parent: Digest,
    grounds: Arc<Grounds>,
}

impl Permit {
    /// Asserts that an admitted manifest reaches `blob`. The one place where a permit comes to be.
    pub(super) fn assertion(
        (blob, size): (Digest, u64),
        is_layer: bool,
        parent: Digest,
        grounds: Arc<Grounds>,
    ) -> Self {
        Self { blob, size, is_layer, parent, grounds }
    }

    pub(super) fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// In which repository it may be served.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.grounds.repository
    }

    /// The blob.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.blob
    }

    /// The blob's length in bytes, as the manifest says.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a layer of an image and nothing else; `false` of configs and evidence.
    #[must_use]
    pub fn is_layer(&self) -> bool {
        self.is_layer
    }

    /// The manifest that reaches it.
    #[must_use]
    pub fn parent(&self) -> &Digest {
        &self.parent
    }

    /// Under what the parent (of evidence: the subject) was judged.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.grounds.fingerprint
    }

    /// When it ends by itself; never where none.
    #[must_use]
    pub fn ends(&self) -> Option<UnixTime> {
        self.grounds.ends
    }
}
