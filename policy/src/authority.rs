//! Who may vouch for an image: the authorities of a policy.

use std::fmt;

use crate::identity::Identity;

/// One way to satisfy a policy. In a policy one authority suffices.
///
/// Only loading a policy makes one; what it asks for is a signature. (Attestations will be a further field.)
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authority {
    /// Unique within its policy; `authority-<index>` where the policy gives none.
    pub name: String,
    /// Whom it believes.
    pub kind: AuthorityKind,
}

/// Whom an authority believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityKind {
    /// A short-lived certificate for one of several identities.
    Keyless(Keyless),
    /// The holder of a long-lived key.
    Key(Key),
    /// Nobody is asked.
    Static(StaticAction),
}

/// Certificates of the trust root's CA. A transparency log entry and a signed time are always asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyless {
    /// At least one; any of them suffices.
    pub identities: Vec<Identity>,
    /// The certificate need not have been published in a certificate log: a weakening.
    pub ignore_sct: bool,
}

/// A public key from the policy itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// One PEM block, `PUBLIC KEY` or `RSA PUBLIC KEY`.
    pub pem: String,
    /// What the signature is made over. Ed25519 ignores it.
    pub hash: HashAlgorithm,
    /// The policy has a `ctlog`: a transparency log entry is asked for.
    pub log: bool,
}

/// Digest algorithm of key signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashAlgorithm {
    /// The default for every kind of key.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// As policies spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision without evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaticAction {
    /// Satisfied, unverified: a weakening.
    Pass,
    /// Never satisfied.
    Fail {
        /// The operator's own words for the refusal.
        message: Option<String>,
    },
}
