//! Cosign's legacy layout, as on the layers of `.sig` and `.att` manifests.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use oci::{Digest, MediaType};
use serde::Serialize;
use serde_json::Value;

use super::{
    Options, VirtualSigstore,
    bundle::{Envelope, other_digest},
    entry::{self, Logged},
    flaw::Flaw,
    party::{Party, Shown},
};

/// One layer of a `.sig` or `.att` manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacySignature {
    /// The layer's media type: simple signing, or a DSSE envelope.
    pub media_type: &'static str,
    /// The layer's bytes.
    pub payload: Bytes,
    /// The layer's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Rekor's answer in the spelling of cosign's annotation.
#[derive(Serialize)]
struct RekorBundle<'a> {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    entry: RekorEntry<'a>,
}

#[derive(Serialize)]
struct RekorEntry<'a> {
    body: &'a str,
    #[serde(rename = "integratedTime")]
    integrated_time: u64,
    #[serde(rename = "logIndex")]
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// A simple signing payload and its signature.
pub(super) fn sign(
    party: &Party<'_>,
    log: Option<&VirtualSigstore>,
    repository: &str,
    digest: &Digest,
    options: &Options,
) -> LegacySignature {
    let payload = simple_signing(repository, digest, options);
    let signature = party.sign(payload.as_bytes(), options);
    let logged = log.and_then(|log| {
        let body = entry::hashedrekord(party, payload.as_bytes(), &signature);
        let another = || {
            let payload = simple_signing(repository, &other_digest(digest), options);
            let signature = party.sign(payload.as_bytes(), options);
            entry::hashedrekord(party, payload.as_bytes(), &signature)
        };
        log.log(body, another, options)
    });
    let annotations = annotations(party, STANDARD.encode(&signature), logged.as_ref());
    LegacySignature { media_type: MediaType::SIMPLE_SIGNING, payload: payload.into(), annotations }
}

/// A statement in an envelope; the signature is within, so that the annotation is empty.
pub(super) fn attest(
    party: &Party<'_>,
    log: Option<&VirtualSigstore>,
    digest: &Digest,
    (predicate_type, predicate): (&str, &Value),
    options: &Options,
) -> LegacySignature {
    let envelope = Envelope::seal(party, digest, (predicate_type, predicate), options);
    let logged = log.and_then(|log| {
        let another = || {
            let digest = other_digest(digest);
            Envelope::seal(party, &digest, (predicate_type, predicate), options).entry(party)
        };
        log.log(envelope.entry(party), another, options)
    });
    let mut annotations = annotations(party, String::new(), logged.as_ref());
    annotations.insert("predicateType".to_owned(), predicate_type.to_owned());
    LegacySignature { media_type: MediaType::DSSE, payload: envelope.to_json().into(), annotations }
}

/// Byte for byte as cosign writes it.
fn simple_signing(repository: &str, digest: &Digest, options: &Options) -> String {
    let key = "\"docker-manifest-digest\":";
    let image = if options.has(Flaw::OtherDigest) {
        format!("{key}\"{}\"", other_digest(digest))
    } else if options.has(Flaw::DuplicatedDigest) {
        // Whether a careless reader takes the first or the last, it takes the one that it wants to see.
        let other = other_digest(digest);
        format!("{key}\"{digest}\",{key}\"{other}\",{key}\"{digest}\"")
    } else {
        format!("{key}\"{digest}\"")
    };
    let kind = if options.has(Flaw::PayloadTypeWrong) {
        "atomic container signature"
    } else {
        "cosign container image signature"
    };
    let annotations = (!options.annotations.is_empty()).then_some(&options.annotations);
    let optional = serde_json::to_string(&annotations).expect("a map of texts is JSON");
    let repository = serde_json::to_string(repository).expect("a text is JSON");
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":{repository}}},"image":{{{image}}},"type":"{kind}"}},"optional":{optional}}}"#
    )
}

fn annotations(party: &Party<'_>, signature: String, logged: Option<&Logged>) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), signature)]);
    if let Shown::Certificate { leaf, chain } = &party.shown {
        annotations.insert("dev.sigstore.cosign/certificate".to_owned(), leaf.pem());
        if *chain {
            let chain = leaf.chain_pem.clone();
            annotations.insert("dev.sigstore.cosign/chain".to_owned(), chain);
        }
    }
    if let Some(logged) = logged {
        annotations.insert("dev.sigstore.cosign/bundle".to_owned(), rekor_bundle(logged));
    }
    annotations
}

fn rekor_bundle(Logged { entry, .. }: &Logged) -> String {
    let bundle = RekorBundle {
        promise: STANDARD.encode(&entry.set),
        entry: RekorEntry {
            body: &STANDARD.encode(&entry.body),
            integrated_time: entry.integrated_time,
            log_index: entry.index,
            log_id: hex::encode(entry.log_id),
        },
    };
    serde_json::to_string(&bundle).expect("texts and numbers are JSON")
}
