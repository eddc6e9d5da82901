//! What is told of a signer besides the name: the workflow, and what the controller calls the signature.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci::{Addressed, Algorithm};
use sha2::{Digest as _, Sha256};
use sigstore_crypto::x509::FulcioCiClaims;

use super::*;
use crate::{
    authority::Proof,
    evidence::{Origin, Source},
};

#[expect(clippy::unnecessary_wraps, reason = "as the claims are written")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn where_the_old_claims_are_gone_their_successors_say_the_same() {
    let mut claims = FulcioCiClaims::default();
    assert!(certificate::workflow(claims.clone()).is_empty());
    claims.build_trigger = text("push");
    claims.source_repository_digest = text("49ce");
    claims.source_repository_uri = text("https://github.com/owner/name");
    claims.source_repository_ref = text("refs/heads/main");
    let workflow = certificate::workflow(claims.clone());
    let expected = Workflow {
        trigger: text("push"),
        sha: text("49ce"),
        name: None,
        repository: text("owner/name"),
        reference: text("refs/heads/main"),
    };
    assert_eq!(workflow, expected);
    claims.deprecated_github.workflow_sha = text("old");
    claims.deprecated_github.workflow_repository = text("owner/old");
    claims.deprecated_github.workflow_name = text("release");
    let workflow = certificate::workflow(claims);
    let expected = Workflow { sha: text("old"), name: text("release"), repository: text("owner/old"), ..expected };
    assert_eq!(workflow, expected);
}

/// Of a signature its bytes and the certificate, of an attestation the certificate alone.
#[test]
fn the_id_is_what_the_controller_makes_of_signature_and_certificate() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    let annotations = |place: &str| -> BTreeMap<String, String> {
        serde_json::from_slice(&std::fs::read(folder.join(place).join("annotations.json")).unwrap()).unwrap()
    };
    let id = |place: &str, form: fn(BTreeMap<String, String>) -> Form, subject: &str| {
        let bytes = std::fs::read(folder.join(place).join("payload")).unwrap();
        let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(bytes));
        let origin = Origin::beside(Source::CosignTag);
        let piece = UntrustedPiece { bytes, form: form(annotations(place)), origin };
        let proof = Proof { log: true, ..Proof::default() };
        let demand = Demand { by: By::Certificate { sct: true }, proof: &proof, now: NOW };
        sigstore.verify(&piece, &subject.parse().unwrap(), demand).unwrap().id
    };
    let hash = |parts: &[&[u8]]| hex::encode(Sha256::digest(parts.concat()));
    let place = "chainguard-signatures/php-0cc056b1";
    let source: Value =
        serde_json::from_slice(&std::fs::read(folder.join(place).join("SOURCE.json")).unwrap()).unwrap();
    let subject = source.get("image_digest").unwrap().as_str().unwrap();
    let signed = annotations(place);
    let signature = STANDARD.decode(signed.get("dev.cosignproject.cosign/signature").unwrap()).unwrap();
    let pem = signed.get("dev.sigstore.cosign/certificate").unwrap();
    let seen = id(place, |annotations| Form::CosignSignature { annotations }, subject);
    assert_eq!(seen, hash(&[&signature, pem.as_bytes()]));
    let place = "cosign-legacy/slsa-attestation-v2.1.0";
    let subject = std::fs::read_to_string(folder.join(place).join("subject.digest")).unwrap();
    let attested = annotations(place);
    let pem = attested.get("dev.sigstore.cosign/certificate").unwrap();
    let seen = id(place, |annotations| Form::CosignAttestation { annotations }, subject.trim());
    assert_eq!(seen, hash(&[pem.as_bytes()]));
    assert_eq!(certificate::id(None, None), hash(&[]), "as of all attestations by key");
}
