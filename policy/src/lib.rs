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
pub mod artifact;
pub mod authority;
pub mod cip;
mod condition;
pub mod evidence;
mod fingerprint;
#[doc(hidden)]
pub mod fuzz;
pub mod glob;
mod guard;
pub mod identity;
pub mod policy_set;
mod predicate;
mod record;
mod refusal;
mod rego;
mod servable;
mod sigstore;
mod trust_root;
mod verifier;

pub use admit::{
    Admitted, Assessment, ChildJudgement, ChildOutcome, EvidenceManifest, FirstToEnd, Judge, JudgeError, Judgement,
    Kept, Manifest, Outcome, Permit, Readmission, Undecided, VerdictLifetimes, Worth,
};
pub use authority::{
    Attestation, Authority, AuthorityKind, HashAlgorithm, Key, Keyless, Proof, RootRef, StaticAction, Trust,
};
pub use cip::{LoadError, LoadErrors};
pub use condition::{Conditions, Workflow};
pub use evidence::{
    Form, Location, Origin, Source, Unasked, UntrustedConfigs, UntrustedEvidence, UntrustedPiece, Wanted,
};
pub use fingerprint::{Fingerprint, JUDGE_VERSION};
pub use glob::{Glob, GlobError};
pub use guard::{Dated, Guard, Guarded, Guards, Led, Level, TagGuards, TagRefusal};
pub use identity::{Identity, Pattern};
pub use policy_set::{LoadContext, Loaded, Mode, NoMatch, Place, Policy, PolicyRule, PolicySet, SourceText};
pub use predicate::{PredicateType, PredicateTypeError};
pub use record::{
    Attested, AuthorityFinding, Effect, Finding, PIECES_TOLD_MAX, PieceFinding, PolicyFinding, Record, RecordError,
    VerifiedPiece, signed_at,
};
pub use refusal::{Reason, Refusal};
pub use rego::{Rego, RegoBounds, RegoError, RegoFault};
pub use servable::{EvidenceLink, NotEvidence};
pub use trust_root::{AnchorKind, TrustAnchor, TrustRoot, TrustRootError};
pub use verifier::Signer;
