//! Chainguard's signatures, in cosign's legacy layout.

use std::{collections::BTreeMap, fs};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::Digest;
use policy::{Finding, Judge, Reason, Signer, TrustRoot};

use super::{assess, judge_with, keyless, piece, read, trust_root, vectors};

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

struct Vector {
    name: String,
    digest: Digest,
    identity: String,
    issuer: String,
    payload: Vec<u8>,
    annotations: BTreeMap<String, String>,
}

impl Vector {
    fn all() -> Vec<Self> {
        let Some(vectors) = vectors() else {
            return Vec::new();
        };
        let folders = fs::read_dir(vectors.join("chainguard-signatures")).unwrap();
        let all: Vec<_> = folders
            .map(|folder| {
                let folder = folder.unwrap().path();
                let source: serde_json::Value = serde_json::from_slice(&read(&folder.join("SOURCE.json"))).unwrap();
                let text = |key: &str| source.get(key).and_then(|value| value.as_str()).unwrap().to_owned();
                Self {
                    name: folder.file_name().unwrap().to_string_lossy().into_owned(),
                    digest: text("image_digest").parse().unwrap(),
                    identity: text("certificate_identity"),
                    issuer: text("certificate_oidc_issuer"),
                    payload: read(&folder.join("payload")),
                    annotations: serde_json::from_slice(&read(&folder.join("annotations.json"))).unwrap(),
                }
            })
            .collect();
        assert_eq!(all.len(), 23, "some of the vectors are missing");
        all
    }

    fn judge(&self) -> Judge {
        judge_with(Some(&keyless(&self.issuer, &self.identity)), &TrustRoot::public_good())
    }

    /// Judged with one annotation, or the payload, changed.
    fn reason_with(&self, judge: &Judge, change: impl FnOnce(&mut Vec<u8>, &mut BTreeMap<String, String>)) -> Reason {
        let (mut payload, mut annotations) = (self.payload.clone(), self.annotations.clone());
        change(&mut payload, &mut annotations);
        let refusal = assess(judge, &self.digest, vec![piece(&payload, annotations)]).expect_err(&self.name);
        assert!(!refusal.message.contains('\n'), "{}", refusal.message);
        refusal.reason
    }
}

#[test]
fn every_signature_is_admitted_under_its_own_identity() {
    for vector in Vector::all() {
        let judge = vector.judge();
        let record = assess(&judge, &vector.digest, vec![piece(&vector.payload, vector.annotations.clone())])
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", vector.name));
        let [finding] = record.findings() else { panic!("{}: one policy, one finding", vector.name) };
        let Finding::Verified { pieces, .. } = &finding.finding else { panic!("{finding:?}") };
        let [policy::VerifiedPiece { signer, signed_at, .. }] = pieces.as_slice() else { panic!("{pieces:?}") };
        let expected = Signer::Certificate { issuer: vector.issuer.clone(), subject: vector.identity.clone() };
        assert_eq!(signer, &expected);
        assert!(signed_at.is_some());
        assert_eq!(record.ends_at(), None);
    }
}

#[test]
fn the_built_in_policy_admits_todays_release_identity_and_refuses_the_older_ones() {
    let judge = judge_with(None, &TrustRoot::public_good());
    let mut admitted = 0;
    for vector in Vector::all() {
        match assess(&judge, &vector.digest, vec![piece(&vector.payload, vector.annotations.clone())]) {
            Ok(_) => {
                assert!(vector.name.starts_with("php-"), "{}", vector.name);
                admitted += 1;
            }
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::IdentityMismatch, "{}", vector.name);
                assert!(!vector.name.starts_with("php-"), "{refusal}");
            }
        }
    }
    assert!(admitted == 5 || vectors().is_none());
}

