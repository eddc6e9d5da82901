//! Repositories are judged each by its own policies, whatever they share.

use support::{
    client::Client,
    image,
    pull::pull,
    sigstore::{KeyKind, KeySigner, Options, Signer},
    upstream::{Referrers, Registry},
    world::{Setup, World},
};

use crate::{chainguard_policy, get, keyless_policy, sized, static_policy};

#[tokio::test]
async fn one_digest_in_two_repositories_gets_each_its_own_verdict() {
    let world = World::new().await;
    let image = sized(50_000, 1);
    for repository in ["strict/app", "lax/app"] {
        image.push(&world.registry, repository, Some("latest"));
        world.sign(repository, &image, &Signer::fork(), &Options::default());
    }
    let fork = Signer::fork();
    let policies = [
        chainguard_policy("strict", "cgr.dev/strict/**"),
        keyless_policy("lax", "cgr.dev/lax/**", &fork.issuer, &fork.subject),
    ]
    .join("---\n");
    let pratique = world.pratique(&Setup::with_policy(&policies)).await;
    let (client, url) = (Client::plain(), pratique.url());
    let asked = (0..20).map(|_| async {
        tokio::join!(pull(&client, &url, "strict/app", "latest"), pull(&client, &url, "lax/app", "latest"),)
    });
    for (strict, lax) in futures_util::future::join_all(asked).await {
        assert_eq!(strict.unwrap_err().status(), Some(403));
        assert_eq!(lax.unwrap().blobs.len(), 2);
    }
    // The bytes are here; in the strict repository nothing admitted reaches them.
    let layer = &image.layers()[0].0;
    assert_eq!(get(&format!("{url}/v2/strict/app/blobs/{layer}")).await.status, 403);
    assert_eq!(get(&format!("{url}/v2/lax/app/blobs/{layer}")).await.status, 200);
    assert_eq!(get(&format!("{url}/v2/lax/other/blobs/{layer}")).await.status, 404);
}

#[tokio::test]
async fn the_same_path_on_two_upstreams_is_two_repositories() {
    let world = World::new().await;
    let other = Registry::builder().start().await.unwrap();
    let (image, evil) = (sized(500, 1), sized(500, 2));
    world.push_signed("chainguard/nginx", "latest", &image);
    evil.push(&other, "chainguard/nginx", Some("latest"));
    let section = format!("[[upstreams]]\nname = \"other.example\"\nurl = \"{}\"\nprefix = \"other\"\n", other.url());
    let pratique = world.pratique(&Setup::default().sections(&section)).await;
    let (client, url) = (Client::plain(), pratique.url());
    let (ours, theirs) = tokio::join!(
        pull(&client, &url, "chainguard/nginx", "latest"),
        pull(&client, &url, "other/chainguard/nginx", "latest"),
    );
    assert_eq!(ours.unwrap().manifests[0].0, image.digest);
    assert_eq!(theirs.unwrap_err().status(), Some(403));
    let layer = &image.layers()[0].0;
    assert_eq!(get(&format!("{url}/v2/other/chainguard/nginx/blobs/{layer}")).await.status, 404);
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/latest?ns=other.example")).await.status, 403);
}

#[tokio::test]
async fn all_matching_policies_must_pass_and_one_authority_suffices() {
    let world = World::new().await;
    let image = sized(5, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let fork = Signer::fork();
    let any_of_two = chainguard_policy("one", "cgr.dev/chainguard/**").replace(
        "      identities:\n",
        &format!("      identities:\n      - issuer: {}\n        subject: {}\n", fork.issuer, fork.subject),
    );
    let and = keyless_policy("two", "cgr.dev/**", &fork.issuer, &fork.subject);
    let (client, repository) = (Client::plain(), "chainguard/nginx");
    for (policies, admitted) in [(any_of_two.clone(), true), (format!("{any_of_two}---\n{and}"), false)] {
        let pratique = world.pratique(&Setup::with_policy(&policies)).await;
        assert_eq!(pull(&client, &pratique.url(), repository, "latest").await.is_ok(), admitted);
        pratique.stop().await;
    }
}

#[tokio::test]
async fn every_layout_and_every_way_of_finding_it_admits() {
    let key = KeySigner::generate(KeyKind::P256);
    let pem = key.public_pem().lines().fold(String::new(), |text, line| text + "          " + line + "\n");
    let acme = static_policy("acme", "cgr.dev/acme/**", "pass")
        .replace("    static:\n      action: pass\n", &format!("    key:\n      data: |\n{pem}"));
    let policies = format!("{}---\n{acme}", chainguard_policy("chainguard-public", "cgr.dev/chainguard/**"));
    for referrers in [Referrers::Api, Referrers::Paged(1), Referrers::Missing] {
        let world = World::with(Registry::builder().referrers(referrers)).await;
        let (options, signer) = (Options::default(), Signer::chainguard());
        let keyless = sized(5, 1);
        keyless.push(&world.registry, "chainguard/bundle", Some("latest"));
        let bundle = world.sigstore.sign_bundle(&signer, &keyless.digest, &options);
        let provenance = serde_json::json!({"buildDefinition": {}});
        let other = world.sigstore.attest_bundle(
            &signer,
            &keyless.digest,
            "https://slsa.dev/provenance/v1",
            &provenance,
            &options,
        );
        for bundle in [other, bundle] {
            image::bundle_referrer(&keyless.descriptor(), &bundle).push(&world.registry, "chainguard/bundle", None);
        }
        let by_key = sized(6, 2);
        by_key.push(&world.registry, "acme/bundle", Some("latest"));
        let bundle = key.sign_bundle(&by_key.digest, None, &options);
        image::bundle_referrer(&by_key.descriptor(), &bundle).push(&world.registry, "acme/bundle", None);
        if matches!(referrers, Referrers::Missing) {
            world.registry.put_referrers_tag("chainguard/bundle", &keyless.digest);
            world.registry.put_referrers_tag("acme/bundle", &by_key.digest);
        }
        let pratique = world.pratique(&Setup::with_policy(&policies)).await;
        for repository in ["chainguard/bundle", "acme/bundle"] {
            let pulled = pull(&Client::plain(), &pratique.url(), repository, "latest").await;
            assert!(pulled.is_ok(), "{referrers:?} {repository}: {}", pulled.unwrap_err());
        }
    }
}
