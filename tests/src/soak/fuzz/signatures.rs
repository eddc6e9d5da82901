//! Evidence, judged. No bend makes a signature of one image count for another.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, Repository, UnixTime};
use policy::{
    Assessment, Effect, Judge, LoadContext, NoMatch, PolicySet, Source, TrustRoot, UntrustedEvidence, UntrustedPiece,
    VerdictLifetimes,
};
use serde::{Deserialize, Serialize};

use crate::sigstore::{Options, Signer, VirtualSigstore};

/// 2026-01-01, some weeks after everything is signed.
const NOW: UnixTime = UnixTime::from_millis(1_767_225_600_000);

/// One for all inputs: making its keys takes a while.
static SIGSTORE: LazyLock<VirtualSigstore> = LazyLock::new(VirtualSigstore::new);
static JUDGE: LazyLock<Judge> = LazyLock::new(judge);

/// A layer of a `.sig` manifest, written down as one document so that it can be bent as one.
#[derive(Serialize, Deserialize)]
struct Layer {
    payload: String,
    annotations: BTreeMap<String, String>,
}

/// The simple signing payload and its annotations.
pub(super) fn legacy(input: &[u8]) {
    let layer = serde_json::from_slice(input).unwrap_or_else(|_| Layer {
        // No longer a layer: then the whole is the payload.
        payload: String::from_utf8_lossy(input).into_owned(),
        annotations: BTreeMap::new(),
    });
    let payload = Addressed::hash(Algorithm::Sha256, Bytes::from(layer.payload.into_bytes()));
    judged(UntrustedPiece::CosignSignature { payload, annotations: layer.annotations, source: Source::CosignTag });
}

/// A Sigstore bundle.
pub(super) fn bundle(input: &[u8]) {
    let bytes = Addressed::hash(Algorithm::Sha256, Bytes::copy_from_slice(input));
    judged(UntrustedPiece::Bundle { bytes, source: Source::ReferrersApi });
}

pub(super) fn legacy_seeds() -> Vec<Vec<u8>> {
    let sign = |options: &Options| {
        let signature = SIGSTORE.sign_legacy(&Signer::chainguard(), "cgr.dev/chainguard/nginx", &signed(), options);
        let payload = String::from_utf8_lossy(&signature.payload).into_owned();
        serde_json::to_vec(&Layer { payload, annotations: signature.annotations }).expect("texts are JSON")
    };
    vec![sign(&Options::default()), sign(&Options { chain: false, ..Options::default() })]
}

pub(super) fn bundle_seeds() -> Vec<Vec<u8>> {
    let attested = SIGSTORE.attest_bundle(
        &Signer::chainguard(),
        &signed(),
        "https://slsa.dev/provenance/v1",
        &serde_json::json!({"buildDefinition": {}}),
        &Options::default(),
    );
    vec![
        SIGSTORE.sign_bundle(&Signer::chainguard(), &signed(), &Options::default()).into_bytes(),
        attested.into_bytes(),
    ]
}

/// The one digest that was ever signed.
fn signed() -> Digest {
    Digest::sha256(b"signed")
}

fn judge() -> Judge {
    let upstreams = ["cgr.dev".parse().expect("a name")];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let policies = PolicySet::built_in(&context).expect("the policy inside loads").set;
    let root = TrustRoot::parse(SIGSTORE.trusted_root_json().as_bytes()).expect("a good trust root");
    let second = std::time::Duration::from_secs(1);
    let lifetimes = VerdictLifetimes { absent_ttl: second, refused_ttl: second, trust_root_ends: None };
    Judge::new(policies, &root, lifetimes).expect("the policy inside has no keys")
}

fn judged(piece: UntrustedPiece) {
    let evidence = UntrustedEvidence {
        pieces: vec![piece],
        asked: vec![Source::CosignTag, Source::ReferrersApi],
        ..Default::default()
    };
    let repository: Repository = "cgr.dev/chainguard/nginx".parse().expect("a repository");
    // Of what was signed, bent evidence may still be good: blanks, a chain that nobody needs. It must only not panic.
    let _ = JUDGE.assess(&repository, &signed(), &evidence, NOW);
    let other = JUDGE.assess(&repository, &Digest::sha256(b"never signed"), &evidence, NOW);
    if let Assessment::Complete(record) | Assessment::Partial(record) = other {
        let refused = matches!(record.effect(), Effect::Refuse(_) | Effect::Absent(_));
        assert!(refused, "admitted what nobody signed: {:?}", record.findings());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_good_signatures_of_what_was_signed_so_bending_them_means_something() {
        let layer: Layer = serde_json::from_slice(&legacy_seeds()[0]).unwrap();
        let payload = Addressed::hash(Algorithm::Sha256, Bytes::from(layer.payload.into_bytes()));
        let legacy =
            UntrustedPiece::CosignSignature { payload, annotations: layer.annotations, source: Source::CosignTag };
        let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(bundle_seeds()[0].clone()));
        for piece in [legacy, UntrustedPiece::Bundle { bytes, source: Source::ReferrersApi }] {
            let evidence = UntrustedEvidence { pieces: vec![piece], ..UntrustedEvidence::default() };
            let assessment = JUDGE.assess(&"cgr.dev/chainguard/nginx".parse().unwrap(), &signed(), &evidence, NOW);
            let Assessment::Complete(record) = assessment else { panic!("{assessment:?}") };
            assert!(matches!(record.effect(), Effect::Serve), "{:?}", record.effect());
        }
    }
}
