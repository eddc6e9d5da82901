//! What a statement says, and whether saying it is a signature.

use std::collections::BTreeMap;

use oci::{Algorithm, Digest};
use serde::Deserialize;
use sigstore_types::{DsseEnvelope, Sha256Hash};

use crate::{
    refusal::{Reason, told},
    verifier::Flaw,
};

/// The statement by which cosign signs an image. Any other is an attestation, which says something about an image and not that
/// it is to be run.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// Deepest nesting; cosign's statements need five.
const JSON_DEPTH_MAX: usize = 64;
/// Most subjects of one statement. Release statements name hundreds.
const SUBJECTS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// Whether the envelope says, of this image, that it is signed. Says nothing about who says so.
pub(super) fn check(envelope: &DsseEnvelope, subject: &Digest) -> Result<(), Flaw> {
    if envelope.payload_type != PAYLOAD_TYPE {
        let detail = format!("holds \"{}\", which is no statement", told(&envelope.payload_type));
        return Err(Flaw::new(Reason::NotASignature, detail));
    }
    let statement: Statement = oci::json::parse(envelope.payload.as_bytes(), JSON_DEPTH_MAX).map_err(|error| {
        Flaw::new(Reason::EvidenceUnreadable, format!("statement cannot be read: {}", because(&error)))
    })?;
    if !STATEMENT_TYPES.contains(&statement.kind.as_str()) {
        let detail = format!("statement has a type that is not understood: \"{}\"", told(&statement.kind));
        return Err(Flaw::new(Reason::EvidenceUnreadable, detail));
    }
    if statement.predicate_type != SIGNATURE {
        let detail = format!("is an attestation of type \"{}\" and no signature", told(&statement.predicate_type));
        return Err(Flaw::new(Reason::NotASignature, detail));
    }
    if statement.subject.len() > SUBJECTS_MAX {
        let detail = format!("statement has {} subjects, at most {SUBJECTS_MAX} are read", statement.subject.len());
        return Err(Flaw::new(Reason::EvidenceUnreadable, detail));
    }
    let named =
        |entry: &Subject| entry.digest.get(subject.algorithm().as_str()).map(String::as_str) == Some(subject.hex());
    if statement.subject.iter().any(named) {
        return Ok(());
    }
    let other = statement.subject.iter().find_map(|entry| entry.digest.get("sha256"));
    let other = other.map_or_else(|| "no sha256 digest".to_owned(), |hex| format!("sha256:{}", told(hex)));
    Err(Flaw::new(Reason::DigestMismatch, format!("the signature is over {other}")))
}

/// The digest as the crates want it.
pub(super) fn sha256(digest: &Digest) -> Result<Sha256Hash, Flaw> {
    let unsupported = || Flaw::new(Reason::Sha512Unsupported, "signatures name sha256 digests");
    if digest.algorithm() != Algorithm::Sha256 {
        return Err(unsupported());
    }
    Sha256Hash::from_hex(digest.hex()).map_err(|_| unsupported())
}

/// What is wrong with a document, escaped.
pub(super) fn because(error: &dyn std::error::Error) -> String {
    told(&error.source().map_or_else(|| error.to_string(), ToString::to_string))
}
