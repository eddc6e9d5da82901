//! What a refusal says. These messages stand in README.

use support::{
    image,
    pull::message,
    sigstore::{Flaw, Options, Signer},
    upstream::Fault,
    world::{Setup, World},
};

use crate::{chainguard_policy, get, sized};

async fn refusal(world: &World, setup: &Setup, repository: &str) -> (u16, String) {
    let pratique = world.pratique(setup).await;
    let answer = get(&format!("{}/v2/{repository}/manifests/latest", pratique.url())).await;
    let told = (answer.status.as_u16(), message(&answer));
    pratique.stop().await;
    told
}

#[tokio::test]
async fn no_signature() {
    let world = World::new().await;
    sized(5, 1).push(&world.registry, "chainguard/nginx", Some("latest"));
    let (status, message) = refusal(&world, &Setup::default(), "chainguard/nginx").await;
    assert_eq!(status, 403);
    insta::assert_snapshot!(message, @r#"refused by policy chainguard-public: no signature by authority "release" (looked at: cosign tag, referrers API, referrers tag)"#);
}

#[tokio::test]
async fn wrong_identity_says_expected_and_seen() {
    let world = World::new().await;
    let image = sized(5, 1);
    image.push(&world.registry, "chainguard/nginx", Some("latest"));
    world.sign("chainguard/nginx", &image, &Signer::fork(), &Options::default());
    let (status, message) = refusal(&world, &Setup::default(), "chainguard/nginx").await;
    assert_eq!(status, 403);
    insta::assert_snapshot!(message);
}

#[tokio::test]
async fn bad_signature_and_not_in_the_log() {
    for (flaw, name) in [(Flaw::SignatureWrong, "bad_signature"), (Flaw::NotLogged, "not_in_the_log")] {
        let world = World::new().await;
        let image = sized(5, 1);
        image.push(&world.registry, "chainguard/nginx", Some("latest"));
        world.sign("chainguard/nginx", &image, &Signer::chainguard(), &Options::flawed(flaw));
        let (status, message) = refusal(&world, &Setup::default(), "chainguard/nginx").await;
        assert_eq!(status, 403, "{name}");
        insta::assert_snapshot!(name, message);
    }
}

#[tokio::test]
async fn no_matching_policy() {
    let world = World::new().await;
    world.push_signed("other/nginx", "latest", &sized(5, 1));
    let (status, message) = refusal(&world, &Setup::default(), "other/nginx").await;
    assert_eq!(status, 403);
    insta::assert_snapshot!(message);
}

#[tokio::test]
async fn upstream_down() {
    let mut world = World::new().await;
    world.registry.stop().await;
    let (status, message) = refusal(&world, &Setup::default(), "chainguard/nginx").await;
    assert_eq!(status, 503);
    insta::assert_snapshot!(message);
}

#[tokio::test]
async fn a_place_that_cannot_be_asked_is_not_empty() {
    let world = World::new().await;
    let image = sized(5, 1);
    image.push(&world.registry, "chainguard/nginx", Some("latest"));
    world.registry.fault(|call| call.path.ends_with(".sig"), Fault::status(500));
    let pratique = world.pratique(&Setup::default()).await;
    let address = format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url());
    let answer = get(&address).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    // Never remembered as no: the signature is there, and counts at once.
    world.registry.clear_faults();
    world.sign("chainguard/nginx", &image, &Signer::chainguard(), &Options::default());
    assert_eq!(get(&address).await.status, 200);
}

#[tokio::test]
async fn a_signature_that_comes_later_counts_after_the_absent_ttl() {
    let world = World::new().await;
    let image = sized(5, 1);
    image.push(&world.registry, "chainguard/nginx", Some("latest"));
    let setup = Setup::default().sections("[verdicts]\nabsent_ttl = \"1ms\"\n");
    let pratique = world.pratique(&setup).await;
    let address = format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url());
    assert_eq!(get(&address).await.status, 403);
    world.sign("chainguard/nginx", &image, &Signer::chainguard(), &Options::default());
    assert_eq!(get(&address).await.status, 200);
}

