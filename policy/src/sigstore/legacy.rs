//! Cosign's legacy layout: a simple signing payload, and in annotations the signature, the certificate and what the log said.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;
use serde::Deserialize;
use serde_json::{Value, json};
use sigstore_types::{Bundle, DerCertificate, SignatureBytes};

use super::{key, statement::because};
use crate::{
    authority::{HashAlgorithm, Key},
    refusal::{Reason, told},
    verifier::Flaw,
};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// What cosign, and podman's own signing, write into a payload.
const PAYLOAD_TYPE: &str = "cosign container image signature";
/// Longest payload in bytes. Real ones have some hundred.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of a payload or annotation.
const JSON_DEPTH_MAX: usize = 32;

/// A payload that names the image, and its signature. Nothing is verified yet.
pub(super) struct Piece<'a> {
    pub payload: &'a [u8],
    pub signature: SignatureBytes,
    annotations: &'a BTreeMap<String, String>,
}

/// A simple signing payload. Whatever is not in here is not in a payload: two readers must not see two things.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    #[serde(default, rename = "optional")]
    _optional: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    /// Where the signer pushed to. Not compared: images keep their signatures when they are copied to another registry.
    #[serde(rename = "identity")]
    _identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    _docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// What Rekor answered, as cosign keeps it: the entry and the promise to log it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RekorBundle {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    entry: RekorEntry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RekorEntry {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryKind {
    kind: String,
    api_version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timestamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

impl<'a> Piece<'a> {
    /// Reads a payload that is about `subject`.
    pub(super) fn read(
        payload: &'a [u8],
        annotations: &'a BTreeMap<String, String>,
        subject: &Digest,
    ) -> Result<Self, Flaw> {
        check_payload(payload, subject)?;
        let signature = annotations
            .get(SIGNATURE)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| unreadable(format!("no annotation {SIGNATURE}")))?;
        let signature = decode(SIGNATURE, signature)?;
        Ok(Self { payload, signature: SignatureBytes::new(signature), annotations })
    }

    /// As a bundle of version 0.1, the certificate within. The chain annotation is left out: what leads to the trust root is in
    /// the trust root.
    pub(super) fn bundle_by_certificate(&self) -> Result<Bundle, Flaw> {
        let pem = self
            .annotations
            .get(CERTIFICATE)
            .ok_or_else(|| Flaw::new(Reason::SignerUnsuitable, "signed by a key, and a certificate is asked for"))?;
        if pem.matches("-----BEGIN ").count() != 1 {
            return Err(unreadable(format!("annotation {CERTIFICATE} does not hold one certificate")));
        }
        let certificate = DerCertificate::from_pem(pem)
            .map_err(|error| unreadable(format!("annotation {CERTIFICATE}: {}", told(&error.to_string()))))?;
        let material = json!({ "certificates": [{ "rawBytes": certificate.to_base64() }] });
        self.bundle("x509CertificateChain", &material, HashAlgorithm::Sha256)
    }

    /// As a bundle of version 0.1, the key left for the policy to name.
    pub(super) fn bundle_by_key(&self, key: &Key) -> Result<Bundle, Flaw> {
        self.bundle("publicKey", &json!({ "hint": "" }), key.hash)
    }

    fn bundle(&self, material_name: &str, material: &Value, hash: HashAlgorithm) -> Result<Bundle, Flaw> {
        let digest = match hash {
            HashAlgorithm::Sha256 => sigstore_crypto::sha256(self.payload).to_base64(),
            HashAlgorithm::Sha384 => sigstore_crypto::sha384(self.payload).to_base64(),
            HashAlgorithm::Sha512 => sigstore_crypto::sha512(self.payload).to_base64(),
        };
        let document = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
            "verificationMaterial": {
                material_name: material,
                "tlogEntries": [self.log_entry()?],
                "timestampVerificationData": { "rfc3161Timestamps": self.timestamps()? },
            },
            "messageSignature": {
                "messageDigest": { "algorithm": key::hash(hash).to_string(), "digest": digest },
                "signature": self.signature.to_base64(),
            },
        });
        Bundle::from_json(&document.to_string()).map_err(|error| unreadable(told(&error.to_string())))
    }

    fn log_entry(&self) -> Result<Value, Flaw> {
        let text = self.annotations.get(BUNDLE).ok_or_else(|| {
            Flaw::new(Reason::LogMissing, format!("not in the transparency log: no annotation {BUNDLE}"))
        })?;
        let RekorBundle { promise, entry } = parse(BUNDLE, text)?;
        let log_id = hex::decode(&entry.log_id)
            .map_err(|_| unreadable(format!("annotation {BUNDLE}: logID is not hexadecimal")))?;
        let body = decode(BUNDLE, &entry.body)?;
        let EntryKind { kind, api_version } = oci::json::parse(&body, JSON_DEPTH_MAX)
            .map_err(|error| unreadable(format!("annotation {BUNDLE}: log entry: {}", because(&error))))?;
        Ok(json!({
            "logIndex": entry.log_index.to_string(),
            "logId": { "keyId": STANDARD.encode(log_id) },
            "kindVersion": { "kind": kind, "version": api_version },
            "integratedTime": entry.integrated_time.to_string(),
            "inclusionPromise": { "signedEntryTimestamp": STANDARD.encode(decode(BUNDLE, &promise)?) },
            "canonicalizedBody": STANDARD.encode(body),
        }))
    }

    /// A timestamp that is there must be good.
    fn timestamps(&self) -> Result<Value, Flaw> {
        let Some(text) = self.annotations.get(TIMESTAMP) else {
            return Ok(json!([]));
        };
        let Timestamp { token } = parse(TIMESTAMP, text)?;
        Ok(json!([{ "signedTimestamp": STANDARD.encode(decode(TIMESTAMP, &token)?) }]))
    }
}

fn check_payload(payload: &[u8], subject: &Digest) -> Result<(), Flaw> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(unreadable(format!("payload of {} bytes, at most {PAYLOAD_BYTES_MAX} are read", payload.len())));
    }
    let Payload { critical, .. } = oci::json::parse(payload, JSON_DEPTH_MAX)
        .map_err(|error| unreadable(format!("payload: {}", because(&error))))?;
    if critical.kind != PAYLOAD_TYPE {
        let detail = format!("payload is of type \"{}\", not \"{PAYLOAD_TYPE}\"", told(&critical.kind));
        return Err(Flaw::new(Reason::EvidenceUnreadable, detail));
    }
    if critical.image.digest != subject.to_string() {
        let detail = format!("the signature is over \"{}\"", told(&critical.image.digest));
        return Err(Flaw::new(Reason::DigestMismatch, detail));
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(annotation: &str, text: &str) -> Result<T, Flaw> {
    oci::json::parse(text.as_bytes(), JSON_DEPTH_MAX)
        .map_err(|error| unreadable(format!("annotation {annotation}: {}", because(&error))))
}

fn decode(annotation: &str, text: &str) -> Result<Vec<u8>, Flaw> {
    STANDARD.decode(text).map_err(|error| unreadable(format!("annotation {annotation}: not base64: {error}")))
}

fn unreadable(detail: impl fmt::Display) -> Flaw {
    Flaw::new(Reason::EvidenceUnreadable, format!("signature cannot be read: {detail}"))
}
