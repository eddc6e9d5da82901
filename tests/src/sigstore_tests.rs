//! What the virtual Sigstore signs is verified here by the crates that product code builds on, without product code between.
//!
//! Not within `sigstore`: the tests of `policy` compile that module from its sources, and would run all this again.

mod corpus;
mod formats;
mod verify;

use oci::{Algorithm, Digest};
use serde_json::json;

use crate::sigstore::{Flaw, KeyKind, KeySigner, LegacySignature, Options, Signer, VirtualSigstore};
use verify::Trust;

const REPOSITORY: &str = "cgr.dev/chainguard/nginx";

fn image() -> Digest {
    Digest::sha256(b"an image")
}

fn legacy(sigstore: &VirtualSigstore, options: &Options) -> LegacySignature {
    sigstore.sign_legacy(&Signer::chainguard(), REPOSITORY, &image(), options)
}

fn bundle(sigstore: &VirtualSigstore, options: &Options) -> String {
    sigstore.sign_bundle(&Signer::chainguard(), &image(), options)
}

#[test]
fn signatures_by_certificate_verify_in_both_layouts_and_name_their_signer() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    let odd = Signer::new(Signer::GITHUB, "https://gitlab.example.com/a//b@c");
    for signer in [Signer::chainguard(), Signer::person(), Signer::fork(), odd] {
        let options = Options::default();
        let signature = sigstore.sign_legacy(&signer, REPOSITORY, &image(), &options);
        let verified = trust.legacy(&signature).unwrap();
        assert_eq!(verified.signer(), signer);
        assert_eq!(verified.integrated_time, Options::SIGNED_AT + 2);
        let bundle = sigstore.sign_bundle(&signer, &image(), &options);
        assert_eq!(trust.bundle(&bundle, &image()).unwrap().signer(), signer);
    }
}

#[test]
fn certificates_tell_what_github_tells() {
    let sigstore = VirtualSigstore::new();
    let verified = Trust::in_(&sigstore).legacy(&legacy(&sigstore, &Options::default())).unwrap();
    let certificate = verified.certificate.unwrap();
    let claims = certificate.ci_claims;
    let source = Some("https://github.com/chainguard-images/images");
    assert_eq!(claims.source_repository_uri.as_deref(), source);
    assert_eq!(claims.source_repository_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!(claims.build_signer_uri, Some(Signer::chainguard().subject));
    assert_eq!(claims.build_trigger.as_deref(), Some("push"));
}

#[test]
fn signatures_verify_at_whatever_time_they_were_made() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    for at in [1_640_995_200, 1_700_000_000, Options::SIGNED_AT] {
        let options = Options::at(at);
        assert_eq!(trust.legacy(&legacy(&sigstore, &options)).unwrap().integrated_time, at + 2);
        assert!(trust.bundle(&bundle(&sigstore, &options), &image()).is_ok());
    }
    let before_the_root = Options::at(1_600_000_000);
    assert!(trust.legacy(&legacy(&sigstore, &before_the_root)).is_err());
}

#[test]
fn proofs_hold_in_trees_of_every_shape() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    for _ in 0..20 {
        trust.bundle(&bundle(&sigstore, &Options::default()), &image()).unwrap();
    }
}

#[test]
fn legacy_attestations_verify() {
    let sigstore = VirtualSigstore::new();
    let predicate = json!({ "SPDXID": "SPDXRef-DOCUMENT" });
    let spdx = "https://spdx.dev/Document";
    let options = Options::default();
    let attestation = sigstore.attest_legacy(&Signer::chainguard(), &image(), spdx, &predicate, &options);
    assert_eq!(attestation.annotations["predicateType"], spdx);
    assert_eq!(attestation.annotations["dev.cosignproject.cosign/signature"], "");
    let trust = Trust::in_(&sigstore);
    assert_eq!(trust.legacy_about(&attestation, &image()).unwrap().signer(), Signer::chainguard());
    assert!(trust.legacy_about(&attestation, &Digest::sha256(b"another")).is_err());
}

