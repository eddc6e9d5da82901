//! A verdict as it is stored: what was found, kept apart from what it led to.
//!
//! A record proves nothing by itself. Only [`Judge::readmit`](crate::Judge::readmit) turns one into an admission, after comparing
//! everything it was made from.

use oci::{Digest, Repository, UnixTime};
use serde::{Deserialize, Serialize};

use crate::{
    condition::Workflow,
    evidence::Origin,
    fingerprint::{Fingerprint, JUDGE_VERSION},
    policy_set::Mode,
    refusal::{Reason, Refusal},
    verifier::Signer,
};

/// The form of stored records. Another form is not read: its verdict has ended.
const FORMAT: u32 = 2;

/// One verdict on one digest in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    format: u32,
    judge: String,
    pub(crate) repository: Repository,
    pub(crate) digest: Digest,
    #[serde(with = "text")]
    pub(crate) fingerprint: Fingerprint,
    pub(crate) decided_at: UnixTime,
    pub(crate) ends_at: Option<UnixTime>,
    pub(crate) policies: Vec<PolicyFinding>,
    pub(crate) effect: Effect,
}

/// What a verdict leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Effect {
    /// The image is served.
    Serve,
    /// The image is served with this warning, one line.
    Warn(String),
    /// The image is not served: evidence was seen and is not good enough, or none could help.
    Refuse(Refusal),
    /// The image is not served: there is no evidence yet.
    Absent(Refusal),
}

/// What became of one policy; of the question what holds without one, where `policy` is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFinding {
    /// The policy's name.
    pub policy: Option<String>,
    /// Whether its failure refuses or warns.
    #[serde(with = "mode")]
    pub mode: Mode,
    /// What was found.
    pub finding: Finding,
    /// What was asked to find it, authority by authority, in the policy's order; those behind the one that satisfied were not asked.
    pub authorities: Vec<AuthorityFinding>,
}

impl PolicyFinding {
    /// What satisfied the policy; none where nothing verified did.
    #[must_use]
    pub fn pieces(&self) -> &[VerifiedPiece] {
        match &self.finding {
            Finding::Verified { pieces, .. } => pieces,
            Finding::Unverified { .. } | Finding::Failed { .. } | Finding::Undecided { .. } => &[],
        }
    }

    /// The good pieces of all authorities that were satisfied ([`crate::Form::piece`]): a rule may want to see more than what is told to have
    /// satisfied the policy. None where the policy has not passed.
    pub fn proven(&self) -> impl Iterator<Item = &Digest> {
        let authorities = if self.pieces().is_empty() { &[] } else { self.authorities.as_slice() };
        let satisfied = authorities.iter().filter(|authority| authority.satisfied);
        satisfied.flat_map(|authority| &authority.pieces).filter_map(|piece| piece.piece.as_ref())
    }

    /// The earliest signed time of what satisfied the policy.
    pub(crate) fn signed_at(&self) -> Option<UnixTime> {
        self.pieces().iter().filter_map(|piece| piece.signed_at).min()
    }
}

/// Of the findings about an image those that let it in: what a policy finds that only warns lets nothing in, unless no policy does more.
pub(crate) fn letting_in<'f>(
    findings: impl Iterator<Item = &'f PolicyFinding> + Clone,
) -> impl Iterator<Item = &'f PolicyFinding> {
    let is_enforced = |finding: &&PolicyFinding| finding.policy.is_some() && finding.mode == Mode::Enforce;
    let only_warned = !findings.clone().any(|finding| is_enforced(&finding));
    findings.filter(move |finding| only_warned || is_enforced(finding))
}

/// When an image was signed about which this was found, on trusted word: the earliest time of the evidence that let it in.
pub fn signed_at<'f>(findings: impl Iterator<Item = &'f PolicyFinding> + Clone) -> Option<UnixTime> {
    letting_in(findings).filter_map(PolicyFinding::signed_at).min()
}

/// What looking at the evidence gave, whatever it led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Finding {
    /// An authority was satisfied.
    Verified {
        /// The authority's name.
        authority: String,
        /// What satisfied it: one signature, or one attestation for each that it lists.
        pieces: Vec<VerifiedPiece>,
    },
    /// Nobody looked: `static: pass` or `no_match`. Never to be called verified.
    Unverified {
        /// What let it in.
        by: String,
    },
    /// No authority was satisfied, or the policy's rule says no.
    Failed {
        /// The kind of reason.
        reason: Reason,
        /// One line.
        message: String,
    },
    /// Nobody can say: a source did not answer, or the verifier failed.
    Undecided {
        /// One clause.
        why: String,
    },
}

