//! What the virtual Sigstore signs is verified here by the crates that product code builds on, without product code between.

mod verify;

use oci::{Algorithm, Digest};
use serde_json::json;

use super::*;
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

/// What the crates say of each flaw that is theirs to notice, so that no flaw is refused for the sake of another. The first is of the
/// legacy layout, the second of bundles.
fn complaint(flaw: Flaw) -> [&'static str; 2] {
    match flaw {
        Flaw::NotLogged => ["no annotation dev.sigstore.cosign/bundle", "must have an inclusion proof"],
        Flaw::SetFlipped | Flaw::SetOfAnotherEntry | Flaw::TimeChanged | Flaw::SetForged => {
            ["SET verification failed"; 2]
        }
        Flaw::EntryOfAnotherImage => ["artifact hash mismatch for hashedrekord", "DSSE payload hash mismatch"],
        Flaw::UnknownLog => ["No log key valid at integrated time"; 2],
        Flaw::NoSignedTime => ["", "no verified timestamp"],
        Flaw::ProofMissing => ["", "must have an inclusion proof"],
        Flaw::ProofBroken => ["", "inclusion proof verification failed"],
        Flaw::CheckpointForged => ["", "No valid Rekor signature found on checkpoint"],
        Flaw::SctMissing => ["missing SCT extension"; 2],
        Flaw::SctByUnknownLog => ["key not found or not valid"; 2],
        Flaw::SctForged => ["SCT signature verification failed: Verification error: ECDSA"; 2],
        Flaw::ForeignCa => ["InvalidSignatureForPublicKey"; 2],
        Flaw::OutsideValidity => ["CertExpired"; 2],
        Flaw::WrongKeyUsage => ["RequiredEkuNotFound"; 2],
        Flaw::CertificateSwapped | Flaw::SignatureWrong => ["signature verification failed"; 2],
        Flaw::PayloadTypeWrong
        | Flaw::OtherDigest
        | Flaw::DuplicatedDigest
        | Flaw::OtherPredicate
        | Flaw::OtherSubject
        | Flaw::OtherIssuer
        | Flaw::TwoSubjects
        | Flaw::IssuersDisagree => panic!("{flaw:?} is not for cryptography to notice"),
    }
}

#[test]
fn every_flaw_of_proof_is_refused_for_what_it_is() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    for layout in [Layout::Legacy, Layout::Bundle] {
        let proofs = flaws(layout, Means::Certificate).filter(|flaw| flaw.caught_by() == Catch::Proof);
        for flaw in proofs {
            let options = Options::flawed(flaw);
            let [of_legacy, of_bundle] = complaint(flaw);
            let (verdict, complaint) = match layout {
                Layout::Legacy => (trust.legacy(&legacy(&sigstore, &options)), of_legacy),
                Layout::Bundle => (trust.bundle(&bundle(&sigstore, &options), &image()), of_bundle),
            };
            let error = verdict.expect_err(&format!("{flaw:?} in {layout:?} was accepted"));
            assert!(error.contains(complaint), "{flaw:?} in {layout:?}: {error}");
        }
    }
}

#[test]
fn flaws_of_claim_are_good_proofs_of_something_else() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    for flaw in flaws(Layout::Legacy, Means::Certificate).filter(|flaw| flaw.caught_by() == Catch::Claim) {
        let signature = legacy(&sigstore, &Options::flawed(flaw));
        assert_eq!(trust.legacy(&signature).unwrap().signer(), Signer::chainguard(), "{flaw:?}");
        assert_ne!(signature.payload, legacy(&sigstore, &Options::default()).payload, "{flaw:?}");
    }

    let other = bundle(&sigstore, &Options::flawed(Flaw::OtherDigest));
    assert!(trust.bundle(&other, &image()).is_err());
    assert!(trust.bundle(&other, &bundle::other_digest(&image())).is_ok());
    let provenance = bundle(&sigstore, &Options::flawed(Flaw::OtherPredicate));
    assert!(trust.bundle(&provenance, &image()).is_ok());
    assert!(verify::statement(&provenance).contains("https://slsa.dev/provenance/v1"));
    let not_a_statement = bundle(&sigstore, &Options::flawed(Flaw::PayloadTypeWrong));
    assert!(trust.bundle(&not_a_statement, &image()).is_err());
    let twice = bundle(&sigstore, &Options::flawed(Flaw::DuplicatedDigest));
    assert_eq!(verify::statement(&twice).matches("\"sha256\":").count(), 3);
}

#[test]
fn flaws_of_identity_are_good_proofs_by_somebody_else() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    let signer = |flaw| {
        let options = Options::flawed(flaw);
        let by_bundle = trust.bundle(&bundle(&sigstore, &options), &image()).unwrap().signer();
        assert_eq!(trust.legacy(&legacy(&sigstore, &options)).unwrap().signer(), by_bundle);
        by_bundle
    };
    let wanted = Signer::chainguard();
    assert_eq!(signer(Flaw::OtherSubject), Signer::fork());
    let other = signer(Flaw::OtherIssuer);
    assert_ne!(other.issuer, wanted.issuer);
    assert_eq!(other.subject, wanted.subject);
    // The crates look at the first name only, so that these two look good.
    assert_eq!(signer(Flaw::TwoSubjects), wanted);
    assert_eq!(signer(Flaw::IssuersDisagree), wanted);
    let two = legacy(&sigstore, &Options::flawed(Flaw::TwoSubjects));
    assert_eq!(verify::subjects(&two), [wanted.subject, Signer::fork().subject]);
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
fn every_flaw_of_proof_is_refused_of_keys_too() {
    let sigstore = VirtualSigstore::new();
    let trust = Trust::in_(&sigstore);
    let signer = KeySigner::generate(KeyKind::P256);
    let pem = signer.public_pem();
    for layout in [Layout::Legacy, Layout::Bundle] {
        for flaw in flaws(layout, Means::Key).filter(|flaw| flaw.caught_by() == Catch::Proof) {
            let options = Options::flawed(flaw);
            let verdict = match layout {
                Layout::Legacy => {
                    let signature = signer.sign_legacy(REPOSITORY, &image(), Some(&sigstore), &options);
                    assert_eq!(verify::plain(&signature, &pem).is_ok(), flaw.is_about_the_log(), "{flaw:?}");
                    trust.legacy_by_key(&signature, &pem)
                }
                Layout::Bundle => {
                    let bundle = signer.sign_bundle(&image(), Some(&sigstore), &options);
                    trust.bundle_by_key(&bundle, &image(), &pem)
                }
            };
            assert!(verdict.is_err(), "{flaw:?} in {layout:?} was accepted");
        }
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
fn the_list_of_flaws_is_complete_and_every_flaw_can_be_had() {
    let mut seen = std::collections::HashSet::new();
    for flaw in Flaw::ALL {
        assert!(seen.insert(flaw), "{flaw:?} is listed twice");
    }
    let had = |flaw: &Flaw| {
        [Layout::Legacy, Layout::Bundle].into_iter().any(|layout| flaw.applies_to(layout, Means::Certificate))
    };
    assert!(Flaw::ALL.iter().all(had));
    assert_eq!(flaws(Layout::Legacy, Means::Key).filter(|flaw| flaw.is_about_the_log()).count(), 7);
}
