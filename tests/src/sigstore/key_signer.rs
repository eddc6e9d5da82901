//! Signing with a key of one's own, `cosign sign --key`.

use oci::Digest;
use serde_json::{Map, Value};

use super::{
    Flaw, Options, VirtualSigstore, bundle,
    document::COSIGN_SIGN,
    key::{Key, KeyKind},
    legacy::{self, LegacySignature},
    party::Party,
    signer::Signer,
};

/// Somebody with a key.
pub struct KeySigner {
    key: Key,
}

impl KeySigner {
    /// Makes a key.
    #[must_use]
    pub fn generate(kind: KeyKind) -> Self {
        Self { key: Key::generate(kind) }
    }

    /// The public key as it stands in a policy: PEM, `PUBLIC KEY`.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.key.public_pem()
    }

    /// The kind of key.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.key.kind
    }

    /// Signs an image in the legacy layout; without a log the signature is all that there is. A logged signature by a P-384 key is one
    /// over SHA-384, which the crates do not read from `hashedrekord` entries.
    #[must_use]
    pub fn sign_legacy(
        &self,
        repository: &str,
        digest: &Digest,
        log: Option<&VirtualSigstore>,
        options: &Options,
    ) -> LegacySignature {
        self.as_party(log, options, |party| legacy::sign(party, log, repository, digest, options))
    }

    /// Attests something about an image in the legacy layout: a DSSE envelope, for the tag `sha256-<hex>.att`.
    #[must_use]
    pub fn attest_legacy(
        &self,
        digest: &Digest,
        predicate_type: &str,
        predicate: &Value,
        log: Option<&VirtualSigstore>,
        options: &Options,
    ) -> LegacySignature {
        self.as_party(log, options, |party| legacy::attest(party, log, digest, (predicate_type, predicate), options))
    }

    /// Signs an image as a bundle, as JSON; without a log it holds no log entry.
    #[must_use]
    pub fn sign_bundle(&self, digest: &Digest, log: Option<&VirtualSigstore>, options: &Options) -> String {
        self.attest_bundle(digest, COSIGN_SIGN, &Value::Object(Map::new()), log, options)
    }

    /// Attests something about an image as a bundle, as JSON.
    #[must_use]
    pub fn attest_bundle(
        &self,
        digest: &Digest,
        predicate_type: &str,
        predicate: &Value,
        log: Option<&VirtualSigstore>,
        options: &Options,
    ) -> String {
        self.as_party(log, options, |party| bundle::sign(party, log, digest, (predicate_type, predicate), options))
    }

    /// Signs bytes as a bundle, as JSON, as `cosign sign-blob` does.
    #[must_use]
    pub fn sign_blob(&self, artifact: &[u8], log: Option<&VirtualSigstore>, options: &Options) -> String {
        self.as_party(log, options, |party| bundle::sign_blob(party, log, artifact, options))
    }

    /// Signs with this key, or with what a flaw puts in its place.
    fn as_party<T>(
        &self,
        sigstore: Option<&VirtualSigstore>,
        options: &Options,
        sign: impl FnOnce(&Party<'_>) -> T,
    ) -> T {
        let hint = self.key.id();
        if options.has(Flaw::OtherKey) {
            return sign(&Party::keyed(&Key::generate(self.key.kind), hint));
        }
        if options.has(Flaw::OtherCurve) {
            return sign(&Party::keyed(&Key::generate(KeyKind::P384), hint));
        }
        if let Some(sigstore) = sigstore.filter(|_| options.has(Flaw::CertificateInstead)) {
            let leaf = sigstore.certify(&Signer::chainguard(), options);
            return sign(&Party::certified(&leaf, &leaf, options.chain));
        }
        sign(&Party::keyed(&self.key, hint))
    }
}
