//! One thing wrong with an otherwise good signature, and the refusal that it gives: one test for each of the flaws that signatures of both
//! generations have most often. The corpus of the virtual Sigstore holds the others.

use policy::Reason;

use super::{
    SIGSTORE, admitted, bundle, by_key, chainguard, evidence, image, judge, judged, legacy, refused,
    sigstore::{Flaw, KeyKind, KeySigner, Layout, Means, Options, Said, Shape, Signer, flaws},
};

/// What a certificate's signature with this flaw is refused for, in each layout that can have it.
fn refused_for(flaw: Flaw, layout: Layout) -> Reason {
    match (flaw, layout) {
        (Flaw::NotLogged | Flaw::ProofMissing, _) => Reason::LogMissing,
        (
            Flaw::SetFlipped
            | Flaw::SetOfAnotherEntry
            | Flaw::EntryOfAnotherImage
            | Flaw::TimeChanged
            | Flaw::UnknownLog
            | Flaw::SetForged
            | Flaw::ProofBroken
            | Flaw::CheckpointForged,
            _,
        ) => Reason::LogInvalid,
        (Flaw::NoSignedTime, _) => Reason::TimeMissing,
        (
            Flaw::SctMissing
            | Flaw::SctByUnknownLog
            | Flaw::SctForged
            | Flaw::ForeignCa
            | Flaw::OutsideValidity
            | Flaw::WrongKeyUsage
            | Flaw::TwoSubjects
            | Flaw::IssuersDisagree,
            _,
        ) => Reason::CertificateUntrusted,
        (Flaw::CertificateSwapped | Flaw::SignatureWrong, _) => Reason::SignatureInvalid,
        (Flaw::PayloadTypeWrong, Layout::Legacy) | (Flaw::DuplicatedDigest, _) => Reason::EvidenceUnreadable,
        (Flaw::PayloadTypeWrong, Layout::Bundle) | (Flaw::OtherPredicate, _) => Reason::SignatureMissing,
        (Flaw::OtherDigest, _) => Reason::DigestMismatch,
        (Flaw::OtherSubject | Flaw::OtherIssuer, _) => Reason::IdentityMismatch,
        (other, _) => panic!("{other:?} is not among those that are tested here"),
    }
}

fn is_refused(flaw: Flaw) {
    let options = Options::flawed(flaw);
    let manifest = image("flawed");
    let digest = manifest.digest();
    let signer = Signer::chainguard();
    for layout in [Layout::Legacy, Layout::Bundle] {
        if !flaw.applies_to(Shape::of(layout, Means::Certificate, Said::Signature)) {
            continue;
        }
        let piece = match layout {
            Layout::Legacy => legacy(SIGSTORE.sign_legacy(&signer, "cgr.dev/chainguard/nginx", digest, &options)),
            Layout::Bundle => bundle(SIGSTORE.sign_bundle(&signer, digest, &options)),
        };
        let (absent, refusal) = refused(judged(&chainguard(), &manifest, &evidence(vec![piece])));
        let expected = refused_for(flaw, layout);
        assert_eq!(refusal.reason, expected, "{flaw:?} in {layout:?}: {refusal}");
        assert_eq!(absent, expected == Reason::SignatureMissing, "{flaw:?} in {layout:?}");
        assert_eq!((refusal.policy.as_deref(), refusal.authority.as_deref()), (Some("release"), Some("release")));
        assert!(refusal.message.starts_with("refused by policy release: "), "{refusal}");
        assert!(!refusal.message.contains('\n'));
    }
}

