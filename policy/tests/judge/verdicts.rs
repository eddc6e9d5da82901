//! From policies to verdicts: who decides, what is remembered, and for how long.

use oci::Algorithm;
use policy::{Effect, Finding, Judge, NoMatch, Outcome, Readmission, Reason, Record};
use serde_json::json;

use super::{
    ABSENT_TTL, IMAGE, NOW, REFUSED_TTL, SIGSTORE, STATIC_FAIL, STATIC_PASS, admitted, at, bundle, by_key, chainguard,
    cut_off, evidence, good, image, judge, judge_of, judge_with, judged, keyless, lifetimes, parse_as, policy, refused,
    repository, rubbish,
    sigstore::{KeyKind, KeySigner, Options, Signer},
};

#[test]
fn no_evidence_is_absent_for_a_short_time() {
    let manifest = image("new");
    let judgement = judged(&chainguard(), &manifest, &evidence(Vec::new()));
    assert_eq!(judgement.record.as_ref().unwrap().ends_at(), Some(NOW.plus(ABSENT_TTL)));
    let (absent, refusal) = refused(judgement);
    assert!(absent);
    assert_eq!(refusal.reason, Reason::SignatureMissing);
    assert_eq!(
        refusal.message,
        "refused by policy release: no signature by authority \"release\" (looked at: cosign tag, referrers API)"
    );
}

#[test]
fn bad_evidence_is_refused_for_a_longer_time() {
    let judgement = judged(&chainguard(), &image("bad"), &evidence(vec![rubbish()]));
    assert_eq!(judgement.record.as_ref().unwrap().ends_at(), Some(NOW.plus(REFUSED_TTL)));
    let (absent, refusal) = refused(judgement);
    assert!(!absent);
    assert_eq!(refusal.reason, Reason::EvidenceUnreadable);
}

