//! The cryptography of evidence and nothing else: what the Sigstore crates do when nobody asks for a verdict. For benches to compare
//! with.

use oci::Digest;
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier};

/// A verifier by one trust root.
pub struct Bare(Verifier);

/// A bundle as the crates hold it: read, not verified.
pub struct Read(Bundle);

impl Bare {
    /// A verifier by `trusted_root.json`.
    ///
    /// # Panics
    /// When the crates do not take it.
    #[must_use]
    pub fn new(trusted_root: &str) -> Self {
        let root = TrustedRoot::from_json(trusted_root).expect("a trust root");
        Self(Verifier::new(&root).expect("a verifier"))
    }

    /// Whether the bundle is a good signature of `subject` by a certificate: chain, SCT, log, time, envelope.
    #[must_use]
    pub fn verify(&self, bundle: &Read, subject: &Digest) -> bool {
        let hash = Sha256Hash::from_hex(subject.hex()).expect("a digest is hexadecimal");
        let result = self.0.verify(hash, &bundle.0, &VerificationPolicy::any_identity());
        result.is_ok_and(|result| result.certificate_verified() && result.sct_verified() && result.tlog_verified())
    }
}

impl Read {
    /// From JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn new(bundle: &str) -> Self {
        Self(Bundle::from_json(bundle).expect("a bundle"))
    }
}
