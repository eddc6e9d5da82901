//! What judging gives, in words of its own.

use std::time::Duration;

use oci::UnixTime;

use super::admitted::{Admitted, Manifest};
use crate::{record::Record, refusal::Refusal, trust_root::TrustRootError};

/// How long verdicts last that time alone can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictLifetimes {
    /// Of *absent*: images are pushed seconds before they are signed.
    pub absent_ttl: Duration,
    /// Of *refused*.
    pub refused_ttl: Duration,
    /// Of one whose rules looked at the time.
    pub clock_ttl: Duration,
    /// When the trust root becomes too old to be used; never where none. Every verdict that used it ends then.
    pub trust_root_ends: Option<UnixTime>,
}

/// Why there can be no judge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The trust root cannot be used.
    #[error("trust root cannot be used")]
    TrustRoot(#[source] TrustRootError),
    /// A policy names a trust root that is not there.
    #[error("policy {policy} names trust root \"{name}\", which is not there")]
    UnknownTrustRoot {
        /// The policy's name.
        policy: String,
        /// The trust root's name.
        name: String,
    },
}

/// What judging a digest found. Admits nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assessment {
    /// Every policy was decided.
    Complete(Record),
    /// Some policy could not be decided, and does not matter: it only warns, or another refuses anyway. Never stored.
    Partial(Record),
    /// Nobody can say.
    Undecided(Undecided),
}

/// What judging gave.
#[derive(Debug)]
pub struct Judgement {
    /// To be stored; none where the verdict could not be made in full.
    pub record: Option<Record>,
    /// To be kept in memory only, for as long as it holds: a `warn` policy could not be decided, and an outage must not cost each
    /// pull the whole time budget. None where `record` is there, and where nothing was decided.
    pub in_memory: Option<Record>,
    /// What it led to.
    pub outcome: Outcome,
}

/// What judging led to.
#[expect(clippy::large_enum_variant, reason = "made once per judgement and moved, never kept in lists")]
#[derive(Debug)]
pub enum Outcome {
    /// To be served, with a warning where the admission has one.
    Admitted(Admitted<Manifest>),
    /// Evidence was seen and is not good enough, or none could help.
    Refused(Refusal),
    /// There is no evidence yet.
    Absent(Refusal),
    /// Nobody can say. Never remembered.
    Undecided(Undecided),
}

/// Why nobody can say. Not a refusal: nothing is known against the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {policy} cannot be decided: {why}")]
pub struct Undecided {
    /// The first enforced policy that could not be decided.
    pub policy: String,
    /// One clause; foreign text in it is escaped.
    pub why: String,
}

/// What a stored verdict is worth now.
#[expect(clippy::large_enum_variant, reason = "made once per judgement and moved, never kept in lists")]
#[derive(Debug)]
pub enum Readmission {
    /// To be served.
    Admitted(Admitted<Manifest>),
    /// Not to be served.
    Refused(Refusal),
    /// Worth nothing: judge again.
    Ended,
}
