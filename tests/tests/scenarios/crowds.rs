//! Much evidence, of which little is good: the good one is found, and where it is not, nobody calls that absent who has not looked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use oci::{Descriptor, MediaType};
use support::{
    image::{self, Builder, Image, cosign_tag},
    pull::message,
    sigstore::{LegacySignature, Options, Signer, predicate},
    upstream::{Call, Fault, Referrers, Registry, ends_with, noise},
    world::{Pratique, Setup, World},
};

use crate::{
    attestations::{Demand, demanding},
    get, sized,
};

const REPOSITORY: &str = "chainguard/nginx";
/// Several times what is kept.
const MANY: usize = 300;
/// A few that are none.
const JUNK: usize = 20;
/// Time for all of them on a busy machine, without optimisation.
const PATIENT: &str = "[limits]\ndecision_timeout = \"60s\"\n";

fn url(pratique: &Pratique, image: &Image) -> String {
    format!("{}/v2/{REPOSITORY}/manifests/{}", pratique.url(), image.digest)
}

/// A layer that calls itself a signature.
fn junk(number: usize, annotations: BTreeMap<String, String>) -> LegacySignature {
    let payload = Bytes::from(format!(r#"{{"critical":{{"junk":{number}}}}}"#));
    LegacySignature { media_type: MediaType::SIMPLE_SIGNING, payload, annotations }
}

/// The annotations of the good one, so that nothing tells the junk from it but a look.
fn disguised(world: &World, image: &Image, count: usize, good_at: Option<usize>) -> Vec<LegacySignature> {
    let good = world.sigstore.sign_legacy(&Signer::chainguard(), "cgr.dev/x", &image.digest, &Options::default());
    let one = |number| if Some(number) == good_at { good.clone() } else { junk(number, good.annotations.clone()) };
    (0..count).map(one).collect()
}

fn referrer(subject: &Descriptor, number: usize) -> Image {
    Builder::new("")
        .config_as(MediaType::EMPTY_JSON, "{}")
        .layer_as("application/vnd.dev.sigstore.bundle.v0.3+json", format!("{{\"junk\":{number}}}"), BTreeMap::new())
        .subject(subject)
        .artifact_type("application/vnd.dev.sigstore.bundle.v0.3+json")
        .build()
}

#[tokio::test]
async fn a_good_signature_among_many_layers_is_found_wherever_it_stands() {
    for good_at in [0, MANY / 2, MANY - 1] {
        let world = World::new().await;
        let image = sized(5000, 1);
        image.push(&world.registry, REPOSITORY, Some("latest"));
        let layers = disguised(&world, &image, MANY, Some(good_at));
        image::signature_manifest(&layers).push(&world.registry, REPOSITORY, Some(&cosign_tag(&image.digest, "sig")));
        let pratique = world.pratique(&Setup::default().sections(PATIENT)).await;
        let answer = get(&url(&pratique, &image)).await;
        assert_eq!(answer.status, 200, "at {good_at}: {}", answer.text());
    }
}

#[tokio::test]
async fn many_layers_without_a_good_one_are_refused_for_what_they_are() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let mut layers = disguised(&world, &image, MANY, None);
    // One is signed by somebody else: the closest of all, and the one that is told.
    layers.push(world.sigstore.sign_legacy(&Signer::fork(), "cgr.dev/x", &image.digest, &Options::default()));
    image::signature_manifest(&layers).push(&world.registry, REPOSITORY, Some(&cosign_tag(&image.digest, "sig")));
    let pratique = world.pratique(&Setup::default().sections(PATIENT)).await;
    let answer = get(&url(&pratique, &image)).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(message(&answer).contains("identity does not match"), "{}", message(&answer));
}

#[tokio::test]
async fn layers_without_a_signature_annotation_cost_no_request() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let layers: Vec<_> = (0..MANY).map(|number| junk(number, BTreeMap::new())).collect();
    image::signature_manifest(&layers).push(&world.registry, REPOSITORY, Some(&cosign_tag(&image.digest, "sig")));
    let pratique = world.pratique(&Setup::default().sections(PATIENT)).await;
    let answer = get(&url(&pratique, &image)).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(message(&answer).contains("300 signature layers carry no signature"), "{}", message(&answer));
    assert_eq!(world.registry.count(Call::is_blob), 0);
}

