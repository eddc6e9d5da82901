//! What verifiers trust: `trusted_root.json`, version 0.1, and the same as a `TrustRoot` document of the policy controller.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::UnixTime;
use serde_json::{Value, json};

use super::{
    Flaw, Instance, Options,
    ca::VALID_FROM,
    key::{Key, KeyKind, pem},
    log::Log,
};

const DAY: u64 = 24 * 60 * 60;

/// A trusted root in which these flaws show.
pub(super) fn json(instance: &Instance, flaws: &[Flaw]) -> String {
    let has = |flaw| flaws.contains(&flaw);
    let window = |has_ended: bool, has_not_begun: bool| {
        let (yesterday, tomorrow) = (Options::SIGNED_AT - DAY, Options::SIGNED_AT + DAY);
        let start = if has_not_begun { tomorrow } else { VALID_FROM };
        let mut window = json!({ "start": time(start) });
        if has_ended {
            window["end"] = json!(time(yesterday));
        }
        window
    };
    let logs = window(has(Flaw::LogEnded), has(Flaw::LogNotBegun));
    let ca = |chain: [&[u8]; 2]| {
        authority("virtual sigstore", "https://fulcio.sigstore.test", chain, &window(has(Flaw::CaEnded), false))
    };
    let mut authorities = vec![ca(instance.ca.chain())];
    if has(Flaw::IntermediateExpired) {
        authorities.push(ca(instance.ca.expired_chain()));
    }
    let tsa = &instance.tsa;
    let officer = if has(Flaw::TimestampForOtherUse) { tsa.misfit() } else { &tsa.officer };
    let tsa_window = window(has(Flaw::TimestampAuthorityEnded), false);
    let ct = &instance.ct.key;
    let document = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [tlog(&instance.log, &logs), tlog(&instance.log_v2, &logs)],
        "certificateAuthorities": authorities,
        "ctlogs": [log(
            "https://ctfe.sigstore.test/2022",
            ct,
            ct.id(),
            &window(has(Flaw::CtLogEnded), false),
        )],
        "timestampAuthorities": [authority(
            "virtual timestamp authority",
            "https://timestamp.sigstore.test",
            tsa.chain(officer),
            &tsa_window,
        )],
    });
    format!("{document:#}\n")
}

fn authority(name: &str, uri: &str, chain: [&[u8]; 2], window: &Value) -> Value {
    let certificates: Vec<Value> = chain.iter().map(|der| json!({ "rawBytes": STANDARD.encode(der) })).collect();
    json!({
        "subject": { "organization": "sigstore.test", "commonName": name },
        "uri": uri,
        "certChain": { "certificates": certificates },
        "validFor": window,
    })
}

fn tlog(rekor: &Log, window: &Value) -> Value {
    log(&format!("https://{}", rekor.name()), &rekor.key, rekor.id(), window)
}

fn log(url: &str, key: &Key, id: [u8; 32], window: &Value) -> Value {
    let details = match key.kind {
        KeyKind::P256 => "PKIX_ECDSA_P256_SHA_256",
        KeyKind::P384 => "PKIX_ECDSA_P384_SHA_384",
        KeyKind::Ed25519 => "PKIX_ED25519",
        KeyKind::Rsa2048 => "PKIX_RSA_PKCS1V15_2048_SHA256",
    };
    json!({
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": { "rawBytes": STANDARD.encode(key.public_der()), "keyDetails": details, "validFor": window },
        "logId": { "keyId": STANDARD.encode(id) },
    })
}

fn time(seconds: u64) -> String {
    UnixTime::from_millis(seconds * 1000).to_string()
}

/// The same authorities and logs as a `TrustRoot` document, `spec.sigstoreKeys`. It has no room for times, and takes ECDSA logs alone, so
/// that Rekor v2 is not in it.
pub(super) fn document(instance: &Instance, name: &str) -> String {
    let authority = |name: &str, uri: &str, chain: [&[u8]; 2]| {
        let pem: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        format!(
            "    - subject:\n        organization: sigstore.test\n        commonName: {name}\n      uri: {uri}\n      certChain: {}\n",
            STANDARD.encode(pem)
        )
    };
    let log = |url: &str, pem: String| {
        format!("    - baseURL: {url}\n      hashAlgorithm: sha-256\n      publicKey: {}\n", STANDARD.encode(pem))
    };
    let ca = authority("virtual sigstore", "https://fulcio.sigstore.test", instance.ca.chain());
    let tsa = &instance.tsa;
    let tsa = authority(
        "virtual timestamp authority",
        "https://timestamp.sigstore.test/api/v1/timestamp",
        tsa.chain(&tsa.officer),
    );
    let rekor = log("https://rekor.sigstore.test", instance.log.key.public_pem());
    let ct = log("https://ctfe.sigstore.test/2022", instance.ct.key.public_pem());
    format!(
        "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata:\n  name: {name}\nspec:\n  sigstoreKeys:\n    \
         certificateAuthorities:\n{ca}    tLogs:\n{rekor}    ctLogs:\n{ct}    timestampAuthorities:\n{tsa}"
    )
}
