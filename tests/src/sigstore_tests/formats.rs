//! Every format that the virtual Sigstore writes, valid, by the crates alone.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;
use serde_json::{Value, json};
use sha2::Digest as _;
use sigstore_crypto::VerificationKey;
use sigstore_types::{DerCertificate, DerPublicKey, SignatureBytes};

use super::{
    REPOSITORY, image,
    verify::{self, Trust},
};
use crate::sigstore::{
    EntryKind, Flaw, KeyKind, KeySigner, LegacySignature, Options, Signer, Version, VirtualSigstore, predicate,
};

fn parsed(bundle: &str) -> Value {
    serde_json::from_str(bundle).unwrap()
}

#[test]
fn rekor_v2_gives_no_time_and_a_timestamp_authority_does() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    for _ in 0..9 {
        let bundle = sigstore.sign_bundle(&Signer::chainguard(), &image(), &Options::rekor_v2());
        let verified = trust.bundle(&bundle, &image()).unwrap();
        assert_eq!(verified.signer(), Signer::chainguard());
        assert_eq!((verified.integrated_time, verified.times), (0, vec![Options::SIGNED_AT + 1]));
        let entry = &parsed(&bundle)["verificationMaterial"]["tlogEntries"][0];
        assert_eq!(entry["kindVersion"], json!({ "kind": "hashedrekord", "version": "0.0.2" }));
        assert!(entry.get("inclusionPromise").is_none() && entry.get("integratedTime").is_none());
        assert_eq!(entry["logIndex"], entry["inclusionProof"]["logIndex"]);
    }
}

#[test]
fn timestamps_and_promises_are_both_times() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    let options = Options { timestamp: true, ..Options::default() };
    let both = vec![Options::SIGNED_AT + 1, Options::SIGNED_AT + 2];
    let bundle = sigstore.sign_bundle(&Signer::chainguard(), &image(), &options);
    assert_eq!(trust.bundle(&bundle, &image()).unwrap().times, both);
    let legacy = sigstore.sign_legacy(&Signer::chainguard(), REPOSITORY, &image(), &options);
    assert_eq!(trust.legacy(&legacy).unwrap().times, both);
    let annotation: Value = serde_json::from_str(&legacy.annotations["dev.sigstore.cosign/rfc3161timestamp"]).unwrap();
    assert!(annotation["SignedRFC3161Timestamp"].is_string());
    // A timestamp suffices where the log's promise is missing.
    let options = Options { flaws: vec![Flaw::NoSignedTime], ..options };
    let bundle = sigstore.sign_bundle(&Signer::chainguard(), &image(), &options);
    assert_eq!(trust.bundle(&bundle, &image()).unwrap().times, [Options::SIGNED_AT + 1]);
}

#[test]
fn bundles_of_every_version_verify() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    for (version, chain) in [(Version::V01, 2), (Version::V02, 2), (Version::V03, 0)] {
        for timestamp in [false, true] {
            let options = Options { version, timestamp, ..Options::default() };
            let bundle = sigstore.sign_bundle(&Signer::chainguard(), &image(), &options);
            assert_eq!(trust.bundle(&bundle, &image()).unwrap().signer(), Signer::chainguard());
            let material = &parsed(&bundle)["verificationMaterial"];
            let certificates = material["x509CertificateChain"]["certificates"].as_array();
            assert_eq!(certificates.map_or(0, Vec::len), chain, "{version:?}");
            assert_eq!(material["certificate"].is_object(), chain == 0, "{version:?}");
        }
    }
    let bare = |version| {
        let options = Options { version, ..Options::flawed(Flaw::ProofMissing) };
        trust.bundle(&sigstore.sign_bundle(&Signer::chainguard(), &image(), &options), &image())
    };
    assert!(bare(Version::V01).is_ok(), "a bundle of version 0.1 need not bring its proof");
    assert!(bare(Version::V02).is_err() && bare(Version::V03).is_err());
}

#[test]
fn blobs_are_signed_in_bundles_of_every_version_and_log() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    let key = KeySigner::generate(KeyKind::P256);
    let artifact = b"an artifact";
    for options in [
        Options::default(),
        Options::rekor_v2(),
        Options { version: Version::V02, timestamp: true, ..Options::default() },
        Options { version: Version::V01, ..Options::default() },
    ] {
        let bundle = sigstore.sign_blob(&Signer::person(), artifact, &options);
        assert_eq!(trust.blob(&bundle, artifact, None).unwrap().signer(), Signer::person());
        assert!(trust.blob(&bundle, b"another", None).is_err());
        let bundle = key.sign_blob(artifact, Some(&sigstore), &options);
        trust.blob(&bundle, artifact, Some(&key.public_pem())).unwrap();
        assert!(trust.blob(&bundle, b"another", Some(&key.public_pem())).is_err());
    }
}

