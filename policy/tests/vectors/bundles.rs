//! Real bundles. None of them is a signature of an image: a policy that asks for one must be satisfied by none, whoever signed.

use std::fs;

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use policy::{
    Assessment, Effect, Form, Judge, Origin, Reason, Refusal, Source, TrustRoot, UntrustedEvidence, UntrustedPiece,
};

use super::{NOW, judge_with, policy_of, repository, trust_root, vectors};

/// Takes whoever signed.
fn lax(root: &TrustRoot) -> Judge {
    let anyone = "    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuerRegExp: '.*'\n        \
                  subjectRegExp: '.*'\n";
    judge_with(Some(&policy_of(anyone)), root)
}

fn refusal(judge: &Judge, digest: &Digest, bundle: Vec<u8>) -> (bool, Refusal) {
    let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(bundle));
    let evidence = UntrustedEvidence {
        pieces: vec![UntrustedPiece { bytes, form: Form::Bundle, origin: Origin::beside(Source::ReferrersApi) }],
        asked: vec![Origin::beside(Source::ReferrersApi)],
        ..UntrustedEvidence::default()
    };
    let Assessment::Complete(record) = judge.assess(&repository(), digest, &evidence, NOW) else {
        panic!("not decided")
    };
    match record.effect() {
        Effect::Absent(refusal) => (true, refusal.clone()),
        Effect::Refuse(refusal) => (false, refusal.clone()),
        other => panic!("served: {other:?}"),
    }
}

#[test]
fn no_attestation_or_blob_signature_passes_for_a_signature_of_an_image() {
    let Some(folder) = vectors() else { return };
    let digests = [
        "sha256:732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4",
        "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f",
        "sha256:e194b99df6639501325c5f44da79fe3a8efae6f239bd79443a19787e06fb1764",
    ];
    let mut count = 0;
    for root in ["public-good", "staging"] {
        let judge = lax(&trust_root(&folder, root));
        for bundle in fs::read_dir(folder.join("bundles")).unwrap() {
            let path = bundle.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().contains("sigstore") {
                for digest in digests {
                    refusal(&judge, &digest.parse().unwrap(), super::read(&path));
                    count += 1;
                }
            }
        }
    }
    assert_eq!(count, 2 * 13 * 3);
}

#[test]
fn an_attestation_of_the_very_image_counts_as_no_signature() {
    let Some(folder) = vectors() else { return };
    let judge = lax(&TrustRoot::public_good());
    let digest = "sha256:732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4".parse().unwrap();
    let bundle = super::read(&folder.join("bundles/cosign-v3-oci-attestation.sigstore.json"));
    let (absent, refusal) = refusal(&judge, &digest, bundle);
    assert!(absent);
    assert_eq!(refusal.reason, Reason::SignatureMissing);
    assert!(refusal.message.contains("https://cosign.sigstore.dev/attestation/v1"), "{refusal}");
}

#[test]
fn the_version_that_may_leave_out_its_proof_is_not_read_from_a_registry() {
    let Some(folder) = vectors() else { return };
    let judge = lax(&TrustRoot::public_good());
    for name in ["bundleV01-dsse-with-proof.sigstore", "bundle_no_log_entry.txt.sigstore", "dsse-2sigs.sigstore.json"] {
        let bundle = super::read(&folder.join("bundles").join(name));
        let (absent, refusal) = refusal(&judge, &Digest::sha256(b""), bundle);
        assert!(!absent);
        assert_eq!(refusal.reason, Reason::EvidenceUnreadable, "{name}: {refusal}");
    }
}
