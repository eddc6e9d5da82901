//! When an image was signed, and as what: the earliest signed time of the evidence that let it in, and the names in it.

use oci::{Digest, UnixTime, UntrustedManifest};
use policy::{
    Admitted, ChildOutcome, Finding, Judge, Manifest, NoMatch, UntrustedEvidence, UntrustedPiece, VerifiedPiece,
};
use proptest::prelude::*;
use serde_json::json;

use super::{
    NOW, SIGSTORE, STATIC_PASS, admitted, bundle, by_key, chainguard, evidence, good, image, index, judge, judge_of,
    judged, keyless, legacy, policy,
    sigstore::{KeyKind, KeySigner, Options, Signer},
};

const DAY: u64 = 86_400;
const FIRST: u64 = Options::SIGNED_AT - 300 * DAY;
const SLSA: &str = "https://slsa.dev/provenance/v1";

/// A signature in the legacy layout; the log takes it in two seconds after `at`.
fn signed(digest: &Digest, name: &str, at: u64) -> UntrustedPiece {
    legacy(SIGSTORE.sign_legacy(&Signer::chainguard(), name, digest, &Options::at(at)))
}

fn logged(at: u64) -> UnixTime {
    UnixTime::from_millis((at + 2) * 1000)
}

fn let_in(judge: &Judge, manifest: &UntrustedManifest, pieces: Vec<UntrustedPiece>) -> Admitted<Manifest> {
    admitted(judged(judge, manifest, &evidence(pieces)))
}

fn pieces(admitted: &Admitted<Manifest>) -> Vec<&VerifiedPiece> {
    let verified = admitted.findings().iter().filter_map(|finding| match &finding.finding {
        Finding::Verified { pieces, .. } => Some(pieces),
        _ => None,
    });
    verified.flatten().collect()
}

#[test]
fn an_image_that_is_signed_again_does_not_become_younger() {
    let (judge, manifest) = (chainguard(), image("re-signed"));
    // Whatever digests the pieces happen to have, the first signed is recorded, and alone.
    for again in 1..8 {
        let all = vec![
            signed(manifest.digest(), "cgr.dev/chainguard/nginx", FIRST + again * DAY),
            signed(manifest.digest(), "cgr.dev/chainguard/nginx", FIRST),
        ];
        let first = all[1].digest().clone();
        let admitted = let_in(&judge, &manifest, all);
        assert_eq!(admitted.signed_at(), Some(logged(FIRST)));
        // The payload is the same in both: told once.
        assert_eq!(admitted.evidence(), [&first]);
        assert_eq!(pieces(&admitted).len(), 1);
    }
}

#[test]
fn the_earliest_counts_whoever_else_signed_before() {
    let (judge, manifest) = (chainguard(), image("strangers"));
    let text = SIGSTORE.sign_bundle(&Signer::fork(), manifest.digest(), &Options::at(FIRST - 100 * DAY));
    let ours = signed(manifest.digest(), "cgr.dev/chainguard/nginx", FIRST);
    assert_eq!(let_in(&judge, &manifest, vec![bundle(text), ours]).signed_at(), Some(logged(FIRST)));
}

#[test]
fn a_rule_picks_the_earliest_piece_that_it_agrees_with() {
    let authority = format!(
        "{}    attestations:\n    - name: provenance\n      predicateType: {SLSA}\n      policy:\n        type: rego\n        data: |\n          \
         package sigstore\n          default isCompliant = false\n          isCompliant {{ input.predicate.good == true }}\n",
        keyless(&Signer::chainguard())
    );
    let (judge, manifest) = (judge(&authority), image("ruled"));
    let attested = |good: bool, at| {
        let predicate = json!({ "good": good, "buildDefinition": {}, "runDetails": {} });
        bundle(SIGSTORE.attest_bundle(&Signer::chainguard(), manifest.digest(), SLSA, &predicate, &Options::at(at)))
    };
    let all = vec![attested(true, FIRST + 2 * DAY), attested(true, FIRST + DAY), attested(false, FIRST)];
    let admitted = let_in(&judge, &manifest, all);
    let [piece] = pieces(&admitted)[..] else { panic!("{:?}", admitted.findings()) };
    assert_eq!(piece.signed_at.map(UnixTime::as_millis).map(|at| at / 1000 / DAY), Some((FIRST + DAY) / DAY));
}