#[test]
fn another_issuer_or_identity_is_refused_with_what_was_expected_and_seen() {
    for vector in Vector::all() {
        for (issuer, subject) in [
            ("https://accounts.google.com", vector.identity.as_str()),
            (vector.issuer.as_str(), "https://github.com/evil/images/.github/workflows/release.yaml@refs/heads/main"),
            (vector.issuer.as_str(), &vector.identity[..vector.identity.len() - 1]),
            (vector.issuer.as_str(), &format!("{}x", vector.identity)),
        ] {
            let judge = judge_with(Some(&keyless(issuer, subject)), &TrustRoot::public_good());
            let refusal =
                assess(&judge, &vector.digest, vec![piece(&vector.payload, vector.annotations.clone())]).unwrap_err();
            assert_eq!(refusal.reason, Reason::IdentityMismatch);
            let half = |seen: &str, wanted: &str| seen == wanted || refusal.message.contains(&format!("{wanted:?}"));
            assert!(half(&vector.issuer, issuer) && half(&vector.identity, subject), "{refusal}");
        }
    }
}

#[test]
fn issuer_of_one_entry_and_subject_of_another_do_not_make_an_identity() {
    for vector in Vector::all().iter().take(2) {
        let policy = super::policy_of(&format!(
            "    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuer: {:?}\n        subject: \
             other\n      - issuer: https://accounts.google.com\n        subject: {:?}\n",
            vector.issuer, vector.identity
        ));
        let judge = judge_with(Some(&policy), &TrustRoot::public_good());
        assert_eq!(vector.reason_with(&judge, |_, _| {}), Reason::IdentityMismatch);
    }
}

#[test]
fn another_digest_is_refused() {
    for vector in Vector::all() {
        let other = Digest::sha256(b"another image");
        let refusal =
            assess(&vector.judge(), &other, vec![piece(&vector.payload, vector.annotations.clone())]).unwrap_err();
        assert_eq!(refusal.reason, Reason::DigestMismatch);
        assert!(refusal.message.contains(&vector.digest.to_string()), "{refusal}");
    }
}

#[test]
fn another_trust_root_is_refused() {
    let Some(folder) = vectors() else { return };
    for root in ["staging", "github"] {
        let root = trust_root(&folder, root);
        for vector in Vector::all() {
            let judge = judge_with(Some(&keyless(&vector.issuer, &vector.identity)), &root);
            let reason = vector.reason_with(&judge, |_, _| {});
            assert!(matches!(reason, Reason::LogInvalid | Reason::CertificateUntrusted), "{}: {reason}", vector.name);
        }
    }
}

#[test]
fn the_signature_of_another_image_is_refused_piece_by_piece() {
    let all = Vector::all();
    for (vector, other) in all.iter().zip(all.iter().skip(1)) {
        let judge = vector.judge();
        let take = |key: &'static str| {
            let value = other.annotations.get(key).unwrap().clone();
            vector.reason_with(&judge, move |_, annotations| {
                annotations.insert(key.to_owned(), value);
            })
        };
        assert_eq!(take(SIGNATURE), Reason::SignatureInvalid, "{}", vector.name);
        // The other's entry is in the log, and is about something else: CVE-2022-23649, CVE-2026-22703.
        let reason = take(BUNDLE);
        assert!(
            matches!(reason, Reason::LogInvalid | Reason::CertificateUntrusted | Reason::DigestMismatch),
            "{reason}"
        );
        let reason = take(CERTIFICATE);
        let told = [Reason::SignatureInvalid, Reason::CertificateUntrusted, Reason::LogInvalid];
        assert!(told.contains(&reason), "{reason}");
    }
}