#[test]
fn another_trust_root_refuses_everything() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&VirtualSigstore::new());
    let options = Options::default();
    let error = trust.legacy(&legacy(&sigstore, &options)).unwrap_err();
    assert!(error.contains("No log key valid"), "{error}");
    assert!(trust.bundle(&bundle(&sigstore, &options), &image()).is_err());
}

#[test]
fn every_kind_of_key_signs_in_both_layouts() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    let options = Options::default();
    let other = KeySigner::generate(KeyKind::P256).public_pem();
    for kind in KeyKind::ALL {
        let signer = KeySigner::generate(kind);
        let pem = signer.public_pem();

        let plain = signer.sign_legacy(REPOSITORY, &image(), None, &options);
        assert_eq!(plain.annotations.len(), 1, "{kind:?}");
        verify::plain(&plain, &pem).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert!(verify::plain(&plain, &other).is_err(), "{kind:?}");

        let bundle = signer.sign_bundle(&image(), Some(&sigstore), &options);
        trust.bundle_by_key(&bundle, &image(), &pem).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert!(trust.bundle_by_key(&bundle, &image(), &other).is_err(), "{kind:?}");
        assert!(trust.bundle_by_key(&bundle, &Digest::sha256(b""), &pem).is_err(), "{kind:?}");

        let logged = signer.sign_legacy(REPOSITORY, &image(), Some(&sigstore), &options);
        // The crates read SHA-256 alone from these entries, and Rekor logs what was signed.
        let verdict = trust.legacy_by_key(&logged, &pem);
        assert_eq!(verdict.is_ok(), kind != KeyKind::P384, "{kind:?}: {:?}", verdict.err());
        assert!(trust.legacy_by_key(&logged, &other).is_err(), "{kind:?}");
    }
}

#[test]
fn payloads_are_written_as_cosign_writes_them() {
    let sigstore = VirtualSigstore::new();
    let digest = image();
    let signature = legacy(&sigstore, &Options::default());
    let expected = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"cgr.dev/chainguard/nginx"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    );
    assert_eq!(signature.payload, expected);
    let keys: Vec<_> = signature.annotations.keys().map(String::as_str).collect();
    let expected = [
        "dev.cosignproject.cosign/signature",
        "dev.sigstore.cosign/bundle",
        "dev.sigstore.cosign/certificate",
        "dev.sigstore.cosign/chain",
    ];
    assert_eq!(keys, expected);
    assert!(signature.annotations["dev.sigstore.cosign/certificate"].ends_with("-----END CERTIFICATE-----\n"));
    assert!(signature.annotations["dev.sigstore.cosign/chain"].ends_with("-----END CERTIFICATE-----"));
    assert_eq!(signature.annotations["dev.sigstore.cosign/chain"].matches("BEGIN").count(), 2);

    let annotated =
        Options { annotations: [("run_id".to_owned(), "1".to_owned())].into(), chain: false, ..Options::default() };
    let signature = legacy(&sigstore, &annotated);
    assert!(signature.payload.ends_with(br#""optional":{"run_id":"1"}}"#));
    assert!(!signature.annotations.contains_key("dev.sigstore.cosign/chain"));
}

#[test]
fn wide_digests_are_named_in_full() {
    let sigstore = VirtualSigstore::new();
    let digest = Digest::of(Algorithm::Sha512, b"an image");
    let options = Options::default();
    let payload = sigstore.sign_legacy(&Signer::chainguard(), REPOSITORY, &digest, &options).payload;
    assert!(String::from_utf8_lossy(&payload).contains(&digest.to_string()));
    let bundle = sigstore.sign_bundle(&Signer::chainguard(), &digest, &options);
    assert!(verify::statement(&bundle).contains(&format!(r#"{{"sha512":"{}"}}"#, digest.hex())));
}

#[test]
fn a_certificate_with_two_subjects_names_the_wanted_one_first() {
    let sigstore = VirtualSigstore::new();
    let two = legacy(&sigstore, &Options::flawed(Flaw::TwoSubjects));
    assert_eq!(verify::subjects(&two), [Signer::chainguard().subject, Signer::fork().subject]);
}
