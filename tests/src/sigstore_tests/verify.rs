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

use crate::sigstore::{CorpusEntry, Form, LegacySignature, Signer, VirtualSigstore};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// Verifies under one trust root.
pub(super) struct Trust {
    verifier: Verifier,
    root: TrustedRoot,
}

/// What the crates have verified.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) certificate: Option<CertificateInfo>,
    pub(super) integrated_time: u64,
    /// All that somebody vouches for, timestamps first.
    pub(super) times: Vec<u64>,
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
        Self::under(&sigstore.trusted_root_json())
    }

    pub(super) fn under(trusted_root: &str) -> Self {
        let root = TrustedRoot::from_json(trusted_root).unwrap();
        Self { verifier: Verifier::new(&root).unwrap(), root }
    }

    /// A piece of the corpus about `subject`.
    pub(super) fn piece(&self, entry: &CorpusEntry, subject: &Digest) -> Result<Verified, String> {
        let key = entry.public_key.as_deref();
        if entry.form == Form::Bundle {
            let text = std::str::from_utf8(&entry.payload).map_err(|error| error.to_string())?;
            return match key {
                Some(pem) => self.bundle_by_key(text, subject, pem),
                None => self.bundle(text, subject),
            };
        }
        let (payload, annotations) = (entry.payload.clone().into(), entry.annotations.clone());
        let layer = LegacySignature { media_type: "", payload, annotations };
        match (entry.form, key) {
            (Form::CosignSignature, None) => self.legacy(&layer),
            (Form::CosignSignature, Some(pem)) => self.legacy_by_key(&layer, pem),
            (_, None) => self.legacy_about(&layer, subject),
            (_, Some(pem)) => self.legacy_about_by_key(&layer, subject, pem),
        }
    }

    /// An attestation that was logged as `intoto` 0.0.1, which the crates do not read. The entry is verified here, and the rest as the
    /// crates verify a `.att` layer without a log.
    pub(super) fn old_intoto(&self, entry: &CorpusEntry) -> Result<Verified, String> {
        let layer = LegacySignature {
            media_type: "",
            payload: entry.payload.clone().into(),
            annotations: entry.annotations.clone(),
        };
        let answer = annotation(&layer, BUNDLE)?.ok_or(format!("no annotation {BUNDLE}"))?;
        let logged = &answer["Payload"];
        let time = self.promised(&answer["SignedEntryTimestamp"], logged)?;
        let body: Value = serde_json::from_slice(&decoded(&logged["body"])).map_err(|error| error.to_string())?;
        let hash = |bytes: &[u8]| json!(sigstore_crypto::sha256(bytes).to_hex());
        if body["spec"]["content"]["hash"]["value"] != hash(&layer.payload) {
            return Err("old intoto: hash of the envelope".to_owned());
        }
        let shown = layer.annotations.get(CERTIFICATE).or(entry.public_key.as_ref()).ok_or("no certificate")?;
        if decoded(&body["spec"]["publicKey"]) != shown.as_bytes() {
            return Err("old intoto: verifier".to_owned());
        }
        let certificate = if entry.public_key.is_some() {
            None
        } else {
            let der = sigstore_types::DerCertificate::from_pem(shown).map_err(|error| error.to_string())?;
            Some(sigstore_crypto::parse_certificate_info(&der).map_err(|error| error.to_string())?)
        };
        if let Some(certificate) = certificate.as_ref().filter(|_| time > jiff::Timestamp::now()) {
            return Err(format!("{time} is in the future of {:?}", certificate.not_before));
        }
        let time = u64::try_from(time.as_second()).unwrap();
        Ok(Verified { certificate, integrated_time: time, times: vec![time] })
    }

    /// The time that a log in the trust root promised an entry for.
    fn promised(&self, promise: &Value, logged: &Value) -> Result<jiff::Timestamp, String> {
        let time = jiff::Timestamp::from_second(logged["integratedTime"].as_i64().unwrap()).unwrap();
        let log_id = hex::decode(logged["logID"].as_str().unwrap()).unwrap();
        let log_id = Sha256Hash::try_from(log_id.as_slice()).unwrap();
        let keys = self.root.rekor_keys().unwrap();
        let key = keys.key_at(&log_id, time).ok_or("No log key valid at integrated time")?;
        let signed = format!(
            r#"{{"body":{},"integratedTime":{},"logID":{},"logIndex":{}}}"#,
            logged["body"], logged["integratedTime"], logged["logID"], logged["logIndex"]
        );
        let promise = SignatureBytes::new(decoded(promise));
        key.verify(signed.as_bytes(), &promise).map_err(|error| format!("SET verification failed: {error}"))?;
        Ok(time)
    }

    /// A simple signing payload by a certificate. Says nothing about what the payload names.
    pub(super) fn legacy(&self, signature: &LegacySignature) -> Result<Verified, String> {
        let pem = signature.annotations.get(CERTIFICATE).ok_or("no certificate")?;
        let bundle = convert(signature, &certified(pem)?, &message(signature)?)?;
        self.certified(&signature.payload[..], &bundle)
    }

    /// An envelope on a `.att` layer that speaks about `subject`.
    pub(super) fn legacy_about(&self, attestation: &LegacySignature, subject: &Digest) -> Result<Verified, String> {
        let pem = attestation.annotations.get(CERTIFICATE).ok_or("no certificate")?;
        let bundle = convert(attestation, &certified(pem)?, &envelope(attestation)?)?;
        self.certified(hash(subject), &bundle)
    }

    fn legacy_about_by_key(
        &self,
        attestation: &LegacySignature,
        subject: &Digest,
        pem: &str,
    ) -> Result<Verified, String> {
        let material = json!({ "publicKey": { "hint": "" } });
        let bundle = convert(attestation, &material, &envelope(attestation)?)?;
        self.keyed(hash(subject), &bundle, pem)
    }

    pub(super) fn legacy_by_key(&self, signature: &LegacySignature, pem: &str) -> Result<Verified, String> {
        let material = json!({ "publicKey": { "hint": "" } });
        let bundle = convert(signature, &material, &message(signature)?)?;
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

    /// A signature over bytes, by a certificate or by this key.
    pub(super) fn blob(&self, json: &str, artifact: &[u8], pem: Option<&str>) -> Result<Verified, String> {
        let bundle = Bundle::from_json(json).map_err(|error| error.to_string())?;
        match pem {
            Some(pem) => self.keyed(artifact, &bundle, pem),
            None => self.certified(artifact, &bundle),
        }
    }

    fn certified<'a>(
        &self,
        artifact: impl Into<sigstore_types::Artifact<'a>>,
        bundle: &Bundle,
    ) -> Result<Verified, String> {
        let result = self.verifier.verify(artifact, bundle, &VerificationPolicy::any_identity());
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
        let result = self.verifier.verify(artifact, bundle, &policy).map_err(|error| error.to_string())?;
        assert!(result.tlog_verified());
        Ok(verified(&result))
    }
}

