//! What holds whatever the evidence.

use bytes::Bytes;
use oci::{Addressed, Algorithm};
use policy::{Form, NoMatch, Origin, Outcome, Source, Unasked, UntrustedEvidence, UntrustedPiece};
use proptest::{prelude::*, sample::SizeRange};

use super::{
    NOW, SIGSTORE, STATIC_PASS, bundle, chainguard, evidence, good, image, judge_of, judged, legacy, policy,
    repository, rubbish,
    sigstore::{Flaw, Options, Signer},
};

/// Pieces as an attacker could write them.
fn any_piece() -> impl Strategy<Value = UntrustedPiece> {
    let source = prop_oneof![Just(Source::CosignTag), Just(Source::ReferrersApi), Just(Source::ReferrersTag)];
    let keys = prop_oneof![
        Just("dev.cosignproject.cosign/signature".to_owned()),
        Just("dev.sigstore.cosign/certificate".to_owned()),
        Just("dev.sigstore.cosign/bundle".to_owned()),
        Just("dev.sigstore.cosign/rfc3161timestamp".to_owned()),
        any::<String>(),
    ];
    let annotations = prop::collection::btree_map(keys, any::<String>(), SizeRange::from(0..5));
    (any::<Vec<u8>>(), annotations, any::<bool>(), source).prop_map(|(bytes, annotations, is_bundle, source)| {
        let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(bytes));
        if is_bundle {
            UntrustedPiece { bytes, form: Form::Bundle, origin: Origin::beside(source) }
        } else {
            UntrustedPiece { bytes, form: Form::CosignSignature { annotations }, origin: Origin::beside(source) }
        }
    })
}

/// Real signatures, good for this image or not.
fn sample() -> Vec<UntrustedPiece> {
    let (manifest, options) = (image("property"), Options::default());
    let digest = manifest.digest();
    vec![
        rubbish(),
        bundle(SIGSTORE.sign_bundle(&Signer::fork(), digest, &options)),
        bundle(SIGSTORE.sign_bundle(&Signer::chainguard(), digest, &Options::flawed(Flaw::OtherPredicate))),
        legacy(SIGSTORE.sign_legacy(&Signer::chainguard(), "x", digest, &Options::flawed(Flaw::NotLogged))),
        legacy(SIGSTORE.sign_legacy(&Signer::person(), "x", digest, &options)),
        good(image("another").digest()),
        good(digest),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_are_a_signature(pieces in prop::collection::vec(any_piece(), 0..4), unasked: bool, flawed: Vec<String>) {
        let unasked = unasked.then(|| Unasked { origin: Origin::beside(Source::CosignTag), why: "no answer".to_owned() });
        let unasked = unasked.into_iter().collect();
        let evidence = UntrustedEvidence { pieces, unasked, flawed, ..UntrustedEvidence::default() };
        let outcome = judged(&chainguard(), &image("property"), &evidence).outcome;
        prop_assert!(!matches!(outcome, Outcome::Admitted(_)));
    }

    #[test]
    fn without_a_matching_policy_nothing_is_admitted(pieces in prop::collection::vec(any_piece(), 0..4)) {
        let elsewhere = judge_of(&[policy("elsewhere", "enforce", "cgr.dev/other/**", STATIC_PASS)], NoMatch::Deny);
        let manifest = image("property");
        let mut pieces = pieces;
        pieces.push(good(manifest.digest()));
        prop_assert!(matches!(judged(&elsewhere, &manifest, &evidence(pieces)).outcome, Outcome::Refused(_)));
    }

    #[test]
    fn the_order_of_evidence_changes_nothing(
        order in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle(),
        taken in 0..7_usize,
    ) {
        let (judge, manifest, sample) = (chainguard(), image("property"), sample());
        let mut indexes: Vec<usize> = order[..taken].to_vec();
        let shuffled = evidence(indexes.iter().map(|at| sample[*at].clone()).collect());
        indexes.sort_unstable();
        let sorted = evidence(indexes.iter().map(|at| sample[*at].clone()).collect());
        let assess = |evidence| judge.assess(&repository(), manifest.digest(), evidence, NOW);
        prop_assert_eq!(assess(&shuffled), assess(&sorted));
    }

    #[test]
    fn more_evidence_never_turns_a_yes_into_a_no(pieces in prop::collection::vec(any_piece(), 0..4), at in 0..4_usize) {
        let manifest = image("property");
        let mut pieces = pieces;
        pieces.insert(at.min(pieces.len()), good(manifest.digest()));
        let outcome = judged(&chainguard(), &manifest, &evidence(pieces)).outcome;
        prop_assert!(matches!(outcome, Outcome::Admitted(_)));
    }
}

#[test]
fn an_empty_set_of_policies_cannot_be_loaded() {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = policy::LoadContext { upstreams: &upstreams, no_match: NoMatch::Allow, custom_trust_root: false };
    assert!(policy::PolicySet::load(&[], &context).is_err());
    let empty = policy::SourceText { name: "empty.yaml".to_owned(), text: String::new() };
    assert!(policy::PolicySet::load(&[empty], &context).is_err());
}
