//! Real signatures of real images, through as much of the path as can be.
//!
//! The manifests of these images are not ours to have, so nothing can be served under their digests. An upstream serves the `.sig`
//! that was published; pratique collects it over HTTP, finds it well-formed, and the judge is asked about the digest that the
//! signature names. The path starts at the collector and ends at the verdict.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use oci::{Digest, Repository, UnixTime};
use policy::Form;
use proxy::{
    collect::{About, Collector, Memory, Sieve, Work},
    manifest_room::ManifestRoom,
    upstream::Upstream,
};
use serde::Deserialize;
use support::{
    image::{self, Builder},
    upstream::Registry,
    world::{Setup, World},
};
use tokio::sync::Semaphore;

use crate::keyless_policy;

/// Some weeks after the root inside was published.
const NOW: UnixTime = UnixTime::from_millis(1_790_000_000_000);

#[derive(Deserialize)]
struct Source {
    image_digest: Digest,
    certificate_identity: String,
    certificate_oidc_issuer: String,
}

#[tokio::test]
async fn real_chainguard_signatures_are_collected_and_admitted_or_refused() {
    let Some(vectors) = support::vectors::folder() else { return };
    let mut admitted = 0;
    for entry in std::fs::read_dir(vectors.join("chainguard-signatures")).unwrap() {
        let folder = entry.unwrap().path();
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let source: Source = serde_json::from_slice(&read("SOURCE.json")).unwrap();
        let annotations: BTreeMap<String, String> = serde_json::from_slice(&read("annotations.json")).unwrap();
        let evidence = collected(&source.image_digest, read("payload").into(), &annotations).await;
        let right = keyless_policy("real", "cgr.dev/**", &source.certificate_oidc_issuer, &source.certificate_identity);
        let wrong_issuer =
            keyless_policy("real", "cgr.dev/**", "https://accounts.google.com", &source.certificate_identity);
        let wrong_subject =
            keyless_policy("real", "cgr.dev/**", &source.certificate_oidc_issuer, "https://github.com/evil/x");
        let other = Digest::sha256(b"another image");
        let name = folder.display();
        assert_eq!(signer_is(&right, None, &evidence, &source.image_digest), Ok(()), "{name}");
        assert!(signer_is(&wrong_issuer, None, &evidence, &source.image_digest).is_err(), "{name}");
        assert!(signer_is(&wrong_subject, None, &evidence, &source.image_digest).is_err(), "{name}");
        assert!(signer_is(&right, None, &evidence, &other).is_err(), "{name}");
        let staging = std::fs::read(vectors.join("trusted-roots/staging.trusted_root.json")).unwrap();
        assert!(signer_is(&right, Some(&staging), &evidence, &source.image_digest).is_err(), "{name}");
        if name.to_string().contains("/php-") {
            assert_eq!(
                signer_is("", None, &evidence, &source.image_digest),
                Ok(()),
                "{name} under the built-in policy"
            );
        }
        admitted += 1;
    }
    assert_eq!(admitted, 23);
}

/// What the collector brings from an upstream that serves this signature.
async fn collected(
    digest: &Digest,
    payload: Bytes,
    annotations: &BTreeMap<String, String>,
) -> policy::UntrustedEvidence {
    let registry = Registry::builder().start().await.unwrap();
    let manifest =
        Builder::new("linux/amd64").layer_as(oci::MediaType::SIMPLE_SIGNING, payload, annotations.clone()).build();
    manifest.push(&registry, "chainguard/real", Some(&image::cosign_tag(digest, "sig")));
    let world = World {
        registry,
        sigstore: support::sigstore::VirtualSigstore::new(),
        directory: tempfile::tempdir().unwrap(),
    };
    let loaded = world.load(&Setup::default());
    let limits = Arc::new(loaded.settings.limits.clone());
    let store = storage::Store::open(&loaded.settings.storage.path, 1).unwrap();
    let upstream = Arc::new(Upstream::new(&loaded.settings.upstreams[0], &limits).unwrap());
    let upstreams = BTreeMap::from([(loaded.settings.upstreams[0].name.clone(), upstream)]);
    let room = Arc::new(ManifestRoom::new(&limits));
    let collector = Collector::new(&upstreams, limits, store.blobs().clone(), room);
    let repository: Repository = "cgr.dev/chainguard/real".parse().unwrap();
    let judge = Arc::new(judge("", None));
    let wanted = judge.wanted(&repository, digest);
    let room = Memory::new(100 << 20, Duration::from_secs(1)).room(Work::Verifying);
    let sieve = Sieve::new(judge, About::Itself(repository.clone(), digest.clone()), NOW, Arc::new(Semaphore::new(1)));
    let evidence = collector.evidence(&repository, digest, &wanted.origins, &sieve, &room).await.evidence();
    assert_eq!((evidence.pieces.len(), evidence.unasked.len(), evidence.flawed.len()), (1, 0, 0));
    assert!(matches!(evidence.pieces[0].form, Form::CosignSignature { .. }));
    evidence
}

/// Whether `evidence` satisfies `policies` (the built-in ones where empty) for `digest`.
fn signer_is(
    policies: &str,
    trust_root: Option<&[u8]>,
    evidence: &policy::UntrustedEvidence,
    digest: &Digest,
) -> Result<(), String> {
    let repository: Repository = "cgr.dev/chainguard/real".parse().unwrap();
    match judge(policies, trust_root).assess(&repository, digest, evidence, NOW) {
        policy::Assessment::Complete(record) => record.refusal().map_or(Ok(()), |refusal| Err(refusal.message.clone())),
        other => Err(format!("{other:?}")),
    }
}

/// A judge by `policies`, the built-in ones where empty, and by the public-good root where there is none.
fn judge(policies: &str, trust_root: Option<&[u8]>) -> policy::Judge {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = policy::LoadContext {
        upstreams: &upstreams,
        no_match: policy::NoMatch::Deny,
        custom_trust_root: trust_root.is_some(),
    };
    let set = if policies.is_empty() {
        policy::PolicySet::built_in(&context)
    } else {
        let source = policy::SourceText { name: "real.yaml".to_owned(), text: policies.to_owned() };
        policy::PolicySet::load(&[source], &context)
    };
    let root = trust_root.map_or_else(policy::TrustRoot::public_good, |bytes| policy::TrustRoot::parse(bytes).unwrap());
    let lifetimes = policy::VerdictLifetimes {
        absent_ttl: Duration::from_secs(30),
        refused_ttl: Duration::from_secs(300),
        clock_ttl: Duration::from_secs(300),
        trust_root_ends: None,
    };
    policy::Judge::new(set.unwrap().set, &root, lifetimes, policy::RegoBounds::default()).unwrap()
}
