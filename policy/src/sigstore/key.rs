//! Keys named in policies.

use std::fmt;

use oci::Digest;
use sigstore_crypto::{KeyAlgorithm, SigningScheme, VerificationKey, validate_raw_public_key};
use sigstore_types::{DerPublicKey, HashAlgorithm as Hash};
use x509_cert::{
    der::{Any, Decode as _, Encode as _, asn1::BitString, oid::ObjectIdentifier, pem},
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
};

use super::sealed::{Content, Sealed};
use crate::{
    authority::{HashAlgorithm, Key},
    refusal::Reason,
    verifier::{Flaw, Signer},
};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Whether signatures can be verified with a key: one PEM block, a kind and size of key that is supported, a hash that goes
/// with it. One clause, no full stop.
pub(crate) fn check(key: &Key) -> Result<(), String> {
    let der = der(&key.pem)?;
    let verifier = VerificationKey::from_spki_with_scheme(&der, scheme(&der, key.hash.unwrap_or_default())?)
        .map_err(|error| error.to_string())?;
    validate_raw_public_key(verifier.scheme(), verifier.as_bytes()).map_err(|error| error.to_string())
}

/// The key as the crates want it.
pub(crate) fn parse(key: &Key) -> Result<DerPublicKey, Flaw> {
    der(&key.pem).map_err(unusable)
}

/// Who the holder of the key is: the key.
pub(super) fn signer(der: &DerPublicKey) -> Signer {
    Signer::Key { fingerprint: Digest::sha256(der.as_bytes()).hex().to_owned() }
}

/// Whether the signature is by `key`: with the hash that the policy says. Where it says none, that is SHA-256, and in an envelope also the
/// one that bundles prescribe for its kind of key (SHA-384 for P-384).
pub(super) fn verify(key: &Key, sealed: &Sealed<'_>) -> Result<(), Flaw> {
    let der = parse(key)?;
    let scheme = scheme(&der, key.hash.unwrap_or_default()).map_err(unusable)?;
    verify_by(&der, scheme, sealed).or_else(|flaw| match (&sealed.content, key.hash) {
        (Content::Envelope(_), None) => verify_by(&der, usual(&der)?, sealed),
        (Content::Envelope(_), Some(_)) | (Content::Bytes(..) | Content::Digest(..), _) => Err(flaw),
    })
}

/// Whether the signature of a bundle is by `der`: with the hash that the bundle names, else with the usual one for its kind of key.
pub(super) fn verify_bundled(der: &DerPublicKey, sealed: &Sealed<'_>) -> Result<(), Flaw> {
    let scheme = match &sealed.content {
        Content::Bytes(_, Some(digest)) | Content::Digest(_, Some(digest)) => {
            let kind = KeyAlgorithm::from_spki(der).map_err(unusable)?;
            kind.resolve_signing_scheme(digest.algorithm).map_err(unusable)?
        }
        Content::Bytes(_, None) | Content::Digest(_, None) | Content::Envelope(_) => usual(der)?,
    };
    verify_by(der, scheme, sealed)
}

fn usual(der: &DerPublicKey) -> Result<SigningScheme, Flaw> {
    KeyAlgorithm::from_spki(der).map(|kind| kind.default_signing_scheme()).map_err(unusable)
}

/// The hash as bundles name it.
fn hash(hash: HashAlgorithm) -> Hash {
    match hash {
        HashAlgorithm::Sha256 => Hash::Sha2256,
        HashAlgorithm::Sha384 => Hash::Sha2384,
        HashAlgorithm::Sha512 => Hash::Sha2512,
    }
}

fn verify_by(der: &DerPublicKey, scheme: SigningScheme, sealed: &Sealed<'_>) -> Result<(), Flaw> {
    let verifier = VerificationKey::from_spki_with_scheme(der, scheme).map_err(unusable)?;
    let invalid = |_| Flaw::new(Reason::SignatureInvalid, "the signature is not by this key");
    match (&sealed.content, sealed.content.message()) {
        (Content::Digest(digest, _), _) => verifier.verify_prehashed(digest.as_bytes(), &sealed.signature),
        (_, Some(message)) => verifier.verify(message, &sealed.signature),
        (_, None) => return Err(Flaw::new(Reason::EvidenceUnreadable, "what is signed is not at hand")),
    }
    .map_err(invalid)
}

fn unusable(detail: impl fmt::Display) -> Flaw {
    Flaw::new(Reason::SignerUnsuitable, format!("the policy's key cannot be used: {detail}"))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crates' kinds of key are not exhaustive; what is new is not supported"
)]
fn scheme(der: &DerPublicKey, with: HashAlgorithm) -> Result<SigningScheme, String> {
    let kind = KeyAlgorithm::from_spki(der).map_err(|error| error.to_string())?;
    match kind {
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::Rsa | KeyAlgorithm::Ed25519 => {
            kind.resolve_signing_scheme(hash(with)).map_err(|error| error.to_string())
        }
        _ => Err("only ECDSA P-256 and P-384, Ed25519 and RSA keys are supported".to_owned()),
    }
}

/// The one PEM block of a key, as a `SubjectPublicKeyInfo`.
fn der(text: &str) -> Result<DerPublicKey, String> {
    let blocks = text.matches("-----BEGIN ").count();
    if blocks != 1 {
        return Err(format!("one PEM block is wanted, and there are {blocks}"));
    }
    let (label, bytes) = pem::decode_vec(text.trim().as_bytes()).map_err(|error| format!("not PEM: {error}"))?;
    match label {
        "PUBLIC KEY" => Ok(DerPublicKey::new(bytes)),
        "RSA PUBLIC KEY" => from_pkcs1(&bytes).map_err(|error| format!("not an RSA key: {error}")),
        _ => Err("the PEM block is neither a PUBLIC KEY nor an RSA PUBLIC KEY".to_owned()),
    }
}

fn from_pkcs1(key: &[u8]) -> Result<DerPublicKey, x509_cert::der::Error> {
    Any::from_der(key)?;
    let algorithm = AlgorithmIdentifierOwned { oid: RSA, parameters: Some(Any::null()) };
    let subject_public_key = BitString::from_bytes(key)?;
    SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der().map(DerPublicKey::new)
}
