//! What judging asks of cryptography, without naming who does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use oci::{Digest, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    authority::{Key, Proof},
    condition::Workflow,
    evidence::UntrustedPiece,
    refusal::{Reason, told},
};

/// Verifies one piece of evidence. Implemented by the adapter to the Sigstore crates.
pub(crate) trait Verifier: Send + Sync {
    /// What `piece` says about `subject`. Nothing is believed yet: whoever could put it there could have written it.
    fn read(&self, piece: &UntrustedPiece, subject: &Digest) -> Result<Claim, Flaw>;

    /// Whether what `piece` says about `subject` is signed as `demand` wants it. Says who signed, not whether we accept them.
    fn verify(&self, piece: &UntrustedPiece, subject: &Digest, demand: Demand<'_>) -> Result<Signed, Flaw>;

    /// The statement within `piece`: the bytes that are signed. For content rules, after `verify`.
    fn statement(&self, piece: &UntrustedPiece) -> Result<Vec<u8>, Flaw>;
}

/// What a piece of evidence says about its subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Claim {
    /// That it is signed: simple signing, or cosign's own statement.
    Signature {
        /// The signer's own words: simple signing's `optional`, the subject's annotations in a statement.
        annotations: BTreeMap<String, Value>,
        /// As which type of statement it can also be asked for; none for simple signing.
        predicate_type: Option<String>,
        /// As what the signer named the image: simple signing's docker-reference, the subject's names in a statement.
        names: Names,
    },
    /// Something else, by its type.
    Attestation {
        /// From the statement, never from an annotation.
        predicate_type: String,
        /// Of the subject.
        annotations: BTreeMap<String, Value>,
        /// Of the subject.
        names: Names,
    },
}

impl Claim {
    /// The signer's own words.
    pub(crate) fn annotations(&self) -> &BTreeMap<String, Value> {
        match self {
            Self::Signature { annotations, .. } | Self::Attestation { annotations, .. } => annotations,
        }
    }

    /// As what the signer named the image.
    pub(crate) fn names(&self) -> &Names {
        match self {
            Self::Signature { names, .. } | Self::Attestation { names, .. } => names,
        }
    }

    /// The type of the statement, where it is one.
    pub(crate) fn predicate_type(&self) -> Option<&str> {
        match self {
            Self::Signature { predicate_type, .. } => predicate_type.as_deref(),
            Self::Attestation { predicate_type, .. } => Some(predicate_type),
        }
    }
}

/// Most names of one image that are kept: records are stored for every image.
const NAMES_MAX: usize = 16;
/// Longest name that is kept, in bytes. A longer one is cut, and is then the name of nothing.
const NAME_BYTES_MAX: usize = 512;

/// The names by which signers called an image: foreign text, each once, bounded in number and length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// Those of `more` besides; an empty one is none.
    pub(crate) fn add<'n>(&mut self, more: impl IntoIterator<Item = &'n str>) {
        for name in more {
            if name.is_empty() || self.0.len() == NAMES_MAX {
                continue;
            }
            let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
            self.0.insert(name.get(..end).unwrap_or_default().to_owned());
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<'n> FromIterator<&'n str> for Names {
    fn from_iter<I: IntoIterator<Item = &'n str>>(names: I) -> Self {
        let mut all = Self::default();
        all.add(names);
        all
    }
}

/// What a signature must rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demand<'a> {
    /// By whom.
    pub by: By<'a>,
    /// Log entry, timestamp, and whose word counts.
    pub proof: &'a Proof,
    /// No signature was made after this.
    pub now: UnixTime,
}

/// By whom a signature must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By<'a> {
    /// The holder of a certificate of the trust root's CA.
    Certificate {
        /// The certificate must have been published in a certificate log.
        sct: bool,
    },
    /// The holder of this key.
    Key(&'a Key),
}

/// A signature that is good, by whoever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Who signed.
    pub signer: Signer,
    /// What the certificate says of the workflow that signed.
    pub workflow: Workflow,
    /// The earliest trusted time at which the signature existed.
    pub at: Option<UnixTime>,
    /// What the controller calls the signature's `id`: SHA-256 over signature and certificate, hexadecimal.
    pub id: String,
}

/// Who made a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Signer {
    /// The holder of a short-lived certificate.
    Certificate {
        /// The OIDC issuer that vouched.
        issuer: String,
        /// The certificate's only subject alternative name.
        subject: String,
    },
    /// The holder of a key named in the policy.
    Key {
        /// SHA-256 of the key in DER, hexadecimal.
        fingerprint: String,
    },
}

/// As refusals and records tell it; foreign text in it is escaped.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { issuer, subject } => write!(f, "\"{}\" (issuer \"{}\")", told(subject), told(issuer)),
            Self::Key { fingerprint } => write!(f, "key sha256:{}", told(fingerprint)),
        }
    }
}

/// Why a piece is not a good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The kind.
    pub reason: Reason,
    /// One clause for the refusal; foreign text in it is escaped already.
    pub detail: String,
}

impl Flaw {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// What became of examining one piece.
#[derive(Debug, Clone)]
pub(crate) enum Examined<T> {
    Good(T),
    Flawed(Flaw),
    /// The examiner panicked. Not a yes, and not an answer that could be remembered as a no.
    Panicked,
}

impl<T> Examined<T> {
    /// What comes of asking further, where all is good so far.
    pub(crate) fn and_then<U>(self, further: impl FnOnce(T) -> Examined<U>) -> Examined<U> {
        match self {
            Self::Good(good) => further(good),
            Self::Flawed(flaw) => Examined::Flawed(flaw),
            Self::Panicked => Examined::Panicked,
        }
    }
}

impl<T> From<Result<T, Flaw>> for Examined<T> {
    fn from(result: Result<T, Flaw>) -> Self {
        match result {
            Ok(good) => Self::Good(good),
            Err(flaw) => Self::Flawed(flaw),
        }
    }
}

/// Runs an examination whatever it does.
///
/// Unwinding is caught here so that a malformed piece cannot take the server down. `AssertUnwindSafe` is right: verifiers and rules
/// are immutable, their inputs are only read, and a result that was not reached is thrown away.
pub(crate) fn examine<T>(question: impl FnOnce() -> Result<T, Flaw>) -> Examined<T> {
    match catch_unwind(AssertUnwindSafe(question)) {
        Ok(result) => result.into(),
        Err(_panic) => Examined::Panicked,
    }
}
