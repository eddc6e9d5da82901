//! What a log is told: every kind of entry that Rekor has for signatures. All of it is canonical JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256, Sha384};

use super::{
    key::KeyKind,
    party::{Party, Verifier},
    seal::Sealed,
    shape::EntryKind,
};

/// An entry before the log has seen it.
pub(super) struct Body {
    pub(super) kind: &'static str,
    pub(super) version: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// The entry for a document that `party` sealed.
pub(super) fn body(kind: EntryKind, party: &Party<'_>, sealed: &Sealed) -> Body {
    let is_envelope = sealed.payload_type.is_some();
    let (kind, version, spec) = match kind {
        EntryKind::RekorV2 => ("hashedrekord", "0.0.2", hashedrekord_v2(party, sealed)),
        _ if !is_envelope => ("hashedrekord", "0.0.1", hashedrekord(party, sealed)),
        EntryKind::Usual => ("dsse", "0.0.1", dsse(party, sealed)),
        EntryKind::IntotoV001 => ("intoto", "0.0.1", intoto_v1(party, sealed)),
        EntryKind::IntotoV002 => ("intoto", "0.0.2", intoto_v2(party, sealed)),
    };
    let bytes = format!(r#"{{"apiVersion":"{version}","kind":"{kind}","spec":{spec}}}"#).into_bytes();
    Body { kind, version, bytes }
}

impl Body {
    /// The same with the content of another entry of the same kind before its own.
    pub(super) fn after(self, other: &Self) -> Self {
        const MARK: &str = "\"spec\":";
        let (own, other) = (String::from_utf8_lossy(&self.bytes), String::from_utf8_lossy(&other.bytes));
        let (head, spec) = own.split_once(MARK).expect("every entry has a spec");
        let (_, first) = other.split_once(MARK).expect("every entry has a spec");
        let first = first.strip_suffix('}').expect("an entry is an object");
        let bytes = format!("{head}{MARK}{first},{MARK}{spec}").into_bytes();
        Self { bytes, ..self }
    }

    /// The same under a version that there is not.
    pub(super) fn of_unknown_kind(self) -> Self {
        let text = String::from_utf8_lossy(&self.bytes).replacen(self.version, "0.0.9", 1);
        Self { version: "0.0.9", bytes: text.into_bytes(), ..self }
    }
}

/// The hash of what was signed. With the hash that goes with the key, as Rekor verifies it; Ed25519, of which Rekor takes only the
/// prehashed variant, is entered under SHA-256.
fn hashedrekord(party: &Party<'_>, sealed: &Sealed) -> String {
    let message = sealed.message();
    let (algorithm, hash) = match party.key.kind {
        KeyKind::P384 => ("sha384", hex::encode(Sha384::digest(message))),
        KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Rsa2048 => ("sha256", hex::encode(Sha256::digest(message))),
    };
    let signature = STANDARD.encode(&sealed.signature);
    let verifier = STANDARD.encode(party.verifier.pem());
    format!(
        r#"{{"data":{{"hash":{{"algorithm":"{algorithm}","value":"{hash}"}}}},"signature":{{"content":"{signature}","publicKey":{{"content":"{verifier}"}}}}}}"#
    )
}

/// Rekor v2's only kind: of an envelope, the hash of what was signed is that of the pre-authentication encoding.
fn hashedrekord_v2(party: &Party<'_>, sealed: &Sealed) -> String {
    let message = sealed.message();
    let (algorithm, digest, details) = match party.key.kind {
        KeyKind::P256 => ("SHA2_256", Sha256::digest(message).to_vec(), "PKIX_ECDSA_P256_SHA_256"),
        KeyKind::P384 => ("SHA2_384", Sha384::digest(message).to_vec(), "PKIX_ECDSA_P384_SHA_384"),
        KeyKind::Ed25519 => ("SHA2_256", Sha256::digest(message).to_vec(), "PKIX_ED25519"),
        KeyKind::Rsa2048 => ("SHA2_256", Sha256::digest(message).to_vec(), "PKIX_RSA_PKCS1V15_2048_SHA256"),
    };
    let (digest, signature) = (STANDARD.encode(digest), STANDARD.encode(&sealed.signature));
    let (name, der) = match &party.verifier {
        Verifier::Certificate(der) => ("x509Certificate", der),
        Verifier::Key(der) => ("publicKey", der),
    };
    let der = STANDARD.encode(der);
    format!(
        r#"{{"hashedRekordV002":{{"data":{{"algorithm":"{algorithm}","digest":"{digest}"}},"signature":{{"content":"{signature}","verifier":{{"keyDetails":"{details}","{name}":{{"rawBytes":"{der}"}}}}}}}}}}"#
    )
}

/// The hashes of an envelope and of what it holds.
fn dsse(party: &Party<'_>, sealed: &Sealed) -> String {
    let (envelope, payload) = hashes(sealed);
    let signature = STANDARD.encode(&sealed.signature);
    let verifier = STANDARD.encode(party.verifier.pem());
    format!(
        r#"{{"envelopeHash":{envelope},"payloadHash":{payload},"signatures":[{{"signature":"{signature}","verifier":"{verifier}"}}]}}"#
    )
}

/// The same two hashes; the signature is bound by the envelope's alone.
fn intoto_v1(party: &Party<'_>, sealed: &Sealed) -> String {
    let (envelope, payload) = hashes(sealed);
    let verifier = STANDARD.encode(party.verifier.pem());
    format!(r#"{{"content":{{"hash":{envelope},"payloadHash":{payload}}},"publicKey":"{verifier}"}}"#)
}

/// The same two hashes, and the envelope without its payload. The signature is in base64 twice.
fn intoto_v2(party: &Party<'_>, sealed: &Sealed) -> String {
    let (envelope, payload) = hashes(sealed);
    let payload_type = sealed.payload_type.unwrap_or_default();
    let signature = STANDARD.encode(STANDARD.encode(&sealed.signature));
    let verifier = STANDARD.encode(party.verifier.pem());
    format!(
        r#"{{"content":{{"envelope":{{"payloadType":"{payload_type}","signatures":[{{"publicKey":"{verifier}","sig":"{signature}"}}]}},"hash":{envelope},"payloadHash":{payload}}}}}"#
    )
}

/// Of the envelope as it was sent to the log, and of its payload.
fn hashes(sealed: &Sealed) -> (String, String) {
    let hash = |bytes: &[u8]| format!(r#"{{"algorithm":"sha256","value":"{}"}}"#, hex::encode(Sha256::digest(bytes)));
    (hash(sealed.envelope().as_bytes()), hash(&sealed.payload))
}
