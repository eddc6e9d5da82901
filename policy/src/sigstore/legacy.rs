//! Cosign's legacy layout: a simple signing payload or a statement's envelope, and in annotations the signature (of a payload), the
//! certificate and what the log and a timestamp authority said.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;
use serde::Deserialize;
use serde_json::Value;
use sigstore_types::{
    CanonicalizedBody, DerCertificate, DigestBytes, HashAlgorithm, InclusionPromise, LogId, LogIndex, LogKeyId,
    MessageDigest, SignatureBytes, SignedTimestamp, TimestampToken,
};

use super::{
    envelope::Envelope,
    sealed::{Content, Entry, KindVersion, Sealed},
    statement::because,
};
use crate::{
    refusal::{Reason, told},
    verifier::{Claim, Flaw},
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

/// A simple signing payload. Whatever is not in here is not in a payload: two readers must not see two things.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    optional: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    /// Where the signer pushed to. No part of a verdict: images keep their signatures when they are copied to another registry.
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
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
    integrated_time: LogIndex,
    #[serde(rename = "logIndex")]
    log_index: LogIndex,
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

/// What of the annotations is to be read. What nobody asks for need not be there, and is not looked at.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    pub certificate: bool,
    pub log: bool,
    pub timestamps: bool,
}

/// What a payload says of `subject`: that it is signed, and whatever else its signer wrote.
pub(super) fn claim(payload: &[u8], subject: &Digest) -> Result<Claim, Flaw> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(unreadable(format!("payload of {} bytes, at most {PAYLOAD_BYTES_MAX} are read", payload.len())));
    }
    let Payload { critical, optional } = oci::json::parse(payload, JSON_DEPTH_MAX)
        .map_err(|error| unreadable(format!("payload: {}", because(&error))))?;
    if critical.kind != PAYLOAD_TYPE {
        let detail = format!("payload is of type \"{}\", not \"{PAYLOAD_TYPE}\"", told(&critical.kind));
        return Err(Flaw::new(Reason::EvidenceUnreadable, detail));
    }
    if critical.image.digest != subject.to_string() {
        let detail = format!("the signature is over \"{}\"", told(&critical.image.digest));
        return Err(Flaw::new(Reason::DigestMismatch, detail));
    }
    let names = [critical.identity.docker_reference.as_str()].into_iter().collect();
    Ok(Claim::Signature { annotations: optional.unwrap_or_default(), predicate_type: None, names })
}

/// A simple signing payload with its signature.
pub(super) fn signature<'a>(
    payload: &'a [u8],
    annotations: &BTreeMap<String, String>,
    needs: Needs,
) -> Result<Sealed<'a>, Flaw> {
    let text = annotations.get(SIGNATURE).filter(|text| !text.is_empty());
    let signature = decode(SIGNATURE, text.ok_or_else(|| unreadable(format!("no annotation {SIGNATURE}")))?)?;
    // Cosign signs payloads with SHA-256 whatever the certificate's key.
    let digest = DigestBytes::new(sigstore_crypto::sha256(payload).as_slice().to_vec());
    let digest = MessageDigest::new(HashAlgorithm::Sha2256, digest);
    seal(Content::Bytes(payload, Some(digest)), SignatureBytes::new(signature), annotations, needs)
}

/// An attestation: an envelope, its signature within.
pub(super) fn attestation(layer: &[u8]) -> Result<(Envelope, SignatureBytes), Flaw> {
    oci::json::check(layer, JSON_DEPTH_MAX).map_err(|error| unreadable(format!("envelope: {}", because(&error))))?;
    let written = serde_json::from_slice(layer)
        .map_err(|error| unreadable(format!("envelope: {}", because(&oci::json::JsonError::from(error)))))?;
    Envelope::open(written, Some(sigstore_crypto::sha256(layer))).map_err(unreadable)
}

/// The signature with what the annotations say about it. The chain is left out: what leads to the trust root is in the trust root.
pub(super) fn seal<'a>(
    content: Content<'a>,
    signature: SignatureBytes,
    annotations: &BTreeMap<String, String>,
    needs: Needs,
) -> Result<Sealed<'a>, Flaw> {
    let certificates = if needs.certificate { certificate(annotations)?.into_iter().collect() } else { Vec::new() };
    let entries = if needs.log { vec![log_entry(annotations)?] } else { Vec::new() };
    let timestamps = if needs.timestamps { timestamp(annotations)?.into_iter().collect() } else { Vec::new() };
    Ok(Sealed { content, signature, certificates, entries, proven: false, timestamps, written: None })
}

fn certificate(annotations: &BTreeMap<String, String>) -> Result<Option<DerCertificate>, Flaw> {
    let Some(pem) = annotations.get(CERTIFICATE) else { return Ok(None) };
    if pem.matches("-----BEGIN ").count() != 1 {
        return Err(unreadable(format!("annotation {CERTIFICATE} does not hold one certificate")));
    }
    let certificate = DerCertificate::from_pem(pem)
        .map_err(|error| unreadable(format!("annotation {CERTIFICATE}: {}", told(&error.to_string()))))?;
    Ok(Some(certificate))
}

fn log_entry(annotations: &BTreeMap<String, String>) -> Result<Entry, Flaw> {
    let text = annotations
        .get(BUNDLE)
        .ok_or_else(|| Flaw::new(Reason::LogMissing, format!("not in the transparency log: no annotation {BUNDLE}")))?;
    let RekorBundle { promise, entry } = parse(BUNDLE, text)?;
    let log_id =
        hex::decode(&entry.log_id).map_err(|_| unreadable(format!("annotation {BUNDLE}: logID is not hexadecimal")))?;
    let body = decode(BUNDLE, &entry.body)?;
    let EntryKind { kind, api_version } = oci::json::parse(&body, JSON_DEPTH_MAX)
        .map_err(|error| unreadable(format!("annotation {BUNDLE}: log entry: {}", because(&error))))?;
    let promise = SignedTimestamp::new(decode(BUNDLE, &promise)?);
    Ok(Entry {
        log_index: entry.log_index,
        log_id: LogId::new(LogKeyId::new(log_id)),
        kind_version: KindVersion { kind, version: api_version },
        integrated_time: entry.integrated_time,
        inclusion_promise: Some(InclusionPromise::new(promise)),
        inclusion_proof: None,
        canonicalized_body: CanonicalizedBody::new(body),
    })
}

fn timestamp(annotations: &BTreeMap<String, String>) -> Result<Option<TimestampToken>, Flaw> {
    let Some(text) = annotations.get(TIMESTAMP) else { return Ok(None) };
    let Timestamp { token } = parse(TIMESTAMP, text)?;
    Ok(Some(TimestampToken::new(decode(TIMESTAMP, &token)?)))
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
