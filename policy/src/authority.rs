//! Who may vouch for an image: the authorities of a policy.

use std::fmt;

use crate::{
    evidence::{Location, Origin, Source},
    identity::Identity,
    predicate::PredicateType,
    rego::Rego,
};

/// One way to satisfy a policy. In a policy one authority suffices.
///
/// Only loading a policy makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authority {
    /// Unique within its policy; `authority-<index>` where the policy gives none.
    pub name: String,
    /// Whom it believes.
    pub kind: AuthorityKind,
    /// What it wants attested, each of these by its own identity; a signature where there are none.
    pub attestations: Vec<Attestation>,
    /// Where cosign's tags are looked up.
    pub location: Location,
    /// What a signature must rest on besides its signer.
    pub proof: Proof,
}

impl Authority {
    /// The places that can hold what it asks for; none where it asks nobody.
    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        let tag = if self.attestations.is_empty() { Source::CosignTag } else { Source::CosignAttestationTag };
        let asks = !matches!(self.kind, AuthorityKind::Static(_));
        let tag = Origin { source: tag, location: self.location.clone() };
        [tag, Origin::beside(Source::ReferrersApi), Origin::beside(Source::ReferrersTag)]
            .into_iter()
            .filter(move |_| asks)
    }
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

/// Certificates of the trust root's CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyless {
    /// At least one; any of them suffices.
    pub identities: Vec<Identity>,
    /// The certificate need not have been published in a certificate log: a weakening.
    pub ignore_sct: bool,
}

/// A public key from the policy itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// One PEM block, `PUBLIC KEY` or `RSA PUBLIC KEY`.
    pub pem: String,
    /// What the signature is made over, where the policy says it; SHA-256 where it does not, and in an envelope also what is usual for
    /// the kind of key. Ed25519 ignores it.
    pub hash: Option<HashAlgorithm>,
}

/// What a signature must rest on besides its signer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Proof {
    /// A transparency log entry is asked for. Always with a certificate, unless `timestamp` is and no `ctlog` is written.
    pub log: bool,
    /// An RFC 3161 timestamp is asked for: `rfc3161timestamp` is written.
    pub timestamp: bool,
    /// Whose certificates, logs and timestamps are believed.
    pub trust: Trust,
}

/// Which trust root answers for what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Trust {
    /// Certificate authorities and certificate logs: `keyless.trustRootRef`.
    pub ca: RootRef,
    /// Transparency logs: `ctlog.trustRootRef`.
    pub log: RootRef,
    /// Timestamp authorities: `rfc3161timestamp.trustRootRef`.
    pub timestamp: RootRef,
}

/// A trust root by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RootRef {
    /// The one of the configuration.
    #[default]
    Configured,
    /// A `TrustRoot` document of the policy files.
    Named(String),
}

/// What is to be attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Unique within its authority.
    pub name: String,
    /// Which statements count.
    pub predicate_type: PredicateType,
    /// What the statement must say besides being there.
    pub rule: Option<Rego>,
}

/// Digest algorithm of key signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
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