#[tokio::test]
async fn a_good_bundle_among_many_referrers_is_found() {
    for referrers in [Referrers::Api, Referrers::Paged(50), Referrers::Missing] {
        let world = World::with(Registry::builder().referrers(referrers)).await;
        let image = sized(5000, 1);
        image.push(&world.registry, REPOSITORY, Some("latest"));
        let subject = image.descriptor();
        let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
        let mut all: Vec<_> = (0..MANY).map(|number| referrer(&subject, number)).collect();
        all.push(image::bundle_referrer(&subject, &bundle));
        for referrer in &all {
            referrer.push(&world.registry, REPOSITORY, None);
        }
        if matches!(referrers, Referrers::Missing) {
            world.registry.put_referrers_tag(REPOSITORY, &image.digest);
        }
        let pratique = world.pratique(&Setup::default().sections(PATIENT)).await;
        let answer = get(&url(&pratique, &image)).await;
        assert_eq!(answer.status, 200, "{referrers:?}: {}", answer.text());
    }
}

/// Our own list of what speaks about `image`, and how long its text is.
async fn listed(pratique: &Pratique, image: &Image) -> (Vec<Descriptor>, usize) {
    let answer = get(&format!("{}/v2/{REPOSITORY}/referrers/{}", pratique.url(), image.digest)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some(MediaType::OCI_INDEX));
    let index: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    (serde_json::from_value(index["manifests"].clone()).unwrap(), answer.received().len())
}

/// An SBOM that nobody signed: nothing to judge by, and served beside an admitted image.
fn document(subject: &Descriptor, number: usize) -> Image {
    let text = format!("{{\"spdxVersion\":\"SPDX-2.3\",\"number\":{number}}}");
    Builder::new("")
        .config_as(MediaType::EMPTY_JSON, "{}")
        .layer_as("application/spdx+json", text, BTreeMap::new())
        .subject(subject)
        .artifact_type("application/spdx+json")
        .build()
}

