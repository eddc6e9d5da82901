use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use oci::ManifestLimits;

use super::*;
use crate::{
    evidence::{Form, Origin, Source, UntrustedPiece},
    policy_set::{LoadContext, NoMatch},
    verifier::{Claim, Demand, Flaw, Names, Signed, Verifier},
};

const NEVER: VerdictLifetimes = VerdictLifetimes {
    absent_ttl: Duration::ZERO,
    refused_ttl: Duration::ZERO,
    clock_ttl: Duration::ZERO,
    trust_root_ends: None,
};

/// A verifier with a fault: it panics on every piece.
struct Panics;

impl Verifier for Panics {
    fn read(&self, _: &UntrustedPiece, _: &Digest) -> Result<Claim, Flaw> {
        Ok(Claim::Signature { annotations: BTreeMap::new(), predicate_type: None, names: Names::default() })
    }

    fn statement(&self, _: &UntrustedPiece) -> Result<Vec<u8>, Flaw> {
        panic!("index out of bounds");
    }

    fn verify(&self, _: &UntrustedPiece, _: &Digest, _: Demand<'_>) -> Result<Signed, Flaw> {
        panic!("index out of bounds");
    }
}

fn manifest() -> UntrustedManifest {
    let document = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let limits = ManifestLimits { layers_max: 1, manifests_max: 1, json_depth_max: 8 };
    UntrustedManifest::parse(Addressed::hash(Algorithm::Sha256, Bytes::from(document)), None, &limits).unwrap()
}

#[test]
fn a_panic_of_the_verifier_is_neither_a_yes_nor_remembered_as_a_no() {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: false };
    let policies = PolicySet::built_in(&context).unwrap().set;
    let mut judge = Judge::new(policies, &TrustRoot::public_good(), NEVER, RegoBounds::default()).unwrap();
    judge.verifiers.insert(Trust::default(), Box::new(Panics));
    let piece = UntrustedPiece {
        bytes: Addressed::hash(Algorithm::Sha256, Bytes::new()),
        form: Form::CosignSignature { annotations: BTreeMap::new() },
        origin: Origin::beside(Source::CosignTag),
    };
    let evidence = UntrustedEvidence { pieces: vec![piece], ..UntrustedEvidence::default() };
    let repository = "cgr.dev/chainguard/nginx".parse().unwrap();
    let judgement = judge.admit(&repository, manifest(), &evidence, UnixTime::from_millis(0));
    assert!(judgement.record.is_none() && judgement.in_memory.is_none());
    assert!(matches!(judgement.outcome, Outcome::Undecided(_)), "{:?}", judgement.outcome);
}

/// The claim "admitted" is made where it can be looked over: nobody else in this crate can make it.
#[test]
fn admissions_and_permits_come_to_be_in_three_lines() {
    let sources = [
        include_str!("../admit.rs"),
        include_str!("case.rs"),
        include_str!("child.rs"),
        include_str!("failure.rs"),
        include_str!("rule.rs"),
        include_str!("judgement.rs"),
        include_str!("verdict.rs"),
        include_str!("admitted.rs"),
    ];
    let count = |what: &str| sources.iter().map(|source| source.matches(what).count()).sum::<usize>();
    assert_eq!(count("Admitted::assertion("), 2, "a manifest, and evidence for its subject's sake");
    assert_eq!(count("Permit::assertion("), 1);
    assert_eq!(count("fn assertion("), 2);
}

#[test]
fn one_judge_serves_all_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Judge>();
    shared::<Admitted<Manifest>>();
    shared::<Permit>();
}