fn verified(result: &VerificationResult) -> Verified {
    let seconds = |time: jiff::Timestamp| u64::try_from(time.as_second()).unwrap();
    Verified {
        certificate: result.certificate().cloned(),
        integrated_time: result.integrated_time().map(seconds).unwrap_or_default(),
        times: result.verified_timestamps().iter().copied().map(seconds).collect(),
    }
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

/// What the extension of that number in Fulcio's arc holds.
pub(super) fn extension(signature: &LegacySignature, number: u32) -> Vec<u8> {
    let certificate = Certificate::from_pem(&signature.annotations[CERTIFICATE]).unwrap();
    let name = format!("1.3.6.1.4.1.57264.1.{number}");
    let extensions = certificate.tbs_certificate.extensions.unwrap();
    let found = extensions.iter().find(|extension| extension.extn_id.to_string() == name);
    found.unwrap().extn_value.as_bytes().to_vec()
}

fn hash(subject: &Digest) -> Sha256Hash {
    Sha256Hash::from_hex(subject.hex()).unwrap()
}

fn decoded(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn certified(pem: &str) -> Result<Value, String> {
    let der = sigstore_types::DerCertificate::from_pem(pem).map_err(|error| error.to_string())?;
    Ok(json!({ "x509CertificateChain": { "certificates": [{ "rawBytes": der.to_base64() }] } }))
}

fn message(signature: &LegacySignature) -> Result<Value, String> {
    let digest = sigstore_crypto::sha256(&signature.payload).to_base64();
    let signature = signature.annotations.get(SIGNATURE).ok_or("no signature")?;
    Ok(json!({ "messageSignature": {
        "messageDigest": { "algorithm": "SHA2_256", "digest": digest },
        "signature": signature,
    } }))
}

fn envelope(attestation: &LegacySignature) -> Result<Value, String> {
    let envelope: Value = serde_json::from_slice(&attestation.payload).map_err(|error| error.to_string())?;
    Ok(json!({ "dsseEnvelope": envelope }))
}

/// A bundle v0.1: the one version that a SET suffices for.
fn convert(signature: &LegacySignature, material: &Value, content: &Value) -> Result<Bundle, String> {
    let answer = annotation(signature, BUNDLE)?.ok_or(format!("no annotation {BUNDLE}"))?;
    let payload = &answer["Payload"];
    let body = STANDARD.decode(payload["body"].as_str().unwrap()).unwrap();
    let body: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let token = annotation(signature, TIMESTAMP)?;
    let tokens = token.map(|token| json!({ "signedTimestamp": token["SignedRFC3161Timestamp"] }));
    let mut document = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "verificationMaterial": {
            "tlogEntries": [{
                "logIndex": payload["logIndex"].to_string(),
                "logId": { "keyId": STANDARD.encode(hex::decode(payload["logID"].as_str().unwrap()).unwrap()) },
                "kindVersion": { "kind": body["kind"], "version": body["apiVersion"] },
                "integratedTime": payload["integratedTime"].to_string(),
                "inclusionPromise": { "signedEntryTimestamp": answer["SignedEntryTimestamp"] },
                "canonicalizedBody": payload["body"],
            }],
            "timestampVerificationData": { "rfc3161Timestamps": tokens.into_iter().collect::<Vec<_>>() },
        },
    });
    merge(&mut document["verificationMaterial"], material);
    merge(&mut document, content);
    Bundle::from_json(&document.to_string()).map_err(|error| error.to_string())
}

fn annotation(signature: &LegacySignature, name: &str) -> Result<Option<Value>, String> {
    let text = signature.annotations.get(name);
    text.map(|text| serde_json::from_str(text).map_err(|error| format!("annotation {name}: {error}"))).transpose()
}

fn merge(into: &mut Value, from: &Value) {
    let from = from.as_object().unwrap().clone();
    into.as_object_mut().unwrap().extend(from);
}
