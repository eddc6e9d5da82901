//! Children of an index, and the blobs that manifests reach.

use oci::{Digest, UntrustedManifest};
use policy::{Admitted, ChildOutcome, Judge, Manifest, NoMatch, Readmission, Reason, UntrustedEvidence};
use serde_json::json;

use super::{
    INDEX, NOW, STATIC_FAIL, STATIC_PASS, admitted, at, chainguard, cut_off, evidence, good, image, index, judge_of,
    judge_with, judged, keyless, lifetimes, parse, pointer, policy, sigstore::Signer,
};

fn signed_index(judge: &Judge, children: &[&UntrustedManifest]) -> Admitted<Manifest> {
    let index = index(children);
    admitted(judged(judge, &index, &evidence(vec![good(index.digest())])))
}

/// Everything on cgr.dev must be signed; besides, this one digest has a policy of its own.
fn with_policy_for(child: &UntrustedManifest, authorities: &str) -> Judge {
    judge_of(
        &[
            policy("release", "enforce", "cgr.dev/**", &keyless(&Signer::chainguard())),
            policy("besides", "enforce", &format!("cgr.dev/**@{}", child.digest()), authorities),
        ],
        NoMatch::Deny,
    )
}

#[test]
fn a_child_is_admitted_through_its_index_without_evidence_of_its_own() {
    let (judge, child) = (chainguard(), image("child"));
    let index = signed_index(&judge, &[&image("sibling"), &child]);
    let judgement = judge.admit_child(&index, child.clone(), None, NOW);
    assert!(judgement.record.is_none(), "nothing but the index was asked");
    let ChildOutcome::Admitted(admitted) = judgement.outcome else { panic!("{:?}", judgement.outcome) };
    assert_eq!(admitted.digest(), child.digest());
    assert_eq!(admitted.path(), [index.digest().clone()]);
    assert!(!admitted.is_verified(), "nobody looked at signatures of the child itself");
    assert!(judge.in_force(&admitted, NOW));
    assert_ne!(admitted.fingerprint(), judge.fingerprint(admitted.repository(), child.digest()));
}

#[test]
fn what_an_index_does_not_list_is_not_its_child() {
    let (judge, child) = (chainguard(), image("child"));
    let index = signed_index(&judge, &[&child]);
    let outcome = |manifest| judge.admit_child(&index, manifest, None, NOW).outcome;
    assert!(matches!(outcome(image("stranger")), ChildOutcome::NotListed));
    assert!(matches!(outcome(index.value().manifest().clone()), ChildOutcome::NotListed));
}

#[test]
fn an_index_that_lists_a_child_by_another_size_or_type_does_not_list_it() {
    let (judge, child) = (chainguard(), image("child"));
    for (field, value) in [("size", json!(1)), ("mediaType", json!("application/vnd.oci.image.index.v1+json"))] {
        let mut entry = pointer(child.media_type().as_str(), child.addressed().bytes());
        entry[field] = value;
        let index = parse(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }));
        let index = admitted(judged(&judge, &index, &evidence(vec![good(index.digest())])));
        assert!(
            matches!(judge.admit_child(&index, child.clone(), None, NOW).outcome, ChildOutcome::NotListed),
            "{field}"
        );
    }
}

#[test]
fn an_image_has_no_children() {
    let (judge, manifest) = (chainguard(), image("single"));
    let single = admitted(judged(&judge, &manifest, &evidence(vec![good(manifest.digest())])));
    assert!(matches!(judge.admit_child(&single, manifest, None, NOW).outcome, ChildOutcome::NotListed));
}

#[test]
fn an_index_that_is_not_in_force_any_more_admits_no_child() {
    let child = image("child");
    let index = signed_index(&chainguard(), &[&child]);
    let other = super::judge(&keyless(&Signer::person()));
    assert!(matches!(other.admit_child(&index, child, None, NOW).outcome, ChildOutcome::IndexEnded));
}

#[test]
fn a_static_fail_for_the_childs_digest_refuses_it_at_once() {
    let child = image("withdrawn");
    let judge = with_policy_for(&child, STATIC_FAIL);
    let index = signed_index(&judge, &[&child]);
    let judgement = judge.admit_child(&index, child, None, NOW);
    assert!(judgement.record.is_some());
    let ChildOutcome::Refused(refusal) = judgement.outcome else { panic!("{:?}", judgement.outcome) };
    assert_eq!((refusal.reason, refusal.policy.as_deref()), (Reason::StaticFail, Some("besides")));
}