#[test]
fn a_piece_that_could_not_be_read_is_no_absence() {
    let mut evidence = evidence(Vec::new());
    evidence.flawed.push("layer sha256:0 is too large \"\n".to_owned());
    let (absent, refusal) = refused(judged(&chainguard(), &image("unread"), &evidence));
    assert!(!absent);
    assert!(refusal.message.contains(r#"too large \"\u{a}"#), "{refusal}");
}

#[test]
fn an_attestation_is_told_and_is_no_signature() {
    let manifest = image("attested");
    let provenance = "https://slsa.dev/provenance/v1";
    let text =
        SIGSTORE.attest_bundle(&Signer::chainguard(), manifest.digest(), provenance, &json!({}), &Options::default());
    let (absent, refusal) = refused(judged(&chainguard(), &manifest, &evidence(vec![bundle(text)])));
    assert!(absent);
    assert!(refusal.message.contains(provenance), "{refusal}");
}

#[test]
fn an_identity_mismatch_says_what_was_expected_and_what_was_seen() {
    let manifest = image("fork");
    let text = SIGSTORE.sign_bundle(&Signer::fork(), manifest.digest(), &Options::default());
    let (_, refusal) = refused(judged(&chainguard(), &manifest, &evidence(vec![bundle(text)])));
    assert_eq!(refusal.reason, Reason::IdentityMismatch);
    assert_eq!(
        refusal.message,
        format!(
            "refused by policy release: authority \"release\": identity does not match: issuer matches, subject \"{}\" is not \"{}\"",
            Signer::fork().subject,
            Signer::chainguard().subject
        )
    );
}

#[test]
fn a_place_that_did_not_answer_matters_only_where_the_others_do_not_satisfy() {
    let manifest = image("cut off");
    let judge = chainguard();
    assert!(admitted(judged(&judge, &manifest, &cut_off(vec![good(manifest.digest())]))).is_verified());
    for pieces in [Vec::new(), vec![rubbish()]] {
        let judgement = judged(&judge, &manifest, &cut_off(pieces));
        assert!(judgement.record.is_none() && judgement.in_memory.is_none());
        let Outcome::Undecided(undecided) = judgement.outcome else { panic!("decided") };
        assert_eq!(
            undecided.to_string(),
            "policy release cannot be decided: could not ask referrers API: timed out after 5.0 s"
        );
    }
}

#[test]
fn a_known_failure_outweighs_what_is_not_known() {
    let manifest = image("withdrawn");
    let policies = [
        policy("shut", "enforce", "cgr.dev/**", STATIC_FAIL),
        policy("release", "enforce", "cgr.dev/**", &keyless(&Signer::chainguard())),
    ];
    let judgement = judged(&judge_of(&policies, NoMatch::Deny), &manifest, &cut_off(Vec::new()));
    assert!(judgement.record.is_none(), "a verdict that was not made in full is not stored");
    let (absent, refusal) = refused(judgement);
    assert!(!absent);
    assert_eq!(refusal.reason, Reason::StaticFail);
    assert!(refusal.message.contains("withdrawn, see the advisory"));
}

#[test]
fn one_authority_suffices_and_its_finding_is_told() {
    let manifest = image("either");
    let key = KeySigner::generate(KeyKind::P256);
    let authorities = format!("{}{}", by_key(&key, false), keyless(&Signer::chainguard()));
    let admitted = admitted(judged(&judge(&authorities), &manifest, &evidence(vec![good(manifest.digest())])));
    let [finding] = admitted.findings() else { panic!("one policy") };
    assert!(matches!(&finding.finding, Finding::Verified { authority, .. } if authority == "release"));
}

#[test]
fn all_authorities_are_told_where_none_suffices() {
    let key = KeySigner::generate(KeyKind::P256);
    let authorities = format!("{}{}", by_key(&key, false), keyless(&Signer::chainguard()));
    let manifest = image("neither");
    let text = SIGSTORE.sign_bundle(&Signer::fork(), manifest.digest(), &Options::default());
    let (_, refusal) = refused(judged(&judge(&authorities), &manifest, &evidence(vec![bundle(text)])));
    assert_eq!((refusal.reason, refusal.authority.as_deref()), (Reason::IdentityMismatch, Some("release")));
    assert!(
        refusal.message.contains("authority \"key\": ") && refusal.message.contains("authority \"release\": "),
        "{refusal}"
    );
}

#[test]
fn all_matching_policies_must_pass() {
    let manifest = image("both");
    let key = KeySigner::generate(KeyKind::P256);
    let policies = [
        policy("release", "enforce", "cgr.dev/**", &keyless(&Signer::chainguard())),
        policy("ours", "enforce", "cgr.dev/chainguard/**", &by_key(&key, false)),
    ];
    let judge = judge_of(&policies, NoMatch::Deny);
    let ours = || bundle(key.sign_bundle(manifest.digest(), None, &Options::default()));
    refused(judged(&judge, &manifest, &evidence(vec![good(manifest.digest())])));
    refused(judged(&judge, &manifest, &evidence(vec![ours()])));
    assert!(admitted(judged(&judge, &manifest, &evidence(vec![good(manifest.digest()), ours()]))).is_verified());
}

#[test]
fn a_policy_that_only_warns_refuses_nothing_and_is_told() {
    let manifest = image("warned");
    let judge = judge_of(&[policy("soft", "warn", "cgr.dev/**", &keyless(&Signer::chainguard()))], NoMatch::Deny);
    let judgement = judged(&judge, &manifest, &evidence(Vec::new()));
    let record = judgement.record.clone().unwrap();
    assert!(matches!(record.effect(), Effect::Warn(_)));
    assert_eq!(record.ends_at(), Some(NOW.plus(ABSENT_TTL)), "a signature that comes later must be noticed");
    let admitted = admitted(judgement);
    assert!(!admitted.is_verified());
    assert!(admitted.warning().unwrap().starts_with("not verified by policy soft: no signature"));
}

#[test]
fn under_warn_what_could_not_be_decided_is_served_and_kept_in_memory_only() {
    let manifest = image("warned, cut off");
    let judge = judge_of(&[policy("soft", "warn", "cgr.dev/**", &keyless(&Signer::chainguard()))], NoMatch::Deny);
    let judgement = judged(&judge, &manifest, &cut_off(Vec::new()));
    assert!(judgement.record.is_none());
    assert_eq!(judgement.in_memory.as_ref().unwrap().ends_at(), Some(NOW.plus(ABSENT_TTL)));
    assert!(admitted(judgement).warning().unwrap().contains("could not be decided"));
}

#[test]
fn a_warning_does_not_soften_an_enforced_failure() {
    let policies = [
        policy("soft", "warn", "cgr.dev/**", &keyless(&Signer::chainguard())),
        policy("hard", "enforce", "cgr.dev/**", &keyless(&Signer::person())),
    ];
    for policies in [policies.clone(), {
        let [a, b] = policies;
        [b, a]
    }] {
        let (_, refusal) =
            refused(judged(&judge_of(&policies, NoMatch::Deny), &image("levels"), &evidence(Vec::new())));
        assert_eq!(refusal.policy.as_deref(), Some("hard"));
    }
}

#[test]
fn what_no_policy_matches_follows_no_match_and_is_never_called_verified() {
    let manifest = image("unmatched");
    let elsewhere = [policy("elsewhere", "enforce", "cgr.dev/other/**", STATIC_PASS)];
    let judgement = |no_match| judged(&judge_of(&elsewhere, no_match), &manifest, &evidence(Vec::new()));
    assert_eq!(refused(judgement(NoMatch::Deny)).1.reason, Reason::NoMatchingPolicy);
    let warned = admitted(judgement(NoMatch::Warn));
    assert!(warned.warning().is_some() && !warned.is_verified());
    let allowed = admitted(judgement(NoMatch::Allow));
    assert!(allowed.warning().is_none() && !allowed.is_verified());
}

#[test]
fn a_static_pass_serves_and_is_never_called_verified() {
    let admitted = admitted(judged(&judge(STATIC_PASS), &image("open"), &evidence(Vec::new())));
    assert!(!admitted.is_verified());
    assert!(matches!(admitted.findings()[0].finding, Finding::Unverified { .. }));
}

#[test]
fn a_sha512_digest_is_admitted_by_nothing_but_static_and_no_match() {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": super::pointer("application/vnd.oci.image.config.v1+json", b"c"),
        "layers": [],
    });
    let manifest = parse_as(Algorithm::Sha512, &document);
    let sign = || bundle(SIGSTORE.sign_bundle(&Signer::chainguard(), manifest.digest(), &Options::default()));
    let judge_by_evidence = chainguard();
    assert!(judge_by_evidence.wanted(&repository(), manifest.digest()).is_empty());
    for evidence in [evidence(vec![sign()]), cut_off(Vec::new())] {
        let (_, refusal) = refused(judged(&judge_by_evidence, &manifest, &evidence));
        assert_eq!(refusal.reason, Reason::Sha512Unsupported);
    }
    admitted(judged(&judge(STATIC_PASS), &manifest, &evidence(Vec::new())));
}