/// A piece of evidence that is good, and says what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifiedPiece {
    /// Which attestation of the authority it is; none for a signature.
    pub attestation: Option<Attested>,
    /// Who signed.
    pub signer: Signer,
    /// What the certificate says of the workflow that signed.
    #[serde(default, skip_serializing_if = "Workflow::is_empty")]
    pub workflow: Workflow,
    /// The earliest trusted time of the signature; none where a key signed without log and timestamp.
    pub signed_at: Option<UnixTime>,
    /// As what the signer named the image, here and in what else was signed as it is asked: foreign text, bounded. Empty where nothing
    /// that was signed names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The piece's bytes.
    pub evidence: Digest,
    /// Where it was found.
    pub origin: Origin,
}

/// Which attestation a piece is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested {
    /// Its name in the authority.
    pub name: String,
    /// The statement's.
    pub predicate_type: String,
}

/// What became of one authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityFinding {
    /// Its name.
    pub authority: String,
    /// Whether it was satisfied.
    pub satisfied: bool,
    /// The pieces of evidence it was shown, the good ones first; at most [`PIECES_TOLD_MAX`].
    pub pieces: Vec<PieceFinding>,
    /// How many more there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pieces_not_told: usize,
}

/// What became of one piece of evidence before one authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PieceFinding {
    /// The piece's bytes.
    pub evidence: Digest,
    /// Where it was found.
    pub origin: Origin,
    /// Which attestation of the authority it was looked at for; none for a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<String>,
    /// Of a good one, which of several with these bytes it is: [`crate::Form::piece`]. None in records of older builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<Digest>,
    /// The first check that failed; none where it is good.
    pub failed: Option<Reason>,
    /// Wanted and seen where it failed, else who signed: one clause.
    pub told: String,
}

/// Most pieces of evidence told of one authority: records are stored for every image.
pub const PIECES_TOLD_MAX: usize = 16;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A stored record that cannot be read. Its verdict has ended.
#[derive(Debug, thiserror::Error)]
#[error("stored verdict cannot be read")]
pub struct RecordError(#[source] serde_json::Error);

impl Record {
    pub(crate) fn new(
        (repository, digest, fingerprint): (Repository, Digest, Fingerprint),
        (decided_at, ends_at): (UnixTime, Option<UnixTime>),
        policies: Vec<PolicyFinding>,
        effect: Effect,
    ) -> Self {
        let judge = JUDGE_VERSION.to_owned();
        Self { format: FORMAT, judge, repository, digest, fingerprint, decided_at, ends_at, policies, effect }
    }

    /// As stored.
    ///
    /// # Panics
    /// Never: a record holds only text, numbers and lists of them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text, numbers and lists of them can be written as JSON")
    }

    /// From the store.
    ///
    /// # Errors
    /// When the bytes are not a record of this form. The verdict is then to be made again.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(bytes).map_err(RecordError)
    }

    /// Whether this build wrote it: same form, same judge.
    pub(crate) fn is_ours(&self) -> bool {
        self.format == FORMAT && self.judge == JUDGE_VERSION
    }

    /// Whether the verdict counts at `now`. A record dated in the future has ended: the clock it was made by was wrong, or ours is.
    #[must_use]
    pub fn holds_at(&self, now: UnixTime) -> bool {
        self.decided_at <= now && self.ends_at.is_none_or(|ends_at| now < ends_at)
    }

    /// Of the image judged.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Of the image judged.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Under what it was judged.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// When it was judged.
    #[must_use]
    pub fn decided_at(&self) -> UnixTime {
        self.decided_at
    }

    /// When the verdict could change by itself; never where none.
    #[must_use]
    pub fn ends_at(&self) -> Option<UnixTime> {
        self.ends_at
    }

    /// What was found, policy by policy.
    #[must_use]
    pub fn findings(&self) -> &[PolicyFinding] {
        &self.policies
    }

    /// What it led to.
    #[must_use]
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    /// The refusal, where the effect is not to serve.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.effect {
            Effect::Refuse(refusal) | Effect::Absent(refusal) => Some(refusal),
            Effect::Serve | Effect::Warn(_) => None,
        }
    }
}

/// A fingerprint as hexadecimal text.
mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::fingerprint::Fingerprint;

    pub(super) fn serialize<S: Serializer>(fingerprint: &Fingerprint, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(fingerprint)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A mode as policies spell it.
mod mode {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::policy_set::Mode;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
    pub(super) fn serialize<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(mode.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
        let text = String::deserialize(deserializer)?;
        [Mode::Enforce, Mode::Warn]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| D::Error::custom("mode is neither enforce nor warn"))
    }
}
