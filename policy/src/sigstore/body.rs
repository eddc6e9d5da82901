//! Whether a log entry is about the signature that it came with: same signature, same signer, same bytes (CVE-2022-36056,
//! CVE-2026-22703).
//!
//! By kind of entry: what Rekor writes into it, and what is compared here.
//!
//! - `hashedrekord` 0.0.1 and 0.0.2: digest of the signed bytes, signature, certificate or key; all.
//! - `dsse` 0.0.1: digest of the payload, signature, certificate or key; all. The envelope's own digest depends on how it was
//!   written when it was logged, which nobody keeps; nothing in it is not in the other three.
//! - `intoto` 0.0.2: the same, and the payload's type.
//! - `intoto` 0.0.1: digest of the envelope and certificate or key, but no signature. The envelope holds the signature, so the digest
//!   must be that of the very bytes; where those were not kept, as in a bundle, such an entry says nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use sigstore_crypto::parse_certificate_info;
use sigstore_types::{
    CertificateContent, DerCertificate, DerPublicKey, HashAlgorithm, MessageDigest, PemContent, SignatureBytes,
};
use sigstore_verify::rekor::body::{DsseV001Body, HashedRekordV001Body, IntotoV002Body};

use super::{
    envelope::Envelope,
    log::invalid,
    sealed::{Content, Entry, Sealed, is_digest},
    statement::because,
};
use crate::{refusal::told, verifier::Flaw};

/// Deepest nesting; real entries need seven.
const JSON_DEPTH_MAX: usize = 32;

/// Who signed, as far as the log can know.
pub(super) enum Holder<'a> {
    Certificate(&'a DerCertificate),
    Key(&'a DerPublicKey),
}

/// What every entry begins with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: String,
    api_version: String,
}

/// The crates' own type knows one kind of key. Which kind it is follows from the key.
#[derive(Deserialize)]
struct HashedV2Body {
    spec: HashedV2Spec,
}

#[derive(Deserialize)]
struct HashedV2Spec {
    #[serde(rename = "hashedRekordV002")]
    entry: HashedV2,
}

#[derive(Deserialize)]
struct HashedV2 {
    data: MessageDigest,
    signature: HashedV2Signature,
}

