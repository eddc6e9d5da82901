//! What is let in: policies, evidence and a trust root become a verdict.
//!
//! ```text
//! ClusterImagePolicy YAML ── cip ──> PolicySet ─┐
//! <repository>@<digest> ─────────── glob ───────┼─> Judge ──> Admitted | Refusal
//! UntrustedEvidence, trust root, now ───────────┘
//! ```
//!
//! This crate knows the policy language, the formats of evidence and when one satisfies the other. It refuses to know
//! where bytes come from and what time it is: no file, no socket, no clock.

mod admit;
pub mod authority;
pub mod cip;
pub mod evidence;
mod fingerprint;
pub mod glob;
pub mod identity;
pub mod policy_set;
mod record;
mod refusal;
mod servable;
mod sigstore;
mod trust_root;
mod verifier;

pub use admit::{
    Admitted, Assessment, ChildJudgement, ChildOutcome, EvidenceManifest, Judge, JudgeError, Judgement, Manifest,
    Outcome, Permit, Readmission, Undecided, VerdictLifetimes,
};
pub use authority::{Authority, AuthorityKind, HashAlgorithm, Key, Keyless, StaticAction};
pub use cip::{LoadError, LoadErrors};
pub use evidence::{Source, Unasked, UntrustedEvidence, UntrustedPiece};
pub use fingerprint::{Fingerprint, JUDGE_VERSION};
pub use glob::{Glob, GlobError};
pub use identity::{Identity, Pattern};
pub use policy_set::{LoadContext, Loaded, Mode, NoMatch, Place, Policy, PolicySet, SourceText};
pub use record::{Effect, Finding, PolicyFinding, Record, RecordError};
pub use refusal::{Reason, Refusal};
pub use servable::{EvidenceLink, NotEvidence};
pub use trust_root::{TrustRoot, TrustRootError};
pub use verifier::Signer;
