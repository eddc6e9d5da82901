//! The verifier of these tests: sigstore-verify, and the way from cosign's annotations to a bundle.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;
use serde_json::{Value, json};
use sigstore_crypto::{CertificateInfo, SubjectAltName, VerificationKey};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, DerPublicKey, Sha256Hash, SignatureBytes};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult, Verifier};
use x509_cert::{
    Certificate,
    der::DecodePem as _,
    ext::pkix::{self, name::GeneralName},
};

use crate::sigstore::{LegacySignature, Signer, VirtualSigstore};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// Verifies under one trust root.
pub(super) struct Trust(Verifier);

/// What the crates have verified.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) certificate: Option<CertificateInfo>,
    pub(super) integrated_time: u64,
}

impl Verified {
    pub(super) fn signer(&self) -> Signer {
        let certificate = self.certificate.as_ref().unwrap();
        let subject = certificate.identity.as_ref().map(SubjectAltName::as_str);
        Signer::new(certificate.issuer.as_deref().unwrap(), subject.unwrap())
    }
}

impl Trust {
    pub(super) fn in_(sigstore: &VirtualSigstore) -> Self {
        let root = TrustedRoot::from_json(&sigstore.trusted_root_json()).unwrap();
        Self(Verifier::new(&root).unwrap())
    }

    /// A simple signing payload by a certificate. Says nothing about what the payload names.
    pub(super) fn legacy(&self, signature: &LegacySignature) -> Result<Verified, String> {
        let pem = signature.annotations.get(CERTIFICATE).ok_or("no certificate")?;
        let bundle = convert(signature, &certified(pem), &message(signature))?;
        self.certified(&signature.payload[..], &bundle)
    }

    /// An envelope on a `.att` layer that speaks about `subject`.
    pub(super) fn legacy_about(&self, attestation: &LegacySignature, subject: &Digest) -> Result<Verified, String> {
        let pem = attestation.annotations.get(CERTIFICATE).ok_or("no certificate")?;
        let envelope: Value = serde_json::from_slice(&attestation.payload).unwrap();
        let bundle = convert(attestation, &certified(pem), &json!({ "dsseEnvelope": envelope }))?;
        self.certified(hash(subject), &bundle)
    }

    pub(super) fn legacy_by_key(&self, signature: &LegacySignature, pem: &str) -> Result<Verified, String> {
        let material = json!({ "publicKey": { "hint": "" } });
        let bundle = convert(signature, &material, &message(signature))?;
        self.keyed(&signature.payload[..], &bundle, pem)
    }

    pub(super) fn bundle(&self, json: &str, subject: &Digest) -> Result<Verified, String> {
        let bundle = Bundle::from_json(json).map_err(|error| error.to_string())?;
        self.certified(hash(subject), &bundle)
    }

    pub(super) fn bundle_by_key(&self, json: &str, subject: &Digest, pem: &str) -> Result<Verified, String> {
        let bundle = Bundle::from_json(json).map_err(|error| error.to_string())?;
        self.keyed(hash(subject), &bundle, pem)
    }

    fn certified<'a>(
        &self,
        artifact: impl Into<sigstore_types::Artifact<'a>>,
        bundle: &Bundle,
    ) -> Result<Verified, String> {
        let result = self.0.verify(artifact, bundle, &VerificationPolicy::any_identity());
        let result = result.map_err(|error| error.to_string())?;
        assert!(result.certificate_verified() && result.sct_verified() && result.tlog_verified());
        Ok(verified(&result))
    }

    fn keyed<'a>(
        &self,
        artifact: impl Into<sigstore_types::Artifact<'a>>,
        bundle: &Bundle,
        pem: &str,
    ) -> Result<Verified, String> {
        let policy = PublicKeyVerificationPolicy::new(DerPublicKey::from_pem(pem).unwrap());
        let result = self.0.verify(artifact, bundle, &policy).map_err(|error| error.to_string())?;
        assert!(result.tlog_verified());
        Ok(verified(&result))
    }
}

fn verified(result: &VerificationResult) -> Verified {
    let seconds = result.integrated_time().map(|time| u64::try_from(time.as_second()).unwrap());
    Verified { certificate: result.certificate().cloned(), integrated_time: seconds.unwrap_or_default() }
}

/// The signature alone, with the hash that is usual for the key.
pub(super) fn plain(signature: &LegacySignature, pem: &str) -> Result<(), String> {
    let key = VerificationKey::from_spki(&DerPublicKey::from_pem(pem).unwrap()).unwrap();
    let bytes = STANDARD.decode(&signature.annotations[SIGNATURE]).unwrap();
    key.verify(&signature.payload, &SignatureBytes::new(bytes)).map_err(|error| error.to_string())
}

/// The statement in a bundle, as text.
pub(super) fn statement(bundle: &str) -> String {
    let bundle: Value = serde_json::from_str(bundle).unwrap();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    String::from_utf8(payload).unwrap()
}

/// All URIs that a certificate names as its subject.
pub(super) fn subjects(signature: &LegacySignature) -> Vec<String> {
    let certificate = Certificate::from_pem(&signature.annotations[CERTIFICATE]).unwrap();
    let names: Option<(bool, pkix::SubjectAltName)> = certificate.tbs_certificate.get().unwrap();
    let uri = |name: &GeneralName| {
        let GeneralName::UniformResourceIdentifier(uri) = name else { panic!("{name:?} is no URI") };
        uri.to_string()
    };
    names.unwrap().1.0.iter().map(uri).collect()
}

fn hash(subject: &Digest) -> Sha256Hash {
    Sha256Hash::from_hex(subject.hex()).unwrap()
}

fn certified(pem: &str) -> Value {
    let der = sigstore_types::DerCertificate::from_pem(pem).unwrap();
    json!({ "x509CertificateChain": { "certificates": [{ "rawBytes": der.to_base64() }] } })
}

fn message(signature: &LegacySignature) -> Value {
    let digest = sigstore_crypto::sha256(&signature.payload).to_base64();
    json!({ "messageSignature": {
        "messageDigest": { "algorithm": "SHA2_256", "digest": digest },
        "signature": signature.annotations[SIGNATURE],
    } })
}

/// A bundle v0.1: the one version that a SET suffices for.
fn convert(signature: &LegacySignature, material: &Value, content: &Value) -> Result<Bundle, String> {
    let text = signature.annotations.get(BUNDLE).ok_or(format!("no annotation {BUNDLE}"))?;
    let answer: Value = serde_json::from_str(text).unwrap();
    let payload = &answer["Payload"];
    let body: Value = serde_json::from_slice(&STANDARD.decode(payload["body"].as_str().unwrap()).unwrap()).unwrap();
    let mut document = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": { "tlogEntries": [{
            "logIndex": payload["logIndex"].to_string(),
            "logId": { "keyId": STANDARD.encode(hex::decode(payload["logID"].as_str().unwrap()).unwrap()) },
            "kindVersion": { "kind": body["kind"], "version": body["apiVersion"] },
            "integratedTime": payload["integratedTime"].to_string(),
            "inclusionPromise": { "signedEntryTimestamp": answer["SignedEntryTimestamp"] },
            "canonicalizedBody": payload["body"],
        }] },
    });
    merge(&mut document["verificationMaterial"], material);
    merge(&mut document, content);
    Bundle::from_json(&document.to_string()).map_err(|error| error.to_string())
}

fn merge(into: &mut Value, from: &Value) {
    let from = from.as_object().unwrap().clone();
    into.as_object_mut().unwrap().extend(from);
}