#[test]
fn evidence_is_needed_exactly_where_it_can_make_a_difference() {
    let digest = image("x").digest().clone();
    assert!(!chainguard().wanted(&repository(), &digest).is_empty());
    assert!(judge(STATIC_FAIL).wanted(&repository(), &digest).is_empty());
    assert!(chainguard().wanted(&"example.com/x/y".parse().unwrap(), &digest).is_empty());
}

/// A judge whose trust root may be used until `ends`.
fn aging(policies: &[String], no_match: NoMatch, ends: oci::UnixTime) -> Judge {
    judge_with(policies, no_match, policy::VerdictLifetimes { trust_root_ends: Some(ends), ..lifetimes() })
}

fn signed_by_chainguard(mode: &str) -> Vec<String> {
    vec![policy("release", mode, "cgr.dev/**", &keyless(&Signer::chainguard()))]
}

#[test]
fn a_trust_root_that_grew_too_old_vouches_for_nothing() {
    let manifest = image("old root");
    let evidence = evidence(vec![good(manifest.digest())]);
    let judge = aging(&signed_by_chainguard("enforce"), NoMatch::Deny, at(1000));
    let judgement = judged(&judge, &manifest, &evidence);
    let record = judgement.record.clone().unwrap();
    assert_eq!(record.ends_at(), Some(at(1000)));
    let admitted = admitted(judgement);
    assert!(judge.in_force(&admitted, at(999)) && !judge.in_force(&admitted, at(1000)));
    assert!(matches!(judge.readmit(&repository(), manifest.clone(), &record, at(1000)), Readmission::Ended));
}

#[test]
fn a_refusal_for_an_old_trust_root_is_kept_like_any_other_until_the_root_may_be_used_again() {
    let manifest = image("stored");
    let judge = aging(&signed_by_chainguard("enforce"), NoMatch::Deny, NOW);
    let judgement = judged(&judge, &manifest, &evidence(vec![good(manifest.digest())]));
    let record = judgement.record.clone().unwrap();
    let (is_absent, refusal) = refused(judgement);
    assert_eq!((is_absent, refusal.reason), (false, Reason::TrustRootExpired));
    assert_eq!(record.ends_at(), Some(NOW.plus(REFUSED_TTL)));
    assert_eq!(taken_back(&judge, &record, at(299_999)), "refused");
    assert_eq!(taken_back(&judge, &record, at(300_000)), "ended");
    assert_eq!(taken_back(&chainguard(), &record, NOW), "ended", "the age is not limited any more");
    let later = aging(&signed_by_chainguard("enforce"), NoMatch::Deny, at(1000));
    assert_eq!(taken_back(&later, &record, at(999)), "ended", "a greater age is allowed");
    assert_eq!(taken_back(&later, &record, at(1000)), "refused");
}