#[test]
fn a_missing_annotation_is_refused_for_its_own_reason() {
    for vector in Vector::all() {
        let judge = vector.judge();
        let without =
            |key: &'static str| vector.reason_with(&judge, move |_, annotations| drop(annotations.remove(key)));
        assert_eq!(without(SIGNATURE), Reason::EvidenceUnreadable);
        assert_eq!(without(CERTIFICATE), Reason::SignerUnsuitable);
        assert_eq!(without(BUNDLE), Reason::LogMissing);
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_payload_is_refused() {
    for vector in Vector::all().iter().take(3) {
        let judge = vector.judge();
        for at in 0..vector.payload.len() {
            vector.reason_with(&judge, |payload, _| *payload.get_mut(at).unwrap() ^= 1);
        }
    }
}

/// Flips a bit of every third byte: structure, lengths, keys, times, names, extensions, signatures are all met.
#[test]
fn a_flipped_bit_anywhere_in_signature_certificate_promise_or_entry_is_refused() {
    for vector in Vector::all().iter().step_by(11) {
        let judge = vector.judge();
        flip_each(vector, &judge, SIGNATURE, &str::to_owned, &|_, flipped| flipped);
        flip_each(vector, &judge, CERTIFICATE, &pem_body, &|_, flipped| {
            format!("-----BEGIN CERTIFICATE-----\n{flipped}\n-----END CERTIFICATE-----\n")
        });
        for pointer in ["/SignedEntryTimestamp", "/Payload/body"] {
            let take = |text: &str| {
                let value: serde_json::Value = serde_json::from_str(text).unwrap();
                value.pointer(pointer).unwrap().as_str().unwrap().to_owned()
            };
            flip_each(vector, &judge, BUNDLE, &take, &|text, flipped| {
                let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
                *value.pointer_mut(pointer).unwrap() = flipped.into();
                value.to_string()
            });
        }
    }
}

#[test]
fn changed_log_fields_are_refused() {
    for vector in Vector::all() {
        let judge = vector.judge();
        for (pointer, value) in [
            ("/Payload/integratedTime", serde_json::json!(1_700_000_000)),
            ("/Payload/integratedTime", serde_json::json!(0)),
            ("/Payload/logIndex", serde_json::json!(1)),
            ("/Payload/logIndex", serde_json::json!(-1)),
            ("/Payload/logID", serde_json::json!("00".repeat(32))),
            ("/Payload/logID", serde_json::json!("")),
        ] {
            vector.reason_with(&judge, |_, annotations| {
                let bundle = annotations.get_mut(BUNDLE).unwrap();
                let mut document: serde_json::Value = serde_json::from_str(bundle).unwrap();
                *document.pointer_mut(pointer).unwrap() = value;
                *bundle = document.to_string();
            });
        }
    }
}

#[test]
fn a_payload_that_two_readers_could_read_differently_is_refused() {
    for vector in Vector::all().iter().take(1) {
        let judge = vector.judge();
        let text = String::from_utf8(vector.payload.clone()).unwrap();
        let digest = format!("\"docker-manifest-digest\":\"{}\"", vector.digest);
        let evil = format!("\"docker-manifest-digest\":\"{}\"", Digest::sha256(b"evil"));
        for changed in [
            text.replace(&digest, &format!("{evil},{digest}")),
            text.replace(&digest, &format!("{digest},{evil}")),
            text.replace(&digest, &format!("{digest},\"Docker-Manifest-Digest\":\"x\"")),
            text.replace("cosign container image signature", "atomic container signature"),
            text.replace("{\"critical\"", "{\"other\":1,\"critical\""),
            format!("\u{feff}{text}"),
            format!("{text}{{}}"),
        ] {
            assert_ne!(changed, text);
            let reason = vector.reason_with(&judge, |payload, _| *payload = changed.into_bytes());
            assert_eq!(reason, Reason::EvidenceUnreadable);
        }
    }
}

#[test]
fn a_bad_piece_does_not_spoil_a_good_one() {
    for vector in Vector::all() {
        let good = || piece(&vector.payload, vector.annotations.clone());
        let bad = || piece(b"{}", BTreeMap::new());
        let judge = vector.judge();
        for pieces in [vec![good(), bad(), bad()], vec![bad(), good(), bad()], vec![bad(), bad(), good()]] {
            assert!(assess(&judge, &vector.digest, pieces).is_ok());
        }
    }
}

fn pem_body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

/// Judges `vector` with each third byte of the base64 text within annotation `key` changed.
fn flip_each(
    vector: &Vector,
    judge: &Judge,
    key: &str,
    take: &dyn Fn(&str) -> String,
    put: &dyn Fn(&str, String) -> String,
) {
    let original = vector.annotations.get(key).unwrap();
    let bytes = STANDARD.decode(take(original)).unwrap();
    for at in (0..bytes.len()).step_by(3) {
        let mut flipped = bytes.clone();
        *flipped.get_mut(at).unwrap() ^= 0x10;
        vector.reason_with(judge, |_, annotations| {
            annotations.insert(key.to_owned(), put(original, STANDARD.encode(flipped)));
        });
    }
}
