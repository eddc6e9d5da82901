//! `trusted_root.json`, version 0.1.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::UnixTime;
use serde_json::{Value, json};

use super::{Instance, ca::VALID_FROM, key::Key};

pub(super) fn json(instance: &Instance) -> String {
    let certificates: Vec<Value> =
        instance.ca.chain().into_iter().map(|der| json!({ "rawBytes": STANDARD.encode(der) })).collect();
    let document = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log("https://rekor.sigstore.test", &instance.log.key)],
        "certificateAuthorities": [{
            "subject": { "organization": "sigstore.test", "commonName": "virtual sigstore" },
            "uri": "https://fulcio.sigstore.test",
            "certChain": { "certificates": certificates },
            "validFor": { "start": start() },
        }],
        "ctlogs": [log("https://ctfe.sigstore.test/2022", &instance.ct.key)],
        "timestampAuthorities": [],
    });
    format!("{document:#}\n")
}

fn log(url: &str, key: &Key) -> Value {
    json!({
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": STANDARD.encode(key.public_der()),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": { "start": start() },
        },
        "logId": { "keyId": STANDARD.encode(key.id()) },
    })
}

fn start() -> String {
    UnixTime::from_millis(VALID_FROM * 1000).to_string()
}