macro_rules! each {
    ($($name:ident => $flaw:ident,)*) => {
        $(#[test] fn $name() { is_refused(Flaw::$flaw); })*

        const TESTED: &[Flaw] = &[$(Flaw::$flaw),*];
    };
}

each! {
    a_signature_that_was_not_logged_is_refused => NotLogged,
    a_flipped_bit_in_the_logs_promise_is_refused => SetFlipped,
    the_promise_for_another_entry_is_refused => SetOfAnotherEntry,
    the_entry_of_another_image_is_refused => EntryOfAnotherImage,
    a_changed_log_time_is_refused => TimeChanged,
    an_unknown_log_is_refused => UnknownLog,
    a_promise_forged_in_a_known_logs_name_is_refused => SetForged,
    a_bundle_without_signed_time_is_refused => NoSignedTime,
    a_bundle_without_proof_is_refused => ProofMissing,
    a_broken_proof_is_refused => ProofBroken,
    a_forged_checkpoint_is_refused => CheckpointForged,
    a_certificate_without_sct_is_refused => SctMissing,
    an_sct_by_an_unknown_log_is_refused => SctByUnknownLog,
    a_forged_sct_is_refused => SctForged,
    a_certificate_by_another_ca_of_the_same_name_is_refused => ForeignCa,
    a_signature_logged_after_the_certificate_ended_is_refused => OutsideValidity,
    a_certificate_for_tls_servers_is_refused => WrongKeyUsage,
    a_certificate_that_did_not_sign_is_refused => CertificateSwapped,
    a_wrong_signature_is_refused => SignatureWrong,
    a_payload_of_another_type_is_refused => PayloadTypeWrong,
    a_signature_over_another_image_is_refused => OtherDigest,
    a_digest_given_twice_is_refused => DuplicatedDigest,
    an_attestation_is_no_signature => OtherPredicate,
    another_subject_is_refused => OtherSubject,
    another_issuer_is_refused => OtherIssuer,
    a_certificate_with_two_subjects_is_refused => TwoSubjects,
    a_certificate_with_two_issuers_is_refused => IssuersDisagree,
}

#[test]
fn the_same_signatures_without_flaw_are_admitted() {
    let manifest = image("good");
    let signer = Signer::chainguard();
    let options = Options::default();
    for piece in [
        legacy(SIGSTORE.sign_legacy(&signer, "ghcr.io/elsewhere", manifest.digest(), &options)),
        bundle(SIGSTORE.sign_bundle(&signer, manifest.digest(), &options)),
    ] {
        let admitted = admitted(judged(&chainguard(), &manifest, &evidence(vec![piece])));
        assert!(admitted.is_verified());
        assert_eq!(admitted.digest(), manifest.digest());
        assert_eq!(admitted.warning(), None);
    }
}

#[test]
fn a_certificate_without_sct_is_admitted_only_where_the_policy_says_so() {
    let manifest = image("no sct");
    let signer = Signer::chainguard();
    let piece = || bundle(SIGSTORE.sign_bundle(&signer, manifest.digest(), &Options::flawed(Flaw::SctMissing)));
    let lax = super::keyless(&signer).replace("      identities:", "      insecureIgnoreSCT: true\n      identities:");
    assert!(admitted(judged(&judge(&lax), &manifest, &evidence(vec![piece()]))).is_verified());
    refused(judged(&chainguard(), &manifest, &evidence(vec![piece()])));
    for flaw in [Flaw::ForeignCa, Flaw::NotLogged, Flaw::OtherSubject] {
        let piece = bundle(SIGSTORE.sign_bundle(&signer, manifest.digest(), &Options::flawed(flaw)));
        refused(judged(&judge(&lax), &manifest, &evidence(vec![piece])));
    }
}

#[test]
fn a_person_is_not_taken_for_a_workflow() {
    let manifest = image("person");
    let piece = bundle(SIGSTORE.sign_bundle(&Signer::person(), manifest.digest(), &Options::default()));
    let (_, refusal) = refused(judged(&chainguard(), &manifest, &evidence(vec![piece])));
    assert_eq!(refusal.reason, Reason::IdentityMismatch);
}

#[test]
fn keys_of_every_kind_are_admitted_by_their_own_key_alone() {
    let manifest = image("keys");
    for kind in KeyKind::ALL {
        let (own, other) = (KeySigner::generate(kind), KeySigner::generate(KeyKind::P256));
        let hash = if kind == KeyKind::P384 { "sha384" } else { "sha256" };
        let authority = by_key(&own, false).replace("    key:\n", &format!("    key:\n      hashAlgorithm: {hash}\n"));
        for piece in [
            legacy(own.sign_legacy("cgr.dev/x", manifest.digest(), None, &Options::default())),
            bundle(own.sign_bundle(manifest.digest(), None, &Options::default())),
        ] {
            let evidence = evidence(vec![piece]);
            assert!(admitted(judged(&judge(&authority), &manifest, &evidence)).is_verified(), "{kind:?}");
            let (_, refusal) = refused(judged(&judge(&by_key(&other, false)), &manifest, &evidence));
            assert_eq!(refusal.reason, Reason::SignatureInvalid, "{kind:?}");
            refused(judged(&chainguard(), &manifest, &evidence));
        }
    }
}

#[test]
fn a_key_signature_needs_the_log_exactly_where_the_policy_asks_for_it() {
    let manifest = image("logged");
    let signer = KeySigner::generate(KeyKind::P256);
    let (logged, free) = (judge(&by_key(&signer, true)), judge(&by_key(&signer, false)));
    for layout in [Layout::Legacy, Layout::Bundle] {
        let sign = |options: &Options| match layout {
            Layout::Legacy => legacy(signer.sign_legacy("cgr.dev/x", manifest.digest(), Some(&SIGSTORE), options)),
            Layout::Bundle => bundle(signer.sign_bundle(manifest.digest(), Some(&SIGSTORE), options)),
        };
        let whole = evidence(vec![sign(&Options::default())]);
        assert!(admitted(judged(&logged, &manifest, &whole)).is_verified());
        assert!(admitted(judged(&free, &manifest, &whole)).is_verified());
        for flaw in flaws(layout, Means::Key).filter(|flaw| TESTED.contains(flaw)) {
            let evidence = evidence(vec![sign(&Options::flawed(flaw))]);
            let (_, refusal) = refused(judged(&logged, &manifest, &evidence));
            assert_eq!(refusal.reason, refused_for(flaw, layout), "{flaw:?} in {layout:?}: {refusal}");
            if flaw.is_about_the_log() {
                admitted(judged(&free, &manifest, &evidence));
            } else {
                refused(judged(&free, &manifest, &evidence));
            }
        }
    }
}