#[test]
fn the_earliest_of_all_policies_counts() {
    let key = KeySigner::generate(KeyKind::P256);
    let policies = [
        policy("release", "enforce", "cgr.dev/**", &keyless(&Signer::chainguard())),
        policy("ours", "enforce", "cgr.dev/**", &by_key(&key, true)),
    ];
    let (judge, manifest) = (judge_of(&policies, NoMatch::Deny), image("both"));
    for (theirs, ours) in [(FIRST, FIRST + DAY), (FIRST + DAY, FIRST)] {
        let by_key = bundle(key.sign_bundle(manifest.digest(), Some(&SIGSTORE), &Options::at(ours)));
        let admitted = let_in(&judge, &manifest, vec![signed(manifest.digest(), "nginx", theirs), by_key]);
        assert_eq!(admitted.signed_at(), Some(logged(FIRST)));
        assert_eq!(admitted.evidence().len(), 2);
    }
}

#[test]
fn what_nobody_signed_or_nobody_dated_has_no_time() {
    let key = KeySigner::generate(KeyKind::P256);
    let manifest = image("undated");
    let undated = bundle(key.sign_bundle(manifest.digest(), None, &Options::default()));
    assert_eq!(let_in(&judge(&by_key(&key, false)), &manifest, vec![undated]).signed_at(), None);
    let open = let_in(&judge(STATIC_PASS), &manifest, vec![good(manifest.digest())]);
    assert_eq!((open.signed_at(), open.evidence()), (None, vec![]));
}

#[test]
fn a_child_is_as_old_as_what_let_in_its_index() {
    let (judge, child) = (chainguard(), image("child"));
    let index = index(&[&child]);
    let index = let_in(&judge, &index, vec![signed(index.digest(), "cgr.dev/chainguard/nginx", FIRST)]);
    let judgement = judge.admit_child(&index, child, None, NOW);
    let ChildOutcome::Admitted(child) = judgement.outcome else { panic!("{:?}", judgement.outcome) };
    assert_eq!(child.signed_at(), Some(logged(FIRST)));
    assert_eq!(child.evidence(), index.evidence());
}

#[test]
fn an_image_has_every_name_that_its_signer_gave_it() {
    let (judge, manifest) = (chainguard(), image("two names"));
    let all = vec![
        signed(manifest.digest(), "cgr.dev/chainguard/redis", FIRST),
        signed(manifest.digest(), "cgr.dev/chainguard/nginx:latest", FIRST + DAY),
        legacy(SIGSTORE.sign_legacy(&Signer::fork(), "ghcr.io/evil/fork", manifest.digest(), &Options::at(FIRST))),
    ];
    let admitted = let_in(&judge, &manifest, all);
    let [piece] = pieces(&admitted)[..] else { panic!("one piece suffices") };
    assert_eq!(piece.names, ["cgr.dev/chainguard/nginx:latest", "cgr.dev/chainguard/redis"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_evidence_does_not_move_the_time(order in Just((0..4_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let manifest = image("shuffled");
        let piece = |n: u64| signed(manifest.digest(), &format!("cgr.dev/x/{n}"), FIRST + n * DAY);
        let pieces: Vec<_> = (0..4).map(piece).collect();
        let evidence: UntrustedEvidence = evidence(order.iter().map(|n| pieces[*n].clone()).collect());
        let record = judged(&chainguard(), &manifest, &evidence).record.unwrap();
        let sorted = super::evidence(pieces);
        prop_assert_eq!(&record, &judged(&chainguard(), &manifest, &sorted).record.unwrap());
        prop_assert_eq!(admitted(judged(&chainguard(), &manifest, &evidence)).signed_at(), Some(logged(FIRST)));
    }
}
