//! Signing with a key of one's own, `cosign sign --key`.

use oci::Digest;
use serde_json::{Map, Value};

use super::{
    Options, VirtualSigstore,
    bundle::{self, COSIGN_SIGN},
    key::{Key, KeyKind},
    legacy::{self, LegacySignature},
    party::Party,
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
        legacy::sign(&Party::keyed(&self.key), log, repository, digest, options)
    }

    /// Signs an image as a bundle v0.3, as JSON; without a log it holds no log entry.
    #[must_use]
    pub fn sign_bundle(&self, digest: &Digest, log: Option<&VirtualSigstore>, options: &Options) -> String {
        self.attest_bundle(digest, COSIGN_SIGN, &Value::Object(Map::new()), log, options)
    }

    /// Attests something about an image as a bundle v0.3, as JSON.
    #[must_use]
    pub fn attest_bundle(
        &self,
        digest: &Digest,
        predicate_type: &str,
        predicate: &Value,
        log: Option<&VirtualSigstore>,
        options: &Options,
    ) -> String {
        bundle::sign(&Party::keyed(&self.key), log, digest, (predicate_type, predicate), options)
    }
}
