//! What judging asks of cryptography, without naming who does it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use oci::{Digest, UnixTime};
use serde::{Deserialize, Serialize};

use crate::{authority::Key, evidence::UntrustedPiece, refusal::Reason};

/// Verifies one piece of evidence. Implemented by the adapter to the Sigstore crates.
pub(crate) trait Verifier: Send + Sync {
    /// Whether `piece` is a signature over `subject` that answers `demand`. Says who signed, not whether we accept them.
    fn verify(&self, piece: &UntrustedPiece, subject: &Digest, demand: Demand<'_>) -> Result<Signed, Flaw>;
}

/// What a signature must rest on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Demand<'a> {
    /// A certificate of the trust root's CA, a log entry and a signed time.
    Certificate {
        /// The certificate must have been published in a certificate log.
        sct: bool,
    },
    /// This key; a log entry where the authority asks for one.
    Key(&'a Key),
}

/// A signature that is good, by whoever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// Who signed.
    pub signer: Signer,
    /// The earliest trusted time at which the signature existed.
    pub at: Option<UnixTime>,
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
pub(crate) enum Examined {
    Signed(Signed),
    Flawed(Flaw),
    /// The verifier panicked. Not a yes, and not an answer that could be remembered as a no.
    Panicked,
}

/// Verifies a piece whatever the verifier does.
///
/// Unwinding is caught here so that a malformed piece cannot take the server down. `AssertUnwindSafe` is right: a verifier is
/// immutable, its inputs are only read, and its result is thrown away.
pub(crate) fn examine(
    verifier: &dyn Verifier,
    piece: &UntrustedPiece,
    subject: &Digest,
    demand: Demand<'_>,
) -> Examined {
    match catch_unwind(AssertUnwindSafe(|| verifier.verify(piece, subject, demand))) {
        Ok(Ok(signed)) => Examined::Signed(signed),
        Ok(Err(flaw)) => Examined::Flawed(flaw),
        Err(_panic) => Examined::Panicked,
    }
}
