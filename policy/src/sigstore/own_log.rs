//! A log of our own, by which the crates are told at what time a log of the trust root took a signature in.
//!
//! The crates trust a time only if it comes in a log entry that they understand, or in an RFC 3161 timestamp. Where our own check has
//! established that a log of the trust root vouches for a time (`log.rs`) they are handed an entry of a kind that they do understand,
//! about the same signature and the same time, and promised by a key that was made when this judge was and that nobody else has. The
//! only log in the trust root that they are given is this one, so that no word of any other log reaches them unchecked.
//!
//! It never makes a "yes" by itself: whatever comes of it counts only together with the checks that its entries stand for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sigstore_crypto::KeyPair;
use sigstore_trust_root::TransparencyLog;
use sigstore_types::{DerCertificate, SignatureBytes};

use super::log::promise;

/// A key, and what it is known by.
pub(super) struct OwnLog {
    key: KeyPair,
    id: [u8; 32],
}

impl OwnLog {
    /// One clause where no key could be made.
    pub(super) fn new() -> Result<Self, String> {
        let key = KeyPair::generate_ecdsa_p256().map_err(|error| error.to_string())?;
        let public = key.public_key_der().map_err(|error| error.to_string())?;
        let id = *sigstore_crypto::sha256(public.as_bytes()).as_bytes();
        Ok(Self { key, id })
    }

    /// As an entry of a trust root.
    pub(super) fn trusted(&self) -> Result<TransparencyLog, String> {
        let public = self.key.public_key_der().map_err(|error| error.to_string())?;
        let document = json!({
            "baseUrl": "",
            "hashAlgorithm": "SHA2_256",
            "publicKey": { "rawBytes": public.to_base64(), "keyDetails": "PKIX_ECDSA_P256_SHA_256" },
            "logId": { "keyId": STANDARD.encode(self.id) },
        });
        serde_json::from_value(document).map_err(|error| error.to_string())
    }

    /// An entry about `signature` over bytes of the SHA-256 digest `digest`, taken in at `seconds` since 1970.
    pub(super) fn entry(
        &self,
        digest: &[u8],
        (signature, certificate): (&SignatureBytes, &DerCertificate),
        seconds: u64,
    ) -> Result<Value, String> {
        let body = json!({
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hex::encode(digest) } },
                "signature": {
                    "content": signature.to_base64(),
                    "publicKey": { "content": STANDARD.encode(certificate.to_pem()) },
                },
            },
        });
        let body = STANDARD.encode(body.to_string());
        let promise = promise(&body, seconds, &self.id, 0);
        let promise = self.key.sign(promise.as_bytes()).map_err(|error| error.to_string())?;
        Ok(json!({
            "logIndex": "0",
            "logId": { "keyId": STANDARD.encode(self.id) },
            "kindVersion": { "kind": "hashedrekord", "version": "0.0.1" },
            "integratedTime": seconds.to_string(),
            "inclusionPromise": { "signedEntryTimestamp": promise.to_base64() },
            "canonicalizedBody": body,
        }))
    }
}
