//! What commands are answered with: facts, to be made readable by whoever asked.

mod cache;

use std::fmt;

use oci::{Digest, Repository, UnixTime};
use policy::{PolicyFinding, Signer, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::cache::{
    AmountTold, CacheAnswer, FreedTold, KeptImage, KeptShown, LeftImage, LeftLayer, Listed, MarksTold, NewestForgotten,
    Part, Pinned, Scrubbed, Stats, Unhealed,
};
use crate::error::ApiError;

/// One answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To `verify`.
    Verified(Verified),
    /// To `attestation`.
    Attested(Attested),
    /// To `explain`.
    Explained(Explained),
    /// To `policy test`: image by image.
    Tested(Vec<Result<Judged, Failure>>),
    /// To `policy diff`.
    Differs(Differences),
    /// To `policy check`.
    Checked(Checked),
    /// To `cache`.
    Cache(CacheAnswer),
    /// Whatever was asked, it came to nothing.
    Failed(Failure),
}

/// What came of judging one image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Judged {
    /// As typed; as stored where nobody typed it.
    pub image: String,
    /// Of the image.
    pub repository: Repository,
    /// Of the image.
    pub digest: Digest,
    /// What it leads to.
    pub verdict: Verdict,
    /// Why, in one line; none where it is served.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What was found, policy by policy; empty where nobody can say.
    pub policies: Vec<PolicyFinding>,
    /// When it was judged.
    pub decided_at: Option<UnixTime>,
    /// When the verdict could change by itself.
    pub ends_at: Option<UnixTime>,
}

/// What judging leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The image is served.
    Served,
    /// The image is served with a warning.
    Warned,
    /// The image is not served: evidence was seen and is not good enough, or none could help.
    Refused,
    /// The image is not served: there is no evidence yet.
    Absent,
    /// Nobody can say.
    Undecided,
}

impl Verdict {
    /// As it is told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Warned => "served with a warning",
            Self::Refused => "refused",
            Self::Absent => "refused (no evidence yet)",
            Self::Undecided => "undecided",
        }
    }

    /// Whether a client gets the image.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::Served | Self::Warned)
    }
}

/// To `verify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verified {
    /// What came of judging.
    pub judged: Judged,
    /// Whether every policy that governs the image was satisfied by evidence. A served image need not be.
    pub is_verified: bool,
    /// What each of the signatures was found to be.
    pub checks: Vec<String>,
    /// What was signed and by whom, in the form of cosign's output; empty where it is not verified.
    pub signatures: Vec<Value>,
    /// Lines about the rules: where cosign would have decided otherwise.
    pub notes: Vec<String>,
}

/// To `attestation`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attested {
    /// As typed.
    pub image: String,
    /// Of the image.
    pub repository: Repository,
    /// Of the image, or of its platform.
    pub digest: Digest,
    /// What each of them was found to be.
    pub checks: Vec<String>,
    /// The good ones.
    pub attestations: Vec<Told>,
    /// Of each type of which none is good: why.
    pub failures: Vec<Failure>,
    /// Lines about the rules.
    pub notes: Vec<String>,
}

/// One attestation whose signature is good.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    /// The statement's.
    pub predicate_type: String,
    /// The envelope as JSON on one line: `payloadType`, `payload`, `signatures`.
    pub envelope: String,
    /// Who signed.
    pub signer: Signer,
    /// What the certificate says of the workflow.
    pub workflow: Workflow,
    /// The earliest trusted time.
    pub signed_at: Option<UnixTime>,
}

/// To `explain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explained {
    /// As typed.
    pub image: String,
    /// Of the image that was asked about.
    pub digest: Digest,
    /// The tag as it is stored, where a tag was asked about.
    pub tag: Option<Box<TagTold>>,
    /// The verdict.
    pub judged: Judged,
    /// The verdict is stored and holds; else it was made just now from the evidence that is stored, and is not stored.
    pub is_stored: bool,
    /// The index through which the image is judged. The verdict is about the index, or about the image where a policy asks for its own
    /// evidence besides.
    pub through: Option<Digest>,
}

/// What the store knows of a tag.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TagTold {
    /// Its name.
    pub name: String,
    /// What it means.
    pub digest: Digest,
    /// Since when, as far as we saw.
    pub seen_at: UnixTime,
    /// When upstream last said so.
    pub checked_at: UnixTime,
    /// When upstream said that it is no more.
    pub gone_at: Option<UnixTime>,
    /// What was signed last of all that was ever served under it, and when that was.
    pub newest: Option<(Digest, UnixTime)>,
    /// What was served under it, the last first.
    pub targets: Vec<TargetTold>,
    /// What it has meant, the newest first.
    pub history: Vec<EventTold>,
    /// What it is answered with, by what is stored.
    pub answer: TagAnswer,
    /// Why, where that is not what it means.
    pub why: Option<String>,
}

/// An image that was served under a tag.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TargetTold {
    /// The image.
    pub digest: Digest,
    /// When it began to be served, the last time.
    pub served_at: UnixTime,
    /// When it was signed, on trusted word.
    pub signed_at: Option<UnixTime>,
}

