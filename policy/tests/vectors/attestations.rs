//! Real attestations: in cosign's legacy layout with its image, and as bundles.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use policy::{
    Assessment, Finding, Form, Judge, Origin, Reason, Record, Refusal, Source, TrustRoot, UntrustedEvidence,
    UntrustedPiece, VerifiedPiece,
};
use serde_json::Value;

use super::{NOW, judge_with, keyless, read, repository, trust_root, vectors};

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const GENERATOR: &str = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml@refs/tags/v2.1.0";
const INDEX: &str = "sha256:234e2c830c2fb31ac5671789d22adfe44d30c3ee831d01beae5e237841a13122";
const SLSA: &str = "https://slsa.dev/provenance/v0.2";
const CONDA: &str = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
const CONDA_TYPE: &str = "https://schemas.conda.org/attestations-publish-1.schema.json";
const CONDA_SIGNER: &str =
    "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
const OCI: &str = "sha256:732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4";
const OCI_TYPE: &str = "https://cosign.sigstore.dev/attestation/v1";
const LOGIN: &str = "https://github.com/login/oauth";

/// Wants an attestation of that type by that signer, which says what the rule wants where there is one.
fn wants(issuer: &str, subject: &str, predicate_type: &str, builder: Option<&str>) -> String {
    let rule = builder.map_or_else(String::new, |builder| {
        format!(
            "      policy:\n        type: rego\n        data: |\n          package sigstore\n          default isCompliant = false\n          \
             isCompliant {{\n            input.predicate.builder.id == \"{builder}\"\n          }}\n"
        )
    });
    format!(
        "{}    attestations:\n    - name: wanted\n      predicateType: {predicate_type}\n{rule}",
        keyless(issuer, subject)
    )
}

fn judge(policy: &str) -> Judge {
    judge_with(Some(policy), &TrustRoot::public_good())
}

fn layer(bytes: Vec<u8>, annotations: BTreeMap<String, String>) -> UntrustedPiece {
    let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(bytes));
    let origin = Origin::beside(Source::CosignAttestationTag);
    UntrustedPiece { bytes, form: Form::CosignAttestation { annotations }, origin }
}

fn bundle(folder: &Path, name: &str) -> UntrustedPiece {
    let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(read(&folder.join("bundles").join(name))));
    UntrustedPiece { bytes, form: Form::Bundle, origin: Origin::beside(Source::ReferrersApi) }
}

fn assess(judge: &Judge, digest: &str, pieces: Vec<UntrustedPiece>) -> Result<Record, Box<Refusal>> {
    let digest: Digest = digest.parse().unwrap();
    let asked = [Source::CosignTag, Source::CosignAttestationTag, Source::ReferrersApi, Source::ReferrersTag];
    let asked = asked.map(Origin::beside).to_vec();
    let evidence = UntrustedEvidence { pieces, asked, ..UntrustedEvidence::default() };
    let Assessment::Complete(record) = judge.assess(&repository(), &digest, &evidence, NOW) else {
        panic!("not decided, though every source answered");
    };
    record.refusal().cloned().map_or(Ok(record), |refusal| Err(Box::new(refusal)))
}