#[test]
fn a_trust_roots_age_that_a_reload_limits_ends_what_rests_on_it_and_was_decided_before() {
    let manifest = image("stored");
    for authorities in [keyless(&Signer::chainguard()), keyless(&Signer::chainguard()) + STATIC_PASS] {
        let policies = [policy("release", "enforce", "cgr.dev/**", &authorities)];
        let before = judge_of(&policies, NoMatch::Deny);
        let judgement = judged(&before, &manifest, &evidence(vec![good(manifest.digest())]));
        let record = judgement.record.clone().unwrap();
        assert_eq!(record.ends_at(), None);
        let admitted = admitted(judgement);
        let permit = before.permit(&admitted, &oci::Digest::sha256(b"layer of stored")).unwrap();

        let after = aging(&policies, NoMatch::Deny, at(1000));
        assert!(after.in_force(&admitted, at(999)) && after.holds(&permit, at(999)));
        assert!(!after.in_force(&admitted, at(1000)) && !after.holds(&permit, at(1000)));
        let Readmission::Admitted(readmitted) = after.readmit(&repository(), manifest.clone(), &record, at(999)) else {
            panic!("not admitted")
        };
        assert_eq!(readmitted.ends(), Some(at(1000)), "whoever keeps it knows when to ask again");
        assert_eq!(taken_back(&after, &record, at(1000)), "ended");
    }
}

#[test]
fn an_old_trust_root_hits_nothing_that_did_not_use_it() {
    let manifest = image("stored");
    let none = evidence(Vec::new());
    let static_pass = [policy("open", "enforce", "cgr.dev/**", STATIC_PASS)];
    let either = [policy("either", "enforce", "cgr.dev/**", &(keyless(&Signer::chainguard()) + STATIC_PASS))];
    let elsewhere = [policy("elsewhere", "enforce", "cgr.dev/other/**", STATIC_PASS)];
    for (policies, no_match) in [
        (&static_pass, NoMatch::Deny),
        (&either, NoMatch::Deny),
        (&elsewhere, NoMatch::Allow),
        (&elsewhere, NoMatch::Warn),
    ] {
        for ends in [at(0), at(1000)] {
            let judge = aging(policies, no_match, ends);
            let judgement = judged(&judge, &manifest, &none);
            let record = judgement.record.clone().unwrap();
            assert_eq!(record.ends_at(), None, "{no_match:?}");
            let admitted = admitted(judgement);
            assert!(!admitted.is_verified());
            let permit = judge.permit(&admitted, &oci::Digest::sha256(b"layer of stored")).unwrap();
            assert!(judge.in_force(&admitted, at(1000)) && judge.holds(&permit, at(1000)), "{no_match:?}");
            assert_eq!(taken_back(&judge, &record, at(1000)), "admitted", "{no_match:?}");
        }
    }
    let shut = aging(&[policy("shut", "enforce", "cgr.dev/**", STATIC_FAIL)], NoMatch::Deny, NOW);
    let record = judged(&shut, &manifest, &none).record.unwrap();
    assert_eq!(taken_back(&shut, &record, at(299_999)), "refused");
}

#[test]
fn one_policy_that_used_the_trust_root_ends_the_verdict_with_it() {
    let manifest = image("stored");
    let policies =
        [signed_by_chainguard("enforce"), vec![policy("open", "enforce", "cgr.dev/**", STATIC_PASS)]].concat();
    let judge = aging(&policies, NoMatch::Deny, at(1000));
    let judgement = judged(&judge, &manifest, &evidence(vec![good(manifest.digest())]));
    assert_eq!(judgement.record.as_ref().unwrap().ends_at(), Some(at(1000)));
    let admitted = admitted(judgement);
    assert!(judge.in_force(&admitted, at(999)) && !judge.in_force(&admitted, at(1000)));
}

#[test]
fn under_warn_an_old_trust_root_is_told_and_the_warning_goes_with_it() {
    let manifest = image("stored");
    let judge = aging(&signed_by_chainguard("warn"), NoMatch::Deny, NOW);
    let judgement = judged(&judge, &manifest, &evidence(vec![good(manifest.digest())]));
    let record = judgement.record.clone().unwrap();
    let admitted = admitted(judgement);
    assert!(admitted.warning().is_some() && !admitted.is_verified());
    assert!(judge.in_force(&admitted, at(299_999)) && !judge.in_force(&admitted, at(300_000)));
    assert_eq!(taken_back(&judge, &record, NOW), "admitted");
    let renewed = judge_of(&signed_by_chainguard("warn"), NoMatch::Deny);
    assert!(!renewed.in_force(&admitted, NOW));
    assert_eq!(taken_back(&renewed, &record, NOW), "ended");
}