/// A tag took on a meaning.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventTold {
    /// What it meant from then on.
    pub digest: Digest,
    /// When we saw that.
    pub at: UnixTime,
    /// How it was answered when it was last looked at with that meaning.
    pub look: Option<LookTold>,
}

/// How a tag was answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LookTold {
    /// When.
    pub at: UnixTime,
    /// Whether what it meant was served.
    pub served: bool,
    /// When that was signed, on trusted word.
    pub signed_at: Option<UnixTime>,
    /// By which evidence it was let in.
    pub evidence: Vec<Digest>,
    /// The refusal or the warning; empty where there was nothing to tell.
    pub told: String,
}

/// What a tag is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagAnswer {
    /// The image that it means.
    Served {
        /// The image.
        digest: Digest,
        /// With a warning.
        warned: bool,
    },
    /// An earlier one in its place, with a warning.
    LastGood {
        /// That one.
        digest: Digest,
    },
    /// A refusal.
    Refused,
    /// Nobody can say.
    Undecided,
}

impl fmt::Display for TagAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served { digest, warned: false } => write!(f, "{digest}"),
            Self::Served { digest, warned: true } => write!(f, "{digest} with a warning"),
            Self::LastGood { digest } => write!(f, "{digest}, its last good image"),
            Self::Refused => f.write_str("refused"),
            Self::Undecided => f.write_str("undecided"),
        }
    }
}

/// A tag that two sets of policies answer otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangedTag {
    /// The tag's.
    pub repository: Repository,
    /// The tag.
    pub tag: String,
    /// Under what is in force.
    pub from: TagAnswer,
    /// Under the new policies.
    pub to: TagAnswer,
    /// Why, under the new policies.
    pub message: Option<String>,
}

/// To `policy diff`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Differences {
    /// Images in the store that are judged by evidence of their own.
    pub kept: usize,
    /// Those about which the new policies decide otherwise.
    pub changed: Vec<Changed>,
    /// Tags that the new policies answer otherwise.
    pub tags: Vec<ChangedTag>,
    /// Lines about the new policies.
    pub notes: Vec<String>,
}

/// An image about which two sets of policies decide otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// Of the image.
    pub repository: Repository,
    /// Of the image.
    pub digest: Digest,
    /// Under what is in force.
    pub from: Verdict,
    /// Under the new policies.
    pub to: Verdict,
    /// Why, under the new policies.
    pub message: Option<String>,
}

/// To `policy check`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checked {
    /// The files.
    pub files: Vec<String>,
    /// The names of the policies; empty where something is wrong.
    pub policies: Vec<String>,
    /// Weakenings, and where the controller would do something else.
    pub notes: Vec<String>,
    /// Everything that is wrong.
    pub errors: Vec<Flaw>,
}

/// One thing that is wrong in a policy file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flaw {
    /// In which file.
    pub file: String,
    /// On which line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// In which field; empty for a whole document.
    pub field: String,
    /// What is written and what is expected.
    pub what: String,
    /// The way out.
    pub hint: Option<String>,
}

impl Flaw {
    /// One that is in no place of a file.
    #[must_use]
    pub fn whole(what: String) -> Self {
        Self { file: String::new(), line: 0, field: String::new(), what, hint: None }
    }
}

/// Why there is no better answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Of what kind.
    pub kind: Kind,
    /// One clause.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

/// Kinds of failure; each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The answer is no; or what was given cannot be used.
    No,
    /// What was typed cannot be meant.
    Usage,
    /// Nobody can say: upstream, store or server did not answer.
    Unanswered,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn no(message: impl Into<String>) -> Self {
        Self { kind: Kind::No, message: message.into(), hint: None }
    }

    /// What was typed cannot be meant.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), hint: Some(hint.into()) }
    }

    /// Nobody can say.
    pub(crate) fn unanswered(message: impl Into<String>) -> Self {
        Self { kind: Kind::Unanswered, message: message.into(), hint: None }
    }

    /// With a way out.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let kind = match &error {
            ApiError::Malformed(..)
            | ApiError::NoSuchEndpoint
            | ApiError::Unsupported { .. }
            | ApiError::HeadersTooMany { .. } => Kind::Usage,
            ApiError::Unknown { .. }
            | ApiError::Refused(_)
            | ApiError::Led(_)
            | ApiError::RepositoryRefused { .. }
            | ApiError::Wrong { .. }
            | ApiError::Range { .. } => Kind::No,
            ApiError::Undecided { .. }
            | ApiError::NotJudged
            | ApiError::RateLimited { .. }
            | ApiError::Overloaded { .. }
            | ApiError::Fault { .. } => Kind::Unanswered,
        };
        // Nobody who asks here is served anything.
        let message = error.to_string().trim_end_matches("; nothing served").to_owned();
        let hint = if let ApiError::Refused(refusal) = &error { refusal.hint.clone() } else { None };
        Self { kind, message, hint }
    }
}