#[derive(Deserialize)]
struct HashedV2Signature {
    content: SignatureBytes,
    verifier: HashedV2Verifier,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedV2Verifier {
    x509_certificate: Option<CertificateContent>,
    public_key: Option<PublicKeyContent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKeyContent {
    raw_bytes: DerPublicKey,
}

#[derive(Deserialize)]
struct IntotoV001Body {
    spec: IntotoV001Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoV001Spec {
    content: IntotoV001Content,
    public_key: PemContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoV001Content {
    hash: HexDigest,
    /// Older entries have none.
    payload_hash: Option<HexDigest>,
}

#[derive(Deserialize)]
struct HexDigest {
    algorithm: HashAlgorithm,
    value: String,
}

/// Whether the entry is about the signature, by that holder.
pub(super) fn check(entry: &Entry, sealed: &Sealed<'_>, holder: &Holder<'_>) -> Result<(), Flaw> {
    let Head { kind, api_version } = parse(entry)?;
    if (&kind, &api_version) != (&entry.kind_version.kind, &entry.kind_version.version) {
        return Err(invalid("it is of another kind than it says"));
    }
    match (kind.as_str(), api_version.as_str(), &sealed.content) {
        ("hashedrekord", "0.0.1", Content::Bytes(..) | Content::Digest(..)) => hashed_v1(entry, sealed, holder),
        ("hashedrekord", "0.0.2", _) => hashed_v2(entry, sealed, holder),
        ("dsse", "0.0.1", Content::Envelope(envelope)) => dsse(entry, sealed, envelope, holder),
        ("intoto", "0.0.1", Content::Envelope(envelope)) => intoto_v1(entry, envelope, holder),
        ("intoto", "0.0.2", Content::Envelope(envelope)) => intoto_v2(entry, sealed, envelope, holder),
        _ => {
            let kind = format!("{} {}", told(&kind), told(&api_version));
            Err(invalid(&format!("an entry of kind \"{kind}\" does not vouch for such a signature")))
        }
    }
}

fn hashed_v1(entry: &Entry, sealed: &Sealed<'_>, holder: &Holder<'_>) -> Result<(), Flaw> {
    let HashedRekordV001Body { spec, .. } = parse(entry)?;
    let digest = hex::decode(spec.data.hash.value.as_str()).map_err(|_| invalid("its digest is not hexadecimal"))?;
    same_bytes(sealed.content.has_digest(spec.data.hash.algorithm, &digest))?;
    same_signature(spec.signature.content == sealed.signature)?;
    holder.is(&spec.signature.public_key.content)
}

fn hashed_v2(entry: &Entry, sealed: &Sealed<'_>, holder: &Holder<'_>) -> Result<(), Flaw> {
    let HashedV2Body { spec } = parse(entry)?;
    let logged = spec.entry;
    same_bytes(sealed.content.has_digest(logged.data.algorithm, logged.data.digest.as_bytes()))?;
    same_signature(logged.signature.content == sealed.signature)?;
    let verifier = logged.signature.verifier;
    let same = match (holder, verifier.x509_certificate, verifier.public_key) {
        (Holder::Certificate(certificate), Some(logged), None) => logged.raw_bytes == **certificate,
        (Holder::Key(key), None, Some(logged)) => logged.raw_bytes == **key,
        _ => false,
    };
    same_signer(same)
}

fn dsse(entry: &Entry, sealed: &Sealed<'_>, envelope: &Envelope, holder: &Holder<'_>) -> Result<(), Flaw> {
    let DsseV001Body { spec, .. } = parse(entry)?;
    same_bytes(is_hex_digest(spec.payload_hash.algorithm, envelope.payload(), &spec.payload_hash.value))?;
    let [logged] = spec.signatures.as_slice() else {
        return Err(invalid("it is about several signatures, or none"));
    };
    same_signature(logged.signature == sealed.signature)?;
    holder.is(&logged.verifier)
}

fn intoto_v1(entry: &Entry, envelope: &Envelope, holder: &Holder<'_>) -> Result<(), Flaw> {
    let IntotoV001Body { spec } = parse(entry)?;
    let Some(found) = &envelope.found else {
        return Err(invalid(
            "an entry of kind \"intoto 0.0.1\" vouches for an envelope's bytes, which a bundle does not keep",
        ));
    };
    let IntotoV001Content { hash, payload_hash } = spec.content;
    same_bytes(hash.algorithm == HashAlgorithm::Sha2256 && hash.value == found.to_hex())?;
    if let Some(HexDigest { algorithm, value }) = payload_hash {
        same_bytes(is_hex_digest(algorithm, envelope.payload(), &value))?;
    }
    holder.is(&spec.public_key)
}

fn intoto_v2(entry: &Entry, sealed: &Sealed<'_>, envelope: &Envelope, holder: &Holder<'_>) -> Result<(), Flaw> {
    let IntotoV002Body { spec, .. } = parse(entry)?;
    let (logged, payload_hash) = (spec.content.envelope, spec.content.payload_hash);
    same_bytes(is_hex_digest(payload_hash.algorithm, envelope.payload(), payload_hash.value.as_str()))?;
    same_bytes(logged.payload_type == envelope.payload_type)?;
    let [signature] = logged.signatures.as_slice() else {
        return Err(invalid("it is about several signatures, or none"));
    };
    // Rekor encodes what is encoded already.
    same_signature(STANDARD.decode(signature.sig.as_bytes()).is_ok_and(|sig| sig == sealed.signature.as_bytes()))?;
    holder.is(&signature.public_key)
}

impl Holder<'_> {
    /// Whether the log was shown this certificate or key. For a certificate its bare key does too: some signers log that.
    fn is(&self, logged: &PemContent) -> Result<(), Flaw> {
        let pem = std::str::from_utf8(logged.as_bytes()).map_err(|_| invalid("its certificate or key is not PEM"))?;
        if pem.matches("-----BEGIN ").count() != 1 {
            return Err(invalid("it does not hold one certificate or key"));
        }
        let certificate = DerCertificate::from_pem(pem).ok();
        let key = DerPublicKey::from_pem(pem).ok();
        same_signer(match (self, certificate, key) {
            (Self::Certificate(own), Some(logged), _) => logged == **own,
            (Self::Certificate(own), None, Some(logged)) => {
                parse_certificate_info(own).is_ok_and(|own| own.public_key == logged)
            }
            (Self::Key(own), None, Some(logged)) => logged == **own,
            _ => false,
        })
    }
}

fn is_hex_digest(algorithm: HashAlgorithm, bytes: &[u8], hex: &str) -> bool {
    hex::decode(hex).is_ok_and(|digest| is_digest(algorithm, bytes, &digest))
}

fn same_bytes(same: bool) -> Result<(), Flaw> {
    if same { Ok(()) } else { Err(invalid("it is about something else")) }
}

fn same_signature(same: bool) -> Result<(), Flaw> {
    if same { Ok(()) } else { Err(invalid("it is about another signature")) }
}

fn same_signer(same: bool) -> Result<(), Flaw> {
    if same { Ok(()) } else { Err(invalid("it names another certificate or key")) }
}

fn parse<T: DeserializeOwned>(entry: &Entry) -> Result<T, Flaw> {
    oci::json::parse(entry.canonicalized_body.as_bytes(), JSON_DEPTH_MAX)
        .map_err(|error| invalid(&format!("it cannot be read: {}", because(&error))))
}