#[tokio::test]
async fn one_bad_signature_does_not_spoil_a_good_one() {
    let world = World::new().await;
    let image = sized(5, 1);
    image.push(&world.registry, "chainguard/nginx", Some("latest"));
    let name = "cgr.dev/chainguard/nginx";
    let bad = world.sigstore.sign_legacy(&Signer::fork(), name, &image.digest, &Options::flawed(Flaw::SignatureWrong));
    let good = world.sigstore.sign_legacy(&Signer::chainguard(), name, &image.digest, &Options::default());
    image::signature_manifest(&[bad, good]).push(
        &world.registry,
        "chainguard/nginx",
        Some(&image::cosign_tag(&image.digest, "sig")),
    );
    let pratique = world.pratique(&Setup::default()).await;
    assert_eq!(get(&format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url())).await.status, 200);
}

#[tokio::test]
async fn an_unverified_image_is_served_with_a_warning_where_the_operator_wants_that() {
    let world = World::new().await;
    sized(5, 1).push(&world.registry, "chainguard/nginx", Some("latest"));
    sized(6, 2).push(&world.registry, "other/nginx", Some("latest"));
    let warn =
        chainguard_policy("chainguard-public", "cgr.dev/chainguard/**").replace("spec:\n", "spec:\n  mode: warn\n");
    let setup = Setup { policy: "no_match = \"warn\"".to_owned(), ..Setup::with_policy(&warn) };
    let pratique = world.pratique(&setup).await;
    for repository in ["chainguard/nginx", "other/nginx"] {
        let answer = get(&format!("{}/v2/{repository}/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, 200, "{repository}");
        assert!(answer.header("warning").is_some_and(|warning| warning.starts_with("299 - \"")), "{repository}");
    }
}

#[tokio::test]
async fn every_flawed_signature_is_refused_through_the_whole_path() {
    use support::sigstore::{Layout, Means, flaws};
    let world = World::new().await;
    let pratique = world.pratique(&Setup::default()).await;
    let mut refused = 0;
    for (number, flaw) in flaws(Layout::Legacy, Means::Certificate).enumerate() {
        let (repository, image) = (format!("chainguard/legacy{number}"), sized(5, 1));
        image.push(&world.registry, &repository, Some("latest"));
        world.sign(&repository, &image, &Signer::chainguard(), &Options::flawed(flaw));
        let answer = get(&format!("{}/v2/{repository}/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, 403, "{flaw:?}: {}", answer.text());
        refused += 1;
    }
    // What is not noticed yet stands in tests/flawed.rs.
    let noticed = flaws(Layout::Bundle, Means::Certificate).filter(|flaw| *flaw != Flaw::CertificateAndKey);
    for (number, flaw) in noticed.enumerate() {
        let (repository, image) = (format!("chainguard/bundle{number}"), sized(5, 1));
        image.push(&world.registry, &repository, Some("latest"));
        let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::flawed(flaw));
        image::bundle_referrer(&image.descriptor(), &bundle).push(&world.registry, &repository, None);
        let answer = get(&format!("{}/v2/{repository}/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, 403, "{flaw:?}: {}", answer.text());
        refused += 1;
    }
    assert!(refused > 30, "only {refused} flaws were tried");
}

#[tokio::test]
async fn a_referrers_list_that_breaks_off_leaves_the_pieces_that_came_and_is_not_taken_for_all() {
    use support::upstream::{Referrers, Registry};
    let world = World::with(Registry::builder().referrers(Referrers::Paged(1))).await;
    let (signer, options) = (Signer::chainguard(), Options::default());
    let mut expected = Vec::new();
    for (repository, good) in [("chainguard/good", true), ("chainguard/bad", false)] {
        let image = sized(5, u64::from(good));
        image.push(&world.registry, repository, Some("latest"));
        for number in 0..3 {
            let by = if good { &signer } else { &Signer::fork() };
            let options = Options { signed_at: Options::SIGNED_AT + number, ..options.clone() };
            let bundle = world.sigstore.sign_bundle(by, &image.digest, &options);
            image::bundle_referrer(&image.descriptor(), &bundle).push(&world.registry, repository, None);
        }
        expected.push((repository, if good { 200 } else { 503 }));
    }
    world.registry.fault(|call| call.is_referrers() && !call.query.is_empty(), Fault::status(500));
    let pratique = world.pratique(&Setup::default()).await;
    for (repository, status) in expected {
        let answer = get(&format!("{}/v2/{repository}/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, status, "{repository}: {}", answer.text());
    }
}
