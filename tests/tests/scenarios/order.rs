//! Facts and directory are compared again and again, and nothing that is still needed goes with that.

use std::{sync::atomic::Ordering, time::Duration};

use oci::Digest;
use proxy::{
    clock::Clock,
    command::{self, CacheRequest, Reporter, Request},
    keeping,
};
use storage::{Change, Keeper};
use support::{
    client::Client,
    image,
    pull::pull,
    sigstore::{Options, Signer},
    upstream::ends_with,
    world::{Pratique, Setup, World, moved_by_hand},
};

use crate::{
    attestations::{Demand, demanding},
    get, sized,
};

const REPOSITORY: &str = "chainguard/nginx";

/// Compares twice, as a server does at its start and an hour later; what has arrived has its facts.
async fn compared_twice(pratique: &Pratique) {
    let app = &pratique.server.app;
    let keeper = Keeper::new(app.store.clone());
    for _ in 0..2 {
        keeping::put_in_order(app, &keeper, Duration::ZERO).await.unwrap();
    }
}

async fn status(pratique: &Pratique, digest: &Digest) -> (u16, String) {
    let answer = get(&format!("{}/v2/{REPOSITORY}/manifests/{digest}", pratique.url())).await;
    (answer.status.as_u16(), answer.text())
}

/// The same demand under another name: everything is judged again.
fn renamed(policy: &str) -> Setup {
    Setup::with_policy(&policy.replace("name: demanding", "name: renamed"))
}

fn of_another_repository() -> String {
    let source = "oci: cgr.dev/chainguard/signatures";
    demanding(&Signer::chainguard(), &Demand { source, ..Demand::default() })
}

/// An image whose signature lies in another repository.
fn signed_elsewhere(world: &World) -> image::Image {
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let signature = world.sigstore.sign_legacy(&Signer::chainguard(), "cgr.dev/x", &image.digest, &Options::default());
    let tag = image::cosign_tag(&image.digest, "sig");
    image::signature_manifest(&[signature]).push(&world.registry, "chainguard/signatures", Some(&tag));
    image
}

#[tokio::test]
async fn evidence_of_another_repository_is_there_when_the_image_is_judged_again_without_upstream() {
    let mut world = World::new().await;
    let image = signed_elsewhere(&world);
    let pratique = world.pratique(&Setup::with_policy(&of_another_repository())).await;
    assert_eq!(status(&pratique, &image.digest).await.0, 200);
    compared_twice(&pratique).await;
    world.registry.stop().await;
    pratique.reload(&world, &renamed(&of_another_repository())).await.unwrap();
    let (status, text) = status(&pratique, &image.digest).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn configs_of_children_that_nobody_pulled_are_there_when_the_index_is_judged_again_without_upstream() {
    let mut world = World::new().await;
    let index = image::index([sized(5000, 1), image::single("linux/arm64", [support::upstream::noise(6000, 2)])]);
    world.push_signed(REPOSITORY, "latest", &index);
    let rule = "package sigstore\ndefault isCompliant = false\nisCompliant {\n  input.config[\"linux/arm64\"].os == \"linux\"\n}\n";
    let policy = demanding(&Signer::chainguard(), &Demand { rule, ..Demand::default() });
    let pratique = world.pratique(&Setup::with_policy(&policy)).await;
    assert_eq!(status(&pratique, &index.digest).await.0, 200);
    compared_twice(&pratique).await;
    world.registry.stop().await;
    pratique.reload(&world, &renamed(&policy)).await.unwrap();
    let (status, text) = status(&pratique, &index.digest).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn evidence_that_only_a_note_of_an_older_version_names_is_not_removed() {
    let mut world = World::new().await;
    let image = signed_elsewhere(&world);
    let pratique = world.pratique(&Setup::with_policy(&of_another_repository())).await;
    assert_eq!(status(&pratique, &image.digest).await.0, 200);
    let facts = pratique.server.app.store.facts();
    let repository = format!("cgr.dev/{REPOSITORY}").parse::<oci::Repository>().unwrap();
    let note = facts.read().unwrap().evidence(&repository, &image.digest).unwrap().unwrap();
    let (digest, names) = (image.digest.clone(), Vec::new());
    facts.apply(vec![Change::Evidence { repository, digest, bytes: note, names }]).await.unwrap();
    compared_twice(&pratique).await;
    world.registry.stop().await;
    pratique.reload(&world, &renamed(&of_another_repository())).await.unwrap();
    let (status, text) = status(&pratique, &image.digest).await;
    assert_eq!(status, 200, "{text}");
}

fn is_stored(world: &World, digest: &Digest) -> bool {
    world.directory.path().join("store/blobs/sha256").join(digest.hex()).exists()
}

/// A world with two pulled images, whose pratique was stopped and has lost its facts.
async fn without_facts(clock: &Clock) -> (World, [image::Image; 2]) {
    let world = World::new().await;
    let images = [sized(5000, 1), sized(6000, 2)];
    let pratique = world.try_pratique(&Setup::default(), clock.clone()).await.unwrap();
    for (tag, image) in ["one", "two"].iter().zip(&images) {
        world.push_signed(REPOSITORY, tag, image);
        pull(&Client::plain(), &pratique.url(), REPOSITORY, tag).await.unwrap();
    }
    pratique.stop().await;
    std::fs::remove_file(world.directory.path().join("store/facts.redb")).unwrap();
    (world, images)
}

#[tokio::test]
async fn layers_outlast_the_loss_of_the_facts_for_two_weeks_and_are_hits_when_their_manifest_comes_back() {
    let (millis, clock) = moved_by_hand(1_790_000_000_000);
    let (world, [one, two]) = without_facts(&clock).await;
    let pratique = world.try_pratique(&Setup::default(), clock).await.unwrap();
    let kept = |image: &image::Image| is_stored(&world, &image.layers()[0].0);
    compared_twice(&pratique).await;
    assert!(kept(&one) && kept(&two));
    world.registry.clear_calls();
    pull(&Client::plain(), &pratique.url(), REPOSITORY, "one").await.unwrap();
    assert_eq!(world.registry.count(ends_with(&one.layers()[0].0)), 0, "its layer was there");
    let past = u64::try_from(keeping::LOST_KEPT.as_millis()).unwrap();
    millis.fetch_add(past - 1, Ordering::SeqCst);
    compared_twice(&pratique).await;
    assert!(kept(&one) && kept(&two));
    millis.fetch_add(1, Ordering::SeqCst);
    compared_twice(&pratique).await;
    assert!(kept(&one) && !kept(&two), "nobody has asked for it");
}

#[tokio::test]
async fn who_asks_for_room_ends_the_time_that_what_was_lost_is_kept() {
    let (world, [one, _]) = without_facts(&Clock::system()).await;
    let pratique = world.pratique(&Setup::default()).await;
    compared_twice(&pratique).await;
    for (dry_run, kept) in [(true, true), (false, false)] {
        command::answer(&pratique.server.app, Request::Cache(CacheRequest::Gc { dry_run }), &Reporter::default()).await;
        compared_twice(&pratique).await;
        assert_eq!(is_stored(&world, &one.layers()[0].0), kept);
    }
}
