//! What a verdict costs: made from evidence, and looked at again.
//!
//! Input: one image manifest with one layer, one signature by certificate, in either layout; and the same with three attestations
//! (provenance, image configuration, SPDX) and a content rule for each. The ratio of `admit` to `readmit` is what a stored verdict
//! saves; that of `attested/admit` to the bare cryptography what judging adds. All are measured in one run.

#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use benches::Attested;
use criterion::{Criterion, criterion_group, criterion_main};
use oci::{Addressed, Algorithm, ManifestLimits, Repository, UnixTime, UntrustedManifest};
use policy::{
    Form, Judge, LoadContext, NoMatch, Origin, PolicySet, RegoBounds, Source, TrustRoot, UntrustedEvidence,
    UntrustedPiece, VerdictLifetimes,
};
use support::{
    image::{self, Image},
    sigstore::{Options, Signer, VirtualSigstore},
    upstream::noise,
};

const NOW: UnixTime = UnixTime::from_millis(1_790_000_000_000);
const LIMITS: ManifestLimits = ManifestLimits { layers_max: 100, manifests_max: 100, json_depth_max: 64 };

fn judge(sigstore: &VirtualSigstore) -> Judge {
    let upstreams = ["cgr.dev".parse().expect("a host")];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let policies = PolicySet::built_in(&context).expect("the built-in policy loads").set;
    let root = TrustRoot::parse(sigstore.trusted_root_json().as_bytes()).expect("the root loads");
    let lifetimes = VerdictLifetimes {
        absent_ttl: Duration::from_secs(30),
        refused_ttl: Duration::from_secs(300),
        clock_ttl: Duration::from_secs(300),
        trust_root_ends: None,
    };
    Judge::new(policies, &root, lifetimes, RegoBounds::default()).expect("policies and root make a judge")
}

fn parse(image: &Image) -> UntrustedManifest {
    UntrustedManifest::parse(image.addressed(), Some(image.media_type.as_str()), &LIMITS).expect("a manifest")
}

fn evidence(piece: UntrustedPiece) -> UntrustedEvidence {
    UntrustedEvidence {
        pieces: vec![piece],
        asked: vec![Origin::beside(Source::CosignTag)],
        ..UntrustedEvidence::default()
    }
}

fn verdicts(criterion: &mut Criterion) {
    let (sigstore, signer) = (VirtualSigstore::new(), Signer::chainguard());
    let (judge, image) = (judge(&sigstore), image::single("linux/amd64", [noise(1000, 1)]));
    let repository: Repository = "cgr.dev/chainguard/nginx".parse().expect("a repository");
    let legacy = sigstore.sign_legacy(&signer, "cgr.dev/chainguard/nginx", &image.digest, &Options::default());
    let bundle = sigstore.sign_bundle(&signer, &image.digest, &Options::default());
    let pieces = BTreeMap::from([
        (
            "legacy",
            UntrustedPiece {
                bytes: Addressed::hash(Algorithm::Sha256, legacy.payload),
                form: Form::CosignSignature { annotations: legacy.annotations },
                origin: Origin::beside(Source::CosignTag),
            },
        ),
        (
            "bundle",
            UntrustedPiece {
                bytes: Addressed::hash(Algorithm::Sha256, bundle.into_bytes().into()),
                form: Form::Bundle,
                origin: Origin::beside(Source::ReferrersApi),
            },
        ),
    ]);
    let manifest = parse(&image);
    for (layout, piece) in pieces {
        let evidence = evidence(piece);
        let record = judge.admit(&repository, manifest.clone(), &evidence, NOW).record.expect("decided");
        criterion.bench_function(&format!("admit/{layout}"), |bencher| {
            bencher.iter(|| judge.admit(black_box(&repository), manifest.clone(), &evidence, NOW));
        });
        criterion.bench_function(&format!("readmit/{layout}"), |bencher| {
            bencher.iter(|| judge.readmit(black_box(&repository), manifest.clone(), &record, NOW));
        });
    }
    criterion.bench_function("parse manifest", |bencher| bencher.iter(|| parse(black_box(&image))));
}

/// One signature and three attestations with a rule each, beside the cryptography of the same four pieces.
fn attested(criterion: &mut Criterion) {
    let attested = Attested::new();
    let record = attested.record();
    assert_eq!(attested.verify_bare(), 4, "all four are good to the crates too");
    criterion.bench_function("attested/admit", |bencher| bencher.iter(|| black_box(&attested).admit()));
    criterion.bench_function("attested/readmit", |bencher| bencher.iter(|| black_box(&attested).readmit(&record)));
    criterion.bench_function("attested/bare cryptography", |bencher| {
        bencher.iter(|| black_box(&attested).verify_bare());
    });
}

criterion_group!(verdict, verdicts, attested);
criterion_main!(verdict);