#[test]
fn a_policy_of_the_childs_own_must_pass_besides() {
    let child = image("besides");
    let judge = with_policy_for(&child, &keyless(&Signer::chainguard()));
    let index = signed_index(&judge, &[&child]);
    let outcome =
        |extra: Option<UntrustedEvidence>| judge.admit_child(&index, child.clone(), extra.as_ref(), NOW).outcome;
    assert!(matches!(outcome(None), ChildOutcome::NeedsEvidence(_)));
    assert!(matches!(outcome(Some(evidence(Vec::new()))), ChildOutcome::Absent(_)));
    assert!(matches!(outcome(Some(cut_off(Vec::new()))), ChildOutcome::Undecided(_)));
    assert!(matches!(outcome(Some(evidence(vec![good(index.digest())]))), ChildOutcome::Refused(_)));
    assert!(matches!(outcome(Some(evidence(vec![good(child.digest())]))), ChildOutcome::Admitted(_)));
}

#[test]
fn a_childs_stored_verdict_counts_only_through_its_index() {
    let child = image("stored child");
    let judge = with_policy_for(&child, &keyless(&Signer::chainguard()));
    let (index, other) = (signed_index(&judge, &[&child]), signed_index(&judge, &[&image("sibling"), &child]));
    let record =
        judge.admit_child(&index, child.clone(), Some(&evidence(vec![good(child.digest())])), NOW).record.unwrap();
    assert_eq!(record.fingerprint(), judge.child_fingerprint(&index, child.digest()));
    assert!(matches!(judge.readmit_child(&index, child.clone(), &record, at(1)), Readmission::Admitted(_)));
    assert!(matches!(judge.readmit_child(&index, image("stranger"), &record, at(1)), Readmission::Ended));
    // As the child's own it would say that the child's own signature satisfies every policy, which nobody looked at.
    assert!(matches!(judge.readmit(index.repository(), child.clone(), &record, at(1)), Readmission::Ended));
    // Another index under the same policies: the child's own policies are the same, the rest is taken from that index.
    let Readmission::Admitted(through_other) = judge.readmit_child(&other, child, &record, at(1)) else {
        panic!("ended")
    };
    assert_eq!(through_other.path(), [other.digest().clone()]);
}

#[test]
fn a_child_carries_its_indexs_warning_and_end() {
    let judge = judge_of(&[policy("soft", "warn", "cgr.dev/**", &keyless(&Signer::chainguard()))], NoMatch::Deny);
    let child = image("warned child");
    let index = index(&[&child]);
    let index = admitted(judged(&judge, &index, &evidence(Vec::new())));
    let ChildOutcome::Admitted(child) = judge.admit_child(&index, child, None, at(5)).outcome else {
        panic!("refused")
    };
    assert_eq!(child.warning(), index.warning());
    assert_eq!(child.ends(), index.ends());
    assert!(!judge.in_force(&child, index.ends().unwrap()));
}

#[test]
fn a_childs_stored_verdict_takes_warning_and_end_from_its_index_as_it_is_now() {
    let child = image("stored warned child");
    let judge = judge_of(
        &[
            policy("soft", "warn", "cgr.dev/**", &keyless(&Signer::chainguard())),
            policy("besides", "enforce", &format!("cgr.dev/**@{}", child.digest()), &keyless(&Signer::chainguard())),
        ],
        NoMatch::Deny,
    );
    let signed = signed_index(&judge, &[&child]);
    let own = evidence(vec![good(child.digest())]);
    let record = judge.admit_child(&signed, child.clone(), Some(&own), NOW).record.unwrap();
    let unsigned = admitted(judged(&judge, &index(&[&child]), &evidence(Vec::new())));
    let Readmission::Admitted(readmitted) = judge.readmit_child(&unsigned, child, &record, NOW) else {
        panic!("ended")
    };
    assert!(unsigned.warning().is_some());
    assert_eq!((readmitted.warning(), readmitted.ends()), (unsigned.warning(), unsigned.ends()));
}

