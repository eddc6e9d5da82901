//! Signatures of files: what is not an image, with a bundle beside it.
//!
//! ```
//! use policy::artifact::{Artifact, ArtifactSigner, verify};
//!
//! let signer = ArtifactSigner::Certificate { identity: "dev@example.com".into(), issuer: "https://accounts.example.com".into() };
//! let (root, now) = (policy::TrustRoot::public_good(), oci::UnixTime::from_millis(1_793_491_200_000));
//! let fault = verify(b"{}", &Artifact::Bytes(b"hello"), &signer, &root, now).unwrap_err();
//! assert!(fault.to_string().starts_with("not a good signature"));
//! ```
//!
//! Nothing here admits an image. The same adapter verifies, so that what is true of files is true of evidence.

use oci::{Digest, UnixTime};

use crate::{
    authority::Key,
    condition::Workflow,
    refusal::{Reason, told},
    sigstore::{self, Hand, Signable, Sigstore},
    trust_root::{TrustRoot, TrustRootError},
    verifier::{Flaw, Signed, Signer},
};

/// What a signature must be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// Bytes of this digest. Ed25519 signatures over bytes need the bytes.
    Digest(Digest),
}

/// Who must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactSigner {
    /// The holder of a certificate for exactly this identity, from exactly this issuer.
    Certificate {
        /// The certificate's only subject alternative name.
        identity: String,
        /// The OIDC issuer that vouched.
        issuer: String,
    },
    /// The holder of this key.
    Key {
        /// One PEM block, `PUBLIC KEY` or `RSA PUBLIC KEY`.
        pem: String,
    },
}

/// A signature that is good, by the signer that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedArtifact {
    /// Who signed.
    pub signer: Signer,
    /// What the certificate says of the workflow that signed.
    pub workflow: Workflow,
    /// The earliest trusted time of the signature; none where a key signed and no trusted time says when.
    pub signed_at: Option<UnixTime>,
}

/// Why a signature was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactFault {
    /// The trust root cannot be used.
    #[error(transparent)]
    TrustRoot(#[from] TrustRootError),
    /// The signature is not good, or not about the artifact, or by somebody else.
    #[error("not a good signature ({reason}): {detail}")]
    Refused {
        /// The kind of reason.
        reason: Reason,
        /// One clause; foreign text in it is escaped.
        detail: String,
    },
}

/// Whether the Sigstore bundle `bundle`, of version 0.1 (with proof), 0.2 or 0.3, is a signature of `artifact` by `signer`: over its
/// bytes, or a statement that names its digest. A log entry is always asked for, and with a certificate its SCT and a signed time; nothing is believed to
/// have been signed after `now`.
///
/// # Errors
/// When it is not.
pub fn verify(
    bundle: &[u8],
    artifact: &Artifact<'_>,
    signer: &ArtifactSigner,
    trust_root: &TrustRoot,
    now: UnixTime,
) -> Result<VerifiedArtifact, ArtifactFault> {
    let sigstore = Sigstore::new(trust_root)?;
    let about = match artifact {
        Artifact::Bytes(bytes) => Signable::Bytes(bytes),
        Artifact::Digest(digest) => Signable::Digest(digest),
    };
    let hand = match signer {
        ArtifactSigner::Certificate { .. } => Hand::Certificate,
        ArtifactSigner::Key { pem } => {
            let key = Key { pem: pem.clone(), hash: None };
            Hand::Key(sigstore::parse_key(&key)?)
        }
    };
    let Signed { signer: seen, workflow, at, .. } = sigstore.verify_file(bundle, &about, &hand, now)?;
    accept(signer, &seen)?;
    Ok(VerifiedArtifact { signer: seen, workflow, signed_at: at })
}

/// Whether it is the signer who was asked for. Whom a key belongs to was settled by verifying with it.
fn accept(wanted: &ArtifactSigner, seen: &Signer) -> Result<(), Flaw> {
    let same = match (wanted, seen) {
        (ArtifactSigner::Certificate { identity, issuer: wanted }, Signer::Certificate { issuer, subject }) => {
            subject == identity && issuer == wanted
        }
        (ArtifactSigner::Key { .. }, Signer::Key { .. }) => true,
        _ => false,
    };
    if same {
        return Ok(());
    }
    let wanted = match wanted {
        ArtifactSigner::Certificate { identity, issuer } => {
            format!("\"{}\" (issuer \"{}\")", told(identity), told(issuer))
        }
        ArtifactSigner::Key { .. } => "a key".to_owned(),
    };
    Err(Flaw::new(Reason::IdentityMismatch, format!("signed by {seen}, and {wanted} is asked for")))
}

impl From<Flaw> for ArtifactFault {
    fn from(Flaw { reason, detail }: Flaw) -> Self {
        Self::Refused { reason, detail }
    }
}
