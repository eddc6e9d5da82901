//! Public keys in policies: one PEM block, of a kind that signatures are verified with.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    field::{Field, Refused, Schema},
    report::{Report, shown},
};
use crate::{
    authority::{HashAlgorithm, Key},
    sigstore,
};

const KEY: Schema = Schema {
    known: &["data", "hashAlgorithm"],
    refused: &[
        Refused {
            key: "secretRef",
            what: "is not supported: there is no cluster to ask",
            hint: "write the public key itself into data",
        },
        Refused {
            key: "kms",
            what: "is not supported: no key service is asked",
            hint: "write the public key into data: cosign public-key --key <kms> prints it",
        },
    ],
    ignored: &[],
};

const LABELS: [&str; 2] = ["PUBLIC KEY", "RSA PUBLIC KEY"];

/// Reads a key that the verifier can use.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Key> {
    let mapping = field.mapping(report, &KEY)?;
    let hash = match mapping.field("hashAlgorithm") {
        Some(field) => hash(&field, report).map(Some),
        None => Some(None),
    };
    let named_already = mapping.field("secretRef").is_some() || mapping.field("kms").is_some();
    let Some(data) = mapping.field("data") else {
        if !named_already {
            mapping.required(report, "data", "write the public key, in PEM");
        }
        return None;
    };
    match normalized(data.text(report)?) {
        Ok(pem) => usable(Key { pem, hash: hash? }, (&data, mapping.field("hashAlgorithm").as_ref()), report),
        Err((what, hint)) => {
            data.error(report, what, Some(hint));
            None
        }
    }
}

/// What the verifier says of a key by itself, and then of the hash that is written beside it.
fn usable(key: Key, (data, hash): (&Field<'_>, Option<&Field<'_>>), report: &mut Report) -> Option<Key> {
    if let Err(why) = sigstore::check_key(&Key { pem: key.pem.clone(), hash: None }) {
        let hint = "ECDSA keys on P-256 and P-384, Ed25519 and RSA keys can be used";
        data.error(report, format!("holds a key that cannot be used: {why}"), Some(hint));
        return None;
    }
    if let (Err(why), Some(hash)) = (sigstore::check_key(&key), hash) {
        hash.error(report, format!("does not go with the key: {why}"), Some("leave it out"));
        return None;
    }
    Some(key)
}

fn hash(field: &Field<'_>, report: &mut Report) -> Option<HashAlgorithm> {
    let written = field.text(report)?;
    // the controller trims and lower-cases it
    match written.trim().to_ascii_lowercase().as_str() {
        "sha256" => Some(HashAlgorithm::Sha256),
        "sha384" => Some(HashAlgorithm::Sha384),
        "sha512" => Some(HashAlgorithm::Sha512),
        _ => {
            let what = format!("is {}; expected sha256, sha384 or sha512", shown(written));
            field.error(report, what, Some("leave it out for sha256; sha224 is not supported"));
            None
        }
    }
}

type Flaw = (String, &'static str);

/// The one PEM block, its base64 decoded and encoded anew, so that equal keys are equal text.
/// What is wrong never repeats the data: it may be a private key.
fn normalized(data: &str) -> Result<String, Flaw> {
    let whole = "write the block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY-----, under data: |";
    let blocks = data.matches("-----BEGIN ").count();
    if blocks > 1 {
        let hint = "keep one key; for several, write an authority for each (any of them suffices)";
        return Err((
            format!("holds {blocks} PEM blocks, of which the controller reads only the first; expected one"),
            hint,
        ));
    }
    let data = data.trim();
    let opened = data.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
    let Some((label, rest)) = opened else {
        return Err(("is not one PEM block and nothing else".to_owned(), whole));
    };
    if !LABELS.contains(&label) {
        let hint = match label {
            "CERTIFICATE" => "openssl x509 -pubkey -noout prints the certificate's key",
            _ if label.ends_with("PRIVATE KEY") => {
                "a private key has no place in a policy: openssl pkey -pubout prints the public one"
            }
            _ => whole,
        };
        return Err((format!("is a PEM block {}; expected PUBLIC KEY or RSA PUBLIC KEY", shown(label)), hint));
    }
    let Some(body) = rest.strip_suffix(format!("-----END {label}-----").as_str()) else {
        return Err((format!("does not end in -----END {label}-----"), whole));
    };
    let base64: String = body.split_whitespace().collect();
    match STANDARD.decode(&base64) {
        Ok(der) if !der.is_empty() => Ok(encoded(label, &STANDARD.encode(der))),
        Ok(_) => Err(("is an empty PEM block".to_owned(), whole)),
        Err(error) => Err((format!("is a PEM block that is no base64: {error}"), whole)),
    }
}

/// A PEM block as everybody writes it.
pub(super) fn encoded(label: &str, base64: &str) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    format!("{pem}\n-----END {label}-----\n")
}