#[test]
fn a_child_rests_on_the_trust_root_where_its_index_does() {
    let child = image("child of an old root");
    let layer = Digest::sha256(b"layer of child of an old root");
    let release = |authorities: &str| {
        let besides = policy("besides", "enforce", &format!("cgr.dev/**@{}", child.digest()), STATIC_PASS);
        [policy("release", "enforce", "cgr.dev/**", authorities), besides]
    };
    let either = keyless(&Signer::chainguard()) + STATIC_PASS;
    let own_index = index(&[&child]);
    let signature = || evidence(vec![good(own_index.digest())]);
    let cases = [
        (&either, signature(), true),
        (&either, evidence(Vec::new()), false),
        (&STATIC_PASS.to_owned(), signature(), false),
    ];
    for (authorities, evidence, rests) in cases {
        let before = judge_of(&release(authorities), NoMatch::Deny);
        let lifetimes = policy::VerdictLifetimes { trust_root_ends: Some(at(1000)), ..lifetimes() };
        let after = judge_with(&release(authorities), NoMatch::Deny, lifetimes);
        let index = admitted(judged(&before, &own_index, &evidence));
        let judgement = before.admit_child(&index, child.clone(), None, NOW);
        let record = judgement.record.unwrap();
        let ChildOutcome::Admitted(kept) = judgement.outcome else { panic!("refused") };
        let permit = before.permit(&kept, &layer).unwrap();
        assert!(after.in_force(&kept, at(999)) && after.holds(&permit, at(999)));
        assert_eq!(after.in_force(&kept, at(1000)), !rests);
        assert_eq!(after.holds(&permit, at(1000)), !rests);
        let ends = rests.then_some(at(1000));
        let ChildOutcome::Admitted(again) = after.admit_child(&index, child.clone(), None, at(999)).outcome else {
            panic!("refused")
        };
        let Readmission::Admitted(readmitted) = after.readmit_child(&index, child.clone(), &record, at(999)) else {
            panic!("ended")
        };
        assert_eq!((again.ends(), readmitted.ends()), (ends, ends), "though the index's own end was set before");
        let late = after.readmit_child(&index, child.clone(), &record, at(1000));
        assert_eq!(matches!(late, Readmission::Ended), rests);
    }
}

#[test]
fn an_index_within_an_index_passes_admission_on() {
    let (judge, child) = (chainguard(), image("grandchild"));
    let inner = index(&[&child]);
    let outer = signed_index(&judge, &[&inner]);
    let ChildOutcome::Admitted(inner) = judge.admit_child(&outer, inner, None, NOW).outcome else { panic!("refused") };
    let ChildOutcome::Admitted(child) = judge.admit_child(&inner, child, None, NOW).outcome else { panic!("refused") };
    assert_eq!(child.path().len(), 2);
    assert!(judge.in_force(&child, NOW));
    let permit = judge.permit(&child, &Digest::sha256(b"layer of grandchild")).unwrap();
    assert!(judge.holds(&permit, NOW));
    assert!(!super::judge(&keyless(&Signer::person())).holds(&permit, NOW));
}

#[test]
fn config_and_layers_of_an_admitted_image_are_permitted_and_nothing_else() {
    let (judge, manifest) = (chainguard(), image("blobs"));
    let image = admitted(judged(&judge, &manifest, &evidence(vec![good(manifest.digest())])));
    for blob in [&b"config of blobs"[..], b"layer of blobs"] {
        let permit = judge.permit(&image, &Digest::sha256(blob)).unwrap();
        assert_eq!(permit.digest(), &Digest::sha256(blob));
        assert_eq!(permit.size(), blob.len() as u64);
        assert_eq!((permit.parent(), permit.repository()), (manifest.digest(), image.repository()));
        assert_eq!((permit.fingerprint(), permit.ends()), (image.fingerprint(), image.ends()));
    }
    assert!(judge.permit(&image, manifest.digest()).is_none());
    assert!(judge.permit(&image, &Digest::sha256(b"layer of another")).is_none());
}

#[test]
fn an_index_permits_no_blobs() {
    let (judge, child) = (chainguard(), image("child"));
    let index = signed_index(&judge, &[&child]);
    for blob in [child.digest(), &Digest::sha256(b"layer of child"), index.digest()] {
        assert!(judge.permit(&index, blob).is_none());
    }
}
