//! Logs, each by its key.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::{
    der::{Decode as _, asn1::ObjectIdentifier},
    spki::SubjectPublicKeyInfoRef,
};

use super::{IN_BASE64, decoded, text};
use crate::{
    authority::{HashAlgorithm, Key},
    cip::{
        field::{Field, Schema},
        key, pem,
        report::{Report, shown},
        roots::Part,
    },
    sigstore,
};

const LOG: Schema = Schema { known: &["baseURL", "hashAlgorithm", "publicKey"], refused: &[], ignored: &[] };

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Reads a log.
pub(super) fn read(item: &Field<'_>, part: Part, report: &mut Report) -> Option<Value> {
    let mapping = item.mapping(report, &LOG)?;
    let url = text(&mapping, "baseURL", report);
    let hash =
        mapping.required(report, "hashAlgorithm", "write hashAlgorithm: sha256").and_then(|field| hash(&field, report));
    let key = mapping.required(report, "publicKey", IN_BASE64).and_then(|field| public_key(&field, part, report));
    let (details, der) = key?;
    Some(json!({
        "baseUrl": url?,
        "hashAlgorithm": hash?,
        "publicKey": { "rawBytes": STANDARD.encode(&der), "keyDetails": details },
        // The hash itself, where the controller has its digits.
        "logId": { "keyId": STANDARD.encode(Sha256::digest(&der)) },
    }))
}

/// Reports a log that is listed twice: it would be two keys for one name.
pub(super) fn any_twice(list: &Field<'_>, logs: &[Value], report: &mut Report) -> bool {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, log) in logs.iter().enumerate() {
        let Some(id) = log.pointer("/logId/keyId").and_then(Value::as_str) else { continue };
        if let Some(first) = seen.insert(id, index) {
            let what = format!("has one key twice, as entries {first} and {index}");
            list.error(report, what, Some("keep one of the two: a log is known by its key"));
            return true;
        }
    }
    false
}

fn hash(field: &Field<'_>, report: &mut Report) -> Option<&'static str> {
    let written = field.text(report)?;
    match written.to_ascii_lowercase().as_str() {
        "sha256" | "sha-256" => Some("SHA2_256"),
        "sha384" | "sha-384" => Some("SHA2_384"),
        "sha512" | "sha-512" => Some("SHA2_512"),
        _ => {
            let what = format!("is {}; expected sha256, sha384 or sha512", shown(written));
            field.error(report, what, Some("write hashAlgorithm: sha256, by which Sigstore's logs hash"));
            None
        }
    }
}

/// What a `trusted_root.json` calls the kind of key, and the key.
fn public_key(field: &Field<'_>, part: Part, report: &mut Report) -> Option<(&'static str, Vec<u8>)> {
    let text = decoded(field, report)?;
    match checked(&text, part) {
        Ok(key) => Some(key),
        Err((what, hint)) => {
            field.error(report, what, Some(hint));
            None
        }
    }
}

fn checked(text: &str, part: Part) -> Result<(&'static str, Vec<u8>), (String, &'static str)> {
    let mut blocks = pem::blocks(text).map_err(|what| (what, IN_BASE64))?;
    let count = blocks.len();
    let Some(block) = blocks.pop().filter(|_| count == 1) else {
        return Err((
            format!("holds {count} PEM blocks; expected one PUBLIC KEY"),
            "another key is another entry of the list",
        ));
    };
    if block.label != "PUBLIC KEY" {
        let what = format!("is a PEM block {}; expected PUBLIC KEY", shown(block.label));
        return Err((what, "openssl pkey -pubin -pubout prints a public key so"));
    }
    let unusable = |why: &str| (format!("is a key that cannot be used: {why}"), "ECDSA on P-256 and P-384 can be used");
    let spki = SubjectPublicKeyInfoRef::from_der(&block.der).map_err(|error| unusable(&error.to_string()))?;
    let curve = spki.algorithm.parameters_oid().ok().filter(|_| spki.algorithm.oid == EC);
    let (details, hash) = match (spki.algorithm.oid, curve) {
        (EC, Some(P256)) => ("PKIX_ECDSA_P256_SHA_256", HashAlgorithm::Sha256),
        (EC, Some(P384)) => ("PKIX_ECDSA_P384_SHA_384", HashAlgorithm::Sha384),
        (ED25519 | RSA, _) if part == Part::Logs => {
            let hint = "the controller takes ECDSA keys only, too; set policy.trust_root in the configuration to the \
                        trusted_root.json of that Sigstore";
            return Err(("is no ECDSA key; expected that of a Rekor log".to_owned(), hint));
        }
        (ED25519, _) => ("PKIX_ED25519", HashAlgorithm::Sha256),
        (RSA, _) => ("PKIX_RSA_PKCS1V5", HashAlgorithm::Sha256),
        _ => return Err(unusable("its kind is not supported")),
    };
    let key = Key { pem: key::encoded(block.label, &STANDARD.encode(&block.der)), hash: Some(hash) };
    sigstore::check_key(&key).map_err(|why| unusable(&why))?;
    Ok((details, block.der))
}