#[tokio::test]
async fn our_list_of_many_referrers_is_200_true_and_bounded() {
    for referrers in [Referrers::Api, Referrers::Paged(50), Referrers::Missing] {
        let world = World::with(Registry::builder().referrers(referrers)).await;
        let image = sized(5000, 1);
        world.push_signed(REPOSITORY, "latest", &image);
        let subject = image.descriptor();
        let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
        let mut all: Vec<_> = (0..MANY).map(|number| document(&subject, number)).collect();
        all.push(image::bundle_referrer(&subject, &bundle));
        let junk: Vec<_> = (0..JUNK).map(|number| referrer(&subject, number)).collect();
        for referrer in all.iter().chain(&junk) {
            referrer.push(&world.registry, REPOSITORY, None);
        }
        if matches!(referrers, Referrers::Missing) {
            world.registry.put_referrers_tag(REPOSITORY, &image.digest);
        }
        let pratique = world.pratique(&Setup::default().sections(PATIENT)).await;
        // What upstream is asked for: manifest, config and layer of each, with some to spare; then little more than what was no evidence.
        for calls_max in [8 * (MANY + JUNK), 4 * JUNK] {
            world.registry.clear_calls();
            let (told, bytes) = listed(&pratique, &image).await;
            let calls = world.registry.calls().len();
            assert!(calls <= calls_max, "{referrers:?}: {calls} calls of at most {calls_max}");
            assert!(bytes < 400 * all.len(), "{referrers:?}: {bytes} bytes");
            let digests: BTreeSet<_> = told.iter().map(|descriptor| &descriptor.digest).collect();
            assert_eq!(digests, all.iter().map(|one| &one.digest).collect(), "{referrers:?}: all of them and no junk");
            assert_eq!(told.len(), all.len(), "{referrers:?}: each once");
            for descriptor in &told {
                let one = all.iter().find(|one| one.digest == descriptor.digest).unwrap();
                assert_eq!(descriptor.size, one.manifest.len() as u64, "{referrers:?}");
                assert_eq!(descriptor.media_type.as_str(), MediaType::OCI_MANIFEST, "{referrers:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_upstream_without_referrers_is_no_404_of_ours() {
    let world = World::with(Registry::builder().referrers(Referrers::Missing)).await;
    let (image, nobodys) = (sized(5000, 1), sized(5000, 2));
    world.push_signed(REPOSITORY, "latest", &image);
    let pratique = world.pratique(&Setup::default()).await;
    // Before anybody asked for the image, after that, and of what is not there at all.
    for image in [&image, &nobodys, &image] {
        assert!(listed(&pratique, image).await.0.is_empty());
        assert_eq!(get(&url(&pratique, image)).await.status, if image.digest == nobodys.digest { 404 } else { 200 });
    }
    assert!(world.registry.count(Call::is_referrers) > 0, "upstream was asked, and answered 404");
}

#[tokio::test]
async fn what_was_not_kept_of_a_crowd_is_collected_anew_when_another_policy_wants_it() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let mut layers = disguised(&world, &image, MANY, Some(7));
    layers.push(world.sigstore.sign_legacy(&Signer::fork(), "cgr.dev/x", &image.digest, &Options::default()));
    image::signature_manifest(&layers).push(&world.registry, REPOSITORY, Some(&cosign_tag(&image.digest, "sig")));
    let pratique = world.pratique(&Setup::default().sections(PATIENT)).await;
    assert_eq!(get(&url(&pratique, &image)).await.status, 200);
    let fork = Signer::fork();
    let other = crate::keyless_policy("fork", "cgr.dev/**", &fork.issuer, &fork.subject);
    let other = Setup::with_policy(&other).sections(PATIENT);
    pratique.reload(&world, &other).await.unwrap();
    let answer = get(&url(&pratique, &image)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_list_that_leads_in_a_circle_hides_nothing_and_proves_no_absence() {
    let world = World::new().await;
    let (good, bare) = (sized(5000, 1), sized(5000, 2));
    for image in [&good, &bare] {
        image.push(&world.registry, REPOSITORY, None);
        for number in 0..3 {
            referrer(&image.descriptor(), number).push(&world.registry, REPOSITORY, None);
        }
    }
    let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &good.digest, &Options::default());
    image::bundle_referrer(&good.descriptor(), &bundle).push(&world.registry, REPOSITORY, None);
    world.registry.fault(Call::is_referrers, Fault::header("link", "<?page=again>; rel=\"next\""));
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&url(&pratique, &good)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = get(&url(&pratique, &bare)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(message(&answer).contains("circle"), "{}", message(&answer));
}

#[tokio::test]
async fn large_bundles_are_fetched_only_where_the_small_ones_do_not_suffice() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let subject = image.descriptor();
    let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    image::bundle_referrer(&subject, &bundle).push(&world.registry, REPOSITORY, None);
    let large = Builder::new("")
        .config_as(MediaType::EMPTY_JSON, "{}")
        .layer_as("application/vnd.dev.sigstore.bundle.v0.3+json", noise(9 << 20, 1), BTreeMap::new())
        .subject(&subject)
        .build();
    large.push(&world.registry, REPOSITORY, None);
    let pratique = world.pratique(&Setup::default()).await;
    assert_eq!(get(&url(&pratique, &image)).await.status, 200);
    let fetched = ends_with(&large.layers()[0].0);
    assert_eq!(world.registry.count(&fetched), 0);
    // A signer that did not sign at all: now everything is looked at.
    let fork = Signer::fork();
    let other = Setup::with_policy(&crate::keyless_policy("fork", "cgr.dev/**", &fork.issuer, &fork.subject));
    pratique.reload(&world, &other).await.unwrap();
    assert_eq!(get(&url(&pratique, &image)).await.status, 403);
    assert_eq!(world.registry.count(&fetched), 1);
}

#[tokio::test]
async fn large_junk_does_not_push_out_a_larger_good_attestation() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let subject = image.descriptor();
    let mut predicate = predicate::provenance(predicate::BUILDER);
    predicate["padding"] = "x".repeat(10 << 20).into();
    let signer = Signer::chainguard();
    let good =
        world.sigstore.attest_bundle(&signer, &image.digest, predicate::PROVENANCE, &predicate, &Options::default());
    image::bundle_referrer(&subject, &good).push(&world.registry, REPOSITORY, None);
    for seed in 0..7 {
        let junk = Builder::new("")
            .config_as(MediaType::EMPTY_JSON, "{}")
            .layer_as("application/vnd.dev.sigstore.bundle.v0.3+json", noise(9 << 20, seed), BTreeMap::new())
            .subject(&subject)
            .build();
        junk.push(&world.registry, REPOSITORY, None);
    }
    let demand = Demand { attestations: &[predicate::PROVENANCE], ..Demand::default() };
    // Room for any of them, and not for all; and time for a busy machine, without optimisation.
    let limits = "[limits]\ndecision_timeout = \"60s\"\nattestation_bytes_max = \"24MiB\"\nevidence_bytes_max = \"24MiB\"\nevidence_memory_bytes_max = \"64MiB\"\n";
    let pratique = world.pratique(&Setup::with_policy(&demanding(&signer, &demand)).sections(limits)).await;
    let answer = get(&url(&pratique, &image)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn what_only_the_policy_of_an_index_asks_of_its_children_is_found_in_a_crowd() {
    let world = World::new().await;
    let index = image::index([sized(5000, 1)]);
    let child = &index.children[0];
    let (signer, options) = (Signer::chainguard(), Options::default());
    let attested = |image: &Image| {
        let predicate = predicate::provenance(predicate::BUILDER);
        world.sigstore.attest_legacy(&signer, &image.digest, predicate::PROVENANCE, &predicate, &options)
    };
    index.push(&world.registry, REPOSITORY, Some("latest"));
    image::attestation_manifest(&[attested(&index)]).push(
        &world.registry,
        REPOSITORY,
        Some(&cosign_tag(&index.digest, "att")),
    );
    let good = attested(child);
    // Smaller than the good one, and larger: looked at before it, and after.
    let width = |number| if number < 30 { 9 } else { 9999 };
    let junk = |number: usize| {
        let payload = Bytes::from(format!("{{\"junk\":{number:0width$}}}", width = width(number)));
        LegacySignature { payload, ..good.clone() }
    };
    let crowd: Vec<_> = (0..MANY).map(junk).chain([good.clone()]).collect();
    image::attestation_manifest(&crowd).push(&world.registry, REPOSITORY, Some(&cosign_tag(&child.digest, "att")));
    // The glob names the index and not the child.
    let annotation = "pratique.dev/attestations-per-platform: \"true\"";
    let demand = Demand { annotation, attestations: &[predicate::PROVENANCE], ..Demand::default() };
    let policy = demanding(&signer, &demand).replace("cgr.dev/**", &format!("cgr.dev/**@{}", index.digest));
    let pratique = world.pratique(&Setup::with_policy(&policy).sections(PATIENT)).await;
    for image in [&index, child] {
        let answer = get(&url(&pratique, image)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_child_is_not_refused_where_there_is_no_room_for_the_evidence_of_its_index() {
    let platforms = image::index([sized(5000, 1)]);
    for index in [platforms.clone(), image::index([platforms])] {
        let world = World::new().await;
        let signer = Signer::chainguard();
        let attest = |bytes: usize| {
            let mut predicate = predicate::provenance(predicate::BUILDER);
            predicate["more"] = "x".repeat(bytes).into();
            let options = Options::default();
            let attested =
                world.sigstore.attest_legacy(&signer, &index.digest, predicate::PROVENANCE, &predicate, &options);
            let attestations = image::attestation_manifest(&[attested]);
            attestations.push(&world.registry, REPOSITORY, Some(&cosign_tag(&index.digest, "att")));
        };
        index.push(&world.registry, REPOSITORY, Some("latest"));
        attest(2 << 20);
        let demand = Demand { attestations: &[predicate::PROVENANCE], ..Demand::default() };
        let policy = demanding(&signer, &demand);
        let pratique = world.pratique(&Setup::with_policy(&policy)).await;
        let mut image = &index;
        loop {
            let answer = get(&url(&pratique, image)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let Some(child) = image.children.first() else { break };
            image = child;
        }
        pratique.stop().await;
        // Under another policy nothing that was judged counts any more; what was kept for that is too large now.
        let other = policy.replacen("  name: ", "  name: other-", 1);
        assert_ne!(other, policy);
        let limits = "[limits]\nattestation_bytes_max = \"1MiB\"\nevidence_bytes_max = \"1MiB\"\nevidence_memory_bytes_max = \"1MiB\"\n";
        let pratique = world.pratique(&Setup::with_policy(&other).sections(limits)).await;
        let answer = get(&url(&pratique, image)).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("limits.evidence_memory_bytes_max"), "{}", answer.text());
        // What is stored keeps nobody from looking at what there is now.
        attest(1);
        for image in [&index, image] {
            let answer = get(&url(&pratique, image)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}