fn verified(record: &Record) -> &VerifiedPiece {
    match &record.findings().first().unwrap().finding {
        Finding::Verified { pieces, .. } => pieces.first().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn slsa(folder: &Path) -> UntrustedPiece {
    let folder = folder.join("cosign-legacy/slsa-attestation-v2.1.0");
    layer(read(&folder.join("payload")), serde_json::from_slice(&read(&folder.join("annotations.json"))).unwrap())
}

/// The layers of the attestation manifest in the layout of a whole image, with the image that they are about.
fn layout(folder: &Path) -> (Digest, Vec<UntrustedPiece>) {
    let folder = folder.join("layouts/slsa-container-v2.1.0");
    let blob = |descriptor: &Value| {
        let digest: Digest = descriptor.get("digest").unwrap().as_str().unwrap().parse().unwrap();
        let bytes = read(&folder.join("blobs/sha256").join(digest.hex()));
        assert_eq!(Digest::sha256(&bytes), digest);
        (digest, bytes)
    };
    let index: Value = serde_json::from_slice(&read(&folder.join("index.json"))).unwrap();
    let of_kind = |kind: &str| {
        let manifests = index.get("manifests").unwrap().as_array().unwrap();
        manifests.iter().find(|entry| entry.pointer("/annotations/kind").unwrap() == kind).unwrap()
    };
    let (image, _) = blob(of_kind("dev.cosignproject.cosign/imageIndex"));
    let (_, manifest) = blob(of_kind("dev.cosignproject.cosign/atts"));
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let piece = |entry: &Value| {
        let annotations = serde_json::from_value(entry.get("annotations").unwrap().clone()).unwrap();
        layer(blob(entry).1, annotations)
    };
    (image, manifest.get("layers").unwrap().as_array().unwrap().iter().map(piece).collect())
}

#[test]
fn a_real_provenance_is_accepted_for_its_signer_type_and_builder() {
    let Some(folder) = vectors() else { return };
    for builder in [None, Some(GENERATOR)] {
        let judge = judge(&wants(GITHUB, GENERATOR, SLSA, builder));
        let record = assess(&judge, INDEX, vec![slsa(&folder)]).unwrap();
        let piece = verified(&record);
        assert_eq!(piece.attestation.as_ref().unwrap().predicate_type, SLSA);
        let claims: BTreeMap<_, _> = piece.workflow.claims().collect();
        assert_eq!(claims.get("trigger"), Some(&Some("workflow_dispatch")));
        assert_eq!(claims.get("sha"), Some(&Some("4d329c75e7ec1725f7c9ce917a8799d408d06be3")));
        assert_eq!(claims.get("repository"), Some(&Some("slsa-framework/example-package")));
        assert_eq!(claims.get("ref"), Some(&Some("refs/heads/main")));
        assert!(piece.signed_at.is_some_and(|at| at < NOW));
    }
}

#[test]
fn a_real_provenance_is_refused_for_anything_else() {
    let Some(folder) = vectors() else { return };
    let other_workflow = GENERATOR.replace("container", "generic");
    let other_tag = GENERATOR.replace("v2.1.0", "v2.1.1");
    let image = Digest::sha256(b"another image").to_string();
    for (policy, digest, reason) in [
        (wants(GITHUB, &other_workflow, SLSA, None), INDEX, Reason::IdentityMismatch),
        (wants(GITHUB, &other_tag, SLSA, None), INDEX, Reason::IdentityMismatch),
        (wants(LOGIN, GENERATOR, SLSA, None), INDEX, Reason::IdentityMismatch),
        (wants(GITHUB, GENERATOR, SLSA, Some("https://example.com/builder")), INDEX, Reason::RuleUnmet),
        (wants(GITHUB, GENERATOR, "https://slsa.dev/provenance/v1", None), INDEX, Reason::AttestationMissing),
        (wants(GITHUB, GENERATOR, SLSA, None), &image, Reason::DigestMismatch),
        (keyless(GITHUB, GENERATOR), INDEX, Reason::SignatureMissing),
    ] {
        let mut piece = slsa(&folder);
        // Where a signature is asked for, the same layer is offered in its place.
        if reason == Reason::SignatureMissing {
            piece.origin = Origin::beside(Source::CosignTag);
        }
        let refusal = assess(&judge(&policy), digest, vec![piece]).unwrap_err();
        assert_eq!(refusal.reason, reason, "{refusal}");
    }
    let staging = judge_with(Some(&wants(GITHUB, GENERATOR, SLSA, None)), &trust_root(&folder, "staging"));
    assert_eq!(assess(&staging, INDEX, vec![slsa(&folder)]).unwrap_err().reason, Reason::LogInvalid);
}

#[test]
fn the_image_in_the_layout_is_accepted_by_its_attestation_alone() {
    let Some(folder) = vectors() else { return };
    let (image, pieces) = layout(&folder);
    assert_eq!(image.to_string(), INDEX);
    let judged = |policy: &str| assess(&judge(policy), INDEX, pieces.clone());
    assert!(judged(&wants(GITHUB, GENERATOR, SLSA, Some(GENERATOR))).is_ok());
    let refusal = judged(&wants(GITHUB, &GENERATOR.replace("container", "other"), SLSA, None)).unwrap_err();
    assert_eq!(refusal.reason, Reason::IdentityMismatch);
    assert_eq!(judged(&keyless(GITHUB, GENERATOR)).unwrap_err().reason, Reason::SignatureMissing);
}

#[test]
fn each_annotation_of_a_provenance_is_needed_and_its_own() {
    let Some(folder) = vectors() else { return };
    let judge = judge(&wants(GITHUB, GENERATOR, SLSA, None));
    let chainguard = folder.join("chainguard-signatures/php-0cc056b1/annotations.json");
    let other: BTreeMap<String, String> = serde_json::from_slice(&read(&chainguard)).unwrap();
    let (bytes, annotations) = match slsa(&folder) {
        UntrustedPiece { bytes, form: Form::CosignAttestation { annotations }, .. } => (bytes, annotations),
        piece => panic!("{piece:?}"),
    };
    for (key, missing, foreign) in [
        ("dev.sigstore.cosign/certificate", Reason::SignerUnsuitable, Reason::CertificateUntrusted),
        ("dev.sigstore.cosign/bundle", Reason::LogMissing, Reason::CertificateUntrusted),
    ] {
        let mut changed = annotations.clone();
        changed.remove(key);
        let judged =
            |annotations| assess(&judge, INDEX, vec![layer(bytes.bytes().to_vec(), annotations)]).unwrap_err().reason;
        assert_eq!(judged(changed.clone()), missing, "{key}");
        changed.insert(key.to_owned(), other.get(key).unwrap().clone());
        assert_eq!(judged(changed), foreign, "{key}");
    }
    // What an annotation says of the type, and a chain, count for nothing.
    let mut changed = annotations.clone();
    changed.insert("predicateType".to_owned(), "https://spdx.dev/Document".to_owned());
    changed.insert("dev.sigstore.cosign/chain".to_owned(), "nothing".to_owned());
    assert!(assess(&judge, INDEX, vec![layer(bytes.bytes().to_vec(), changed)]).is_ok());
}

/// Flips a bit of every so many bytes of envelope, certificate, promise and entry.
#[test]
fn a_flipped_bit_anywhere_in_a_provenance_is_refused() {
    let Some(folder) = vectors() else { return };
    let judge = judge(&wants(GITHUB, GENERATOR, SLSA, None));
    let (bytes, annotations) = match slsa(&folder) {
        UntrustedPiece { bytes, form: Form::CosignAttestation { annotations }, .. } => (bytes, annotations),
        piece => panic!("{piece:?}"),
    };
    let mut reasons = BTreeSet::new();
    for at in (0..bytes.bytes().len()).step_by(37) {
        let mut flipped = bytes.bytes().to_vec();
        *flipped.get_mut(at).unwrap() ^= 1;
        reasons.insert(assess(&judge, INDEX, vec![layer(flipped, annotations.clone())]).unwrap_err().reason);
    }
    for pointer in ["/SignedEntryTimestamp", "/Payload/body"] {
        let key = "dev.sigstore.cosign/bundle";
        let document: Value = serde_json::from_str(annotations.get(key).unwrap()).unwrap();
        let original = STANDARD.decode(document.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
        for at in (0..original.len()).step_by(29) {
            let mut flipped = original.clone();
            *flipped.get_mut(at).unwrap() ^= 1;
            let mut changed = document.clone();
            *changed.pointer_mut(pointer).unwrap() = STANDARD.encode(flipped).into();
            let mut annotations = annotations.clone();
            annotations.insert(key.to_owned(), changed.to_string());
            reasons.insert(assess(&judge, INDEX, vec![layer(bytes.bytes().to_vec(), annotations)]).unwrap_err().reason);
        }
    }
    let expected = [Reason::EvidenceUnreadable, Reason::DigestMismatch, Reason::SignatureInvalid, Reason::LogInvalid];
    for reason in expected {
        assert!(reasons.contains(&reason), "{reason} is not among {reasons:?}");
    }
}

#[test]
fn real_bundles_are_attestations_of_their_type_by_their_signer() {
    let Some(folder) = vectors() else { return };
    for (name, digest, issuer, subject, predicate_type) in [
        ("cosign-v3-oci-attestation.sigstore.json", OCI, LOGIN, "cody@soyland.com", OCI_TYPE),
        ("conda-attestation.sigstore.json", CONDA, GITHUB, CONDA_SIGNER, CONDA_TYPE),
    ] {
        let judged = |policy: &str| assess(&judge(policy), digest, vec![bundle(&folder, name)]);
        assert!(judged(&wants(issuer, subject, predicate_type, None)).is_ok(), "{name}");
        let reason = |policy: &str| judged(policy).unwrap_err().reason;
        assert_eq!(reason(&wants(issuer, &format!("{subject}x"), predicate_type, None)), Reason::IdentityMismatch);
        assert_eq!(reason(&wants(issuer, subject, SLSA, None)), Reason::AttestationMissing);
        assert_eq!(reason(&keyless(issuer, subject)), Reason::SignatureMissing);
    }
}

#[test]
fn rekor_v2_of_the_staging_instance_is_believed_under_its_root_alone() {
    let Some(folder) = vectors() else { return };
    let policy = wants(LOGIN, "jku@goto.fi", CONDA_TYPE, None);
    let judged = |root| {
        let judge = judge_with(Some(&policy), &trust_root(&folder, root));
        assess(&judge, CONDA, vec![bundle(&folder, "conda-attestation-rekor2.sigstore.json")])
    };
    assert!(judged("staging").is_ok());
    for root in ["public-good", "github"] {
        assert_eq!(judged(root).unwrap_err().reason, Reason::LogInvalid, "{root}");
    }
}
