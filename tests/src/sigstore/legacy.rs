//! Cosign's legacy layout, as on the layers of `.sig` and `.att` manifests.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use oci::{Digest, MediaType};
use serde_json::Value;

use super::{
    Flaw, Options, VirtualSigstore, document, envelope,
    notary::{self, Logged, Piece},
    party::{Party, Shown},
    seal::{IN_TOTO, Saying},
    writing,
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

/// A simple signing payload and its signature.
pub(super) fn sign(
    party: &Party<'_>,
    sigstore: Option<&VirtualSigstore>,
    repository: &str,
    digest: &Digest,
    options: &Options,
) -> LegacySignature {
    let write = |digest: &Digest| document::simple_signing(repository, digest, options);
    let saying = Saying { subject: digest, payload_type: None, write: &write };
    let piece = notary::make(party, sigstore, &saying, options);
    let signature = if options.has(Flaw::SignatureUnreadable) {
        "%%%".to_owned()
    } else {
        STANDARD.encode(&piece.sealed.signature)
    };
    let mut annotations = annotations(party, signature, &piece, options);
    if options.has(Flaw::SignatureMissing) {
        annotations.remove(SIGNATURE);
    }
    LegacySignature { media_type: MediaType::SIMPLE_SIGNING, payload: piece.sealed.payload.into(), annotations }
}

/// A statement in an envelope; the signature is within, so that the annotation is empty.
pub(super) fn attest(
    party: &Party<'_>,
    sigstore: Option<&VirtualSigstore>,
    digest: &Digest,
    (predicate_type, predicate): (&str, &Value),
    options: &Options,
) -> LegacySignature {
    let write = |digest: &Digest| document::statement(digest, (predicate_type, predicate), options);
    let saying = Saying { subject: digest, payload_type: Some(IN_TOTO), write: &write };
    let mut piece = notary::make(party, sigstore, &saying, options);
    let payload = writing::spoiled(envelope::legacy(&piece, options).into_bytes(), options);
    if let (true, Some(sigstore)) = (options.stamps_envelope, sigstore) {
        piece.token = sigstore.token(&payload, options);
    }
    let mut annotations = annotations(party, String::new(), &piece, options);
    annotations.insert("predicateType".to_owned(), predicate_type.to_owned());
    LegacySignature { media_type: MediaType::DSSE, payload: payload.into(), annotations }
}

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

fn annotations(party: &Party<'_>, signature: String, piece: &Piece, options: &Options) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(SIGNATURE.to_owned(), signature)]);
    if let Shown::Certificate { leaf, chain } = &party.shown {
        let certificate = if options.has(Flaw::CertificateUnreadable) {
            "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n".to_owned()
        } else if options.has(Flaw::TwoCertificates) {
            leaf.pem() + &party.verifier.pem()
        } else {
            leaf.pem()
        };
        if !options.has(Flaw::CertificateMissing) {
            annotations.insert(CERTIFICATE.to_owned(), certificate);
        }
        if *chain {
            annotations.insert(CHAIN.to_owned(), leaf.chain_pem());
        }
    }
    if let Some(answer) = log_answer(&piece.logged, options) {
        annotations.insert(BUNDLE.to_owned(), answer);
    }
    if let Some(token) = &piece.token {
        let text = format!(r#"{{"SignedRFC3161Timestamp":"{}"}}"#, STANDARD.encode(token));
        annotations.insert(TIMESTAMP.to_owned(), text);
    }
    annotations
}

/// Rekor's answer in the spelling of cosign's annotation.
fn log_answer(logged: &[Logged], options: &Options) -> Option<String> {
    let first = logged.first()?;
    if options.has(Flaw::LogAnswerUnreadable) {
        return Some("{".to_owned());
    }
    let payloads: Vec<_> = logged.iter().rev().map(|logged| format!(r#""Payload":{}"#, log_payload(logged))).collect();
    let promise = STANDARD.encode(&first.entry.set);
    Some(format!(r#"{{"SignedEntryTimestamp":"{promise}",{}}}"#, payloads.join(",")))
}

fn log_payload(Logged { entry, .. }: &Logged) -> String {
    format!(
        r#"{{"body":"{}","integratedTime":{},"logIndex":{},"logID":"{}"}}"#,
        STANDARD.encode(&entry.body),
        entry.integrated_time.unwrap_or_default(),
        entry.index,
        hex::encode(entry.log_id)
    )
}
