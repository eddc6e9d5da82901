//! What a log is told (Rekor v1's two kinds of entry), and its answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256, Sha384};

use super::{Options, flaw::Flaw, key::KeyKind, log::Entry, party::Party};

/// A log's answer as a signature carries it.
pub(super) struct Logged {
    pub(super) entry: Entry,
    pub(super) with_set: bool,
    pub(super) with_proof: bool,
}

/// `hashedrekord` 0.0.1: the hash of what was signed. Canonical JSON. With the hash that goes with the key, as Rekor verifies it; Ed25519,
/// of which Rekor takes only the prehashed variant, is entered under SHA-256.
pub(super) fn hashedrekord(party: &Party<'_>, message: &[u8], signature: &[u8]) -> Vec<u8> {
    let (algorithm, hash) = match party.key.kind {
        KeyKind::P384 => ("sha384", hex::encode(Sha384::digest(message))),
        KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Rsa2048 => ("sha256", hex::encode(Sha256::digest(message))),
    };
    let signature = STANDARD.encode(signature);
    let verifier = STANDARD.encode(&party.logged_pem);
    format!(
        r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{"data":{{"hash":{{"algorithm":"{algorithm}","value":"{hash}"}}}},"signature":{{"content":"{signature}","publicKey":{{"content":"{verifier}"}}}}}}}}"#
    )
    .into_bytes()
}

/// `dsse` 0.0.1: the hashes of an envelope and of what it holds. Canonical JSON.
pub(super) fn dsse(party: &Party<'_>, envelope: &str, payload: &[u8], signature: &[u8]) -> Vec<u8> {
    let envelope_hash = hex::encode(Sha256::digest(envelope));
    let payload_hash = hex::encode(Sha256::digest(payload));
    let signature = STANDARD.encode(signature);
    let verifier = STANDARD.encode(&party.logged_pem);
    format!(
        r#"{{"apiVersion":"0.0.1","kind":"dsse","spec":{{"envelopeHash":{{"algorithm":"sha256","value":"{envelope_hash}"}},"payloadHash":{{"algorithm":"sha256","value":"{payload_hash}"}},"signatures":[{{"signature":"{signature}","verifier":"{verifier}"}}]}}}}"#
    )
    .into_bytes()
}

/// Changes an answer in the ways that need no other log.
pub(super) fn spoil(mut entry: Entry, options: &Options) -> Logged {
    if options.has(Flaw::SetFlipped) {
        // The last byte is of the number s, so that the signature stays well-formed.
        flip_last_bit(&mut entry.set);
    }
    if options.has(Flaw::TimeChanged) {
        entry.integrated_time += 1;
    }
    if options.has(Flaw::ProofBroken) {
        for sibling in entry.proof.path.iter_mut().take(1) {
            flip_last_bit(sibling);
        }
    }
    Logged { with_set: !options.has(Flaw::NoSignedTime), with_proof: !options.has(Flaw::ProofMissing), entry }
}

fn flip_last_bit(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
}
