//! Signatures by key and by a person, with the manifests that they sign: from manifest and evidence to the admission.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use oci::{Addressed, Algorithm, ManifestLimits, UntrustedManifest};
use policy::{Judgement, Outcome, Readmission, Reason, Record, TrustRoot, UntrustedPiece};

use super::{NOW, evidence, judge_with, keyless, piece, policy_of, read, repository, vectors};

const LIMITS: ManifestLimits = ManifestLimits { layers_max: 100, manifests_max: 100, json_depth_max: 32 };
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

fn manifest(folder: &Path) -> UntrustedManifest {
    let bytes = Bytes::from(read(&folder.join("subject-manifest.json")));
    UntrustedManifest::parse(Addressed::hash(Algorithm::Sha256, bytes), None, &LIMITS).unwrap()
}

fn signature(folder: &Path) -> UntrustedPiece {
    piece(&read(&folder.join("payload")), annotations(folder))
}

fn annotations(folder: &Path) -> BTreeMap<String, String> {
    serde_json::from_slice(&read(&folder.join("annotations.json"))).unwrap()
}

fn by_key(folder: &Path, key: &str, log: bool) -> String {
    let pem = String::from_utf8(read(&folder.join(format!("cosign-legacy/{key}")))).unwrap();
    let pem = pem.trim().replace('\n', "\n        ");
    let log = if log { "    ctlog:\n      url: https://rekor.sigstore.dev\n" } else { "" };
    policy_of(&format!("    key:\n      data: |\n        {pem}\n{log}"))
}

fn judge(policy: &str, folder: &Path) -> Judgement {
    judge_piece(policy, folder, signature(folder))
}

fn judge_piece(policy: &str, folder: &Path, piece: UntrustedPiece) -> Judgement {
    let judge = judge_with(Some(policy), &TrustRoot::public_good());
    judge.admit(&repository(), manifest(folder), &evidence(vec![piece]), NOW)
}

fn admitted(judgement: &Judgement) -> bool {
    match &judgement.outcome {
        Outcome::Admitted(admitted) => admitted.is_verified(),
        other => panic!("{other:?}"),
    }
}

fn refused(judgement: Judgement) -> Reason {
    match judgement.outcome {
        Outcome::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_logged_key_signature_is_admitted_with_its_key_alone() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join("cosign-legacy/key-rekor-valid");
    assert!(admitted(&judge(&by_key(&vectors, "cosign2.pub", true), &folder)));
    assert!(admitted(&judge(&by_key(&vectors, "cosign2.pub", false), &folder)));
    assert_eq!(refused(judge(&by_key(&vectors, "cosign.pub", true), &folder)), Reason::SignatureInvalid);
    assert_eq!(refused(judge(&by_key(&vectors, "cosign.pub", false), &folder)), Reason::SignatureInvalid);
}

#[test]
fn an_unlogged_key_signature_is_admitted_only_where_no_log_is_asked_for() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join("cosign-legacy/valid");
    assert!(admitted(&judge(&by_key(&vectors, "cosign.pub", false), &folder)));
    assert_eq!(refused(judge(&by_key(&vectors, "cosign.pub", true), &folder)), Reason::LogMissing);
    assert_eq!(refused(judge(&by_key(&vectors, "cosign2.pub", false), &folder)), Reason::SignatureInvalid);
}

#[test]
fn the_log_entry_of_another_signature_does_not_vouch_for_a_key_signature() {
    let Some(vectors) = vectors() else { return };
    let (unlogged, logged) = (vectors.join("cosign-legacy/valid"), vectors.join("cosign-legacy/key-rekor-valid"));
    let mut annotations_of = annotations(&unlogged);
    annotations_of.insert(BUNDLE.to_owned(), annotations(&logged).remove(BUNDLE).unwrap());
    let piece = piece(&read(&unlogged.join("payload")), annotations_of);
    let judgement = judge_piece(&by_key(&vectors, "cosign.pub", true), &unlogged, piece);
    assert!(matches!(refused(judgement), Reason::LogInvalid | Reason::DigestMismatch));
}

#[test]
fn a_personal_signature_is_admitted_for_that_person_alone() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join("cosign-legacy/fulcio-rekor-valid");
    let github = "https://github.com/login/oauth";
    assert!(admitted(&judge(&keyless(github, "mitr@redhat.com"), &folder)));
    for other in ["mitr@redhat.co", "Mitr@redhat.com", "itr@redhat.com", "mitr@redhat.com "] {
        assert_eq!(refused(judge(&keyless(github, other), &folder)), Reason::IdentityMismatch);
    }
    assert_eq!(refused(judge(&by_key(&vectors, "cosign.pub", false), &folder)), Reason::SignatureInvalid);
}

#[test]
fn a_stored_verdict_is_taken_back_only_for_what_it_was_made_from() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join("cosign-legacy/fulcio-rekor-valid");
    let policy = keyless("https://github.com/login/oauth", "mitr@redhat.com");
    let judge = judge_with(Some(&policy), &TrustRoot::public_good());
    let record =
        judge.admit(&repository(), manifest(&folder), &evidence(vec![signature(&folder)]), NOW).record.unwrap();
    let record = Record::from_bytes(&record.to_bytes()).unwrap();
    let back = |judge: &policy::Judge, repository: &str, now| {
        judge.readmit(&repository.parse().unwrap(), manifest(&folder), &record, now)
    };
    assert!(matches!(back(&judge, "cgr.dev/chainguard/vector", NOW), Readmission::Admitted(_)));
    let earlier = oci::UnixTime::from_millis(NOW.as_millis() - 1);
    assert!(matches!(back(&judge, "cgr.dev/chainguard/vector", earlier), Readmission::Ended));
    assert!(matches!(back(&judge, "cgr.dev/chainguard/other", NOW), Readmission::Ended));
    let stricter =
        judge_with(Some(&keyless("https://github.com/login/oauth", "other@redhat.com")), &TrustRoot::public_good());
    assert!(matches!(back(&stricter, "cgr.dev/chainguard/vector", NOW), Readmission::Ended));
    let other_root = judge_with(Some(&policy), &super::trust_root(&vectors, "staging"));
    assert!(matches!(back(&other_root, "cgr.dev/chainguard/vector", NOW), Readmission::Ended));
}