fn taken_back(judge: &Judge, record: &Record, now: oci::UnixTime) -> &'static str {
    match judge.readmit(&repository(), image("stored"), record, now) {
        Readmission::Admitted(_) => "admitted",
        Readmission::Refused(_) => "refused",
        Readmission::Ended => "ended",
    }
}

#[test]
fn a_stored_verdict_counts_from_when_it_was_made_until_it_ends() {
    let (judge, manifest) = (chainguard(), image("stored"));
    let store = |pieces| {
        let record = judged(&judge, &manifest, &evidence(pieces)).record.unwrap();
        Record::from_bytes(&record.to_bytes()).unwrap()
    };
    let yes = store(vec![good(manifest.digest())]);
    assert_eq!(taken_back(&judge, &yes, NOW), "admitted");
    assert_eq!(taken_back(&judge, &yes, at(u64::from(u32::MAX))), "admitted");
    assert_eq!(taken_back(&judge, &yes, oci::UnixTime::from_millis(NOW.as_millis() - 1)), "ended");
    let absent = store(Vec::new());
    assert_eq!(taken_back(&judge, &absent, at(29_999)), "refused");
    assert_eq!(taken_back(&judge, &absent, at(30_000)), "ended");
    let no = store(vec![rubbish()]);
    assert_eq!(taken_back(&judge, &no, at(299_999)), "refused");
    assert_eq!(taken_back(&judge, &no, at(300_000)), "ended");
}

#[test]
fn a_stored_verdict_does_not_count_for_anything_else() {
    let (judge, manifest) = (chainguard(), image("stored"));
    let record = judged(&judge, &manifest, &evidence(vec![good(manifest.digest())])).record.unwrap();
    let other = judge.readmit(&repository(), image("another"), &record, NOW);
    assert!(matches!(other, Readmission::Ended));
    let elsewhere = judge.readmit(&"cgr.dev/chainguard/other".parse().unwrap(), manifest.clone(), &record, NOW);
    assert!(matches!(elsewhere, Readmission::Ended));
    for stricter in [
        judge_of(&[policy("release", "enforce", "cgr.dev/**", &keyless(&Signer::person()))], NoMatch::Deny),
        judge_of(&[policy("release", "enforce", "cgr.dev/**", &keyless(&Signer::chainguard()))], NoMatch::Allow),
        judge_of(&[policy("release", "warn", "cgr.dev/**", &keyless(&Signer::chainguard()))], NoMatch::Deny),
    ] {
        assert_eq!(taken_back(&stricter, &record, NOW), "ended");
    }
}

#[test]
fn a_stored_verdict_by_another_judge_or_in_another_form_does_not_count() {
    let (judge, manifest) = (chainguard(), image("stored"));
    let record = judged(&judge, &manifest, &evidence(vec![good(manifest.digest())])).record.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&record.to_bytes()).unwrap();
    for (key, value) in [("judge", json!("0")), ("format", json!(1)), ("fingerprint", json!("00".repeat(32)))] {
        let mut changed = document.clone();
        changed[key] = value;
        let changed = Record::from_bytes(changed.to_string().as_bytes()).unwrap();
        assert_eq!(taken_back(&judge, &changed, NOW), "ended", "{key}");
    }
    for unreadable in [&b""[..], b"{}", b"\xff", &record.to_bytes()[1..]] {
        assert!(Record::from_bytes(unreadable).is_err());
    }
    let mut more = document;
    more["effect2"] = json!("serve");
    assert!(Record::from_bytes(more.to_string().as_bytes()).is_err());
}

#[test]
fn an_admission_is_not_in_force_under_another_policy() {
    let manifest = image("kept");
    let judge = chainguard();
    let admitted = admitted(judged(&judge, &manifest, &evidence(vec![good(manifest.digest())])));
    assert!(judge.in_force(&admitted, NOW));
    assert!(chainguard().in_force(&admitted, NOW), "the same policy, loaded again, is no change");
    let other = super::judge(&keyless(&Signer::person()));
    assert!(!other.in_force(&admitted, NOW));
    let permit = judge.permit(&admitted, &oci::Digest::sha256(b"layer of kept")).unwrap();
    assert!(judge.holds(&permit, NOW) && !other.holds(&permit, NOW));
}