/// The crates do not read `intoto` 0.0.1; this is what such an entry binds.
#[test]
fn an_old_intoto_entry_binds_the_envelope_and_its_signer() {
    let sigstore = VirtualSigstore::new();
    let options = Options { entry: EntryKind::IntotoV001, ..Options::default() };
    let said = predicate::provenance(predicate::BUILDER);
    let attestation = sigstore.attest_legacy(&Signer::chainguard(), &image(), predicate::PROVENANCE, &said, &options);
    let error = Trust::in_(&sigstore).legacy_about(&attestation, &image()).unwrap_err();
    assert!(error.contains("intoto") && error.contains("0.0.1"), "{error}");

    let LegacySignature { payload, annotations, .. } = attestation;
    let answer: Value = serde_json::from_str(&annotations["dev.sigstore.cosign/bundle"]).unwrap();
    let body = STANDARD.decode(answer["Payload"]["body"].as_str().unwrap()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["kind"], &body["apiVersion"]), (&json!("intoto"), &json!("0.0.1")));
    let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex::encode(sha2::Sha256::digest(bytes)) });
    let envelope: Value = serde_json::from_slice(&payload).unwrap();
    let statement = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    assert_eq!(body["spec"]["content"], json!({ "hash": hash(&payload), "payloadHash": hash(&statement) }));
    let pem = STANDARD.decode(body["spec"]["publicKey"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(pem).unwrap(), annotations["dev.sigstore.cosign/certificate"]);

    let promise = STANDARD.decode(answer["SignedEntryTimestamp"].as_str().unwrap()).unwrap();
    let signed = format!(
        r#"{{"body":{},"integratedTime":{},"logID":{},"logIndex":{}}}"#,
        answer["Payload"]["body"],
        answer["Payload"]["integratedTime"],
        answer["Payload"]["logID"],
        answer["Payload"]["logIndex"]
    );
    let root = parsed(&sigstore.trusted_root_json());
    let key = STANDARD.decode(root["tlogs"][0]["publicKey"]["rawBytes"].as_str().unwrap()).unwrap();
    let key = VerificationKey::from_spki(&DerPublicKey::new(key)).unwrap();
    key.verify(signed.as_bytes(), &SignatureBytes::new(promise)).unwrap();
}

#[test]
fn workflow_claims_are_what_the_signer_says() {
    let sigstore = VirtualSigstore::new();
    let signer = Signer::chainguard()
        .trigger("schedule")
        .sha("0123456789012345678901234567890123456789")
        .workflow("release")
        .repository("chainguard-images/other")
        .reference("refs/tags/v1")
        .claim(22, "private")
        .claim(23, "production");
    let signature = sigstore.sign_legacy(&signer, REPOSITORY, &image(), &Options::default());
    let claims = Trust::in_(&sigstore).legacy(&signature).unwrap().certificate.unwrap().ci_claims;
    assert_eq!(claims.build_trigger.as_deref(), Some("schedule"));
    assert_eq!(claims.source_repository_digest.as_deref(), Some("0123456789012345678901234567890123456789"));
    let repository = Some("https://github.com/chainguard-images/other");
    assert_eq!(claims.source_repository_uri.as_deref(), repository);
    assert_eq!(claims.source_repository_ref.as_deref(), Some("refs/tags/v1"));
    assert_eq!(claims.source_repository_visibility_at_signing.as_deref(), Some("private"));
    assert_eq!(verify::extension(&signature, 2), b"schedule");
    assert_eq!(verify::extension(&signature, 4), b"release");
    assert_eq!(verify::extension(&signature, 5), b"chainguard-images/other");
    assert_eq!(verify::extension(&signature, 23), b"\x0c\x0aproduction");
}

#[test]
fn annotations_are_in_the_statement_of_a_bundle() {
    let sigstore = VirtualSigstore::new();
    let options = Options { annotations: [("sha".to_owned(), "49ce".to_owned())].into(), ..Options::default() };
    let bundle = sigstore.sign_bundle(&Signer::chainguard(), &image(), &options);
    assert!(verify::statement(&bundle).contains(r#""annotations":{"sha":"49ce"}"#));
    assert!(Trust::in_(&sigstore).bundle(&bundle, &image()).is_ok());
}

#[test]
fn a_trust_root_document_holds_what_the_trusted_root_holds() {
    let sigstore = VirtualSigstore::new();
    let text = sigstore.trust_root_document("virtual");
    assert!(
        text.starts_with("apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata:\n  name: virtual\n")
    );
    let root = parsed(&sigstore.trusted_root_json());
    let pems = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix(key));
        lines.map(|value| String::from_utf8(STANDARD.decode(value).unwrap()).unwrap()).collect()
    };
    let raw = |value: &Value| value["rawBytes"].as_str().unwrap().to_owned();
    let chains = pems("certChain: ");
    let authorities = [&root["certificateAuthorities"][0], &root["timestampAuthorities"][0]];
    for (pem, authority) in chains.iter().zip(authorities) {
        let certificates = authority["certChain"]["certificates"].as_array().unwrap();
        let blocks: Vec<_> = pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
        assert_eq!(blocks.len(), certificates.len());
        for (block, certificate) in blocks.into_iter().zip(certificates) {
            assert_eq!(DerCertificate::from_pem(block).unwrap().to_base64(), raw(certificate));
        }
    }
    let keys: Vec<_> = pems("publicKey: ").iter().map(|pem| DerPublicKey::from_pem(pem).unwrap().to_base64()).collect();
    assert_eq!(keys, [raw(&root["tlogs"][0]["publicKey"]), raw(&root["ctlogs"][0]["publicKey"])]);
    assert_eq!(chains.len(), 2);
}

#[test]
fn what_chainguard_attests_is_of_its_three_types() {
    let digest = Digest::sha256(b"x");
    let said = predicate::chainguard(&digest, &["amd64", "arm64"]);
    let types: Vec<_> = said.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(types, [predicate::PROVENANCE, predicate::IMAGE_CONFIGURATION, predicate::SPDX]);
    assert_eq!(said[0].1["runDetails"]["builder"]["id"], predicate::BUILDER);
    assert_eq!(said[0].1["buildDefinition"]["buildType"], predicate::BUILD_TYPE);
    assert_eq!(said[1].1["archs"], json!(["amd64", "arm64"]));
}
