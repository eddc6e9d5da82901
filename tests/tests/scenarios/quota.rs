//! What has left the store is missed and nothing else: fetched again where it may be, refused where it may not.

use std::{sync::atomic::Ordering, time::Duration};

use proxy::command::{self, Answer, CacheRequest, Reporter, Request};
use storage::{ContentClass, EdgeKind, Keeper};
use support::{
    client::Client,
    image,
    pull::pull,
    upstream::Call,
    world::{Pratique, Setup, World, moved_by_hand},
};

use crate::sized;

const LAYER_BYTES: usize = 100_000;

async fn with_budget(world: &World, max_bytes: usize) -> Pratique {
    world.pratique(&Setup { storage: format!("max_bytes = {max_bytes}"), ..Setup::default() }).await
}

fn is_stored(world: &World, digest: &oci::Digest) -> bool {
    world.directory.path().join("store/blobs/sha256").join(digest.hex()).exists()
}

fn blobs_asked(world: &World) -> usize {
    world.registry.calls().iter().filter(|call| matches!(call, Call { path, .. } if path.contains("/blobs/"))).count()
}

#[tokio::test]
async fn an_evicted_layer_is_fetched_again_and_its_image_is_still_admitted() {
    let world = World::new().await;
    let (old, new) = (sized(LAYER_BYTES, 1), sized(LAYER_BYTES, 2));
    world.push_signed("chainguard/old", "latest", &old);
    world.push_signed("chainguard/new", "latest", &new);
    let pratique = with_budget(&world, LAYER_BYTES * 3 / 2).await;
    let (client, url) = (Client::plain(), pratique.url());
    for repository in ["chainguard/old", "chainguard/new"] {
        pull(&client, &url, repository, "latest").await.unwrap();
    }
    let (layer, bytes) = old.layers()[0].clone();
    assert!(!is_stored(&world, &layer) && is_stored(&world, &new.layers()[0].0) && is_stored(&world, &old.digest));
    world.registry.clear_calls();
    let again = client.get(&format!("{url}/v2/chainguard/old/blobs/{layer}"), &[]).await.unwrap();
    assert_eq!((again.status.as_u16(), again.received()), (200, &bytes));
    assert_eq!((world.registry.calls().len(), blobs_asked(&world)), (1, 1), "the layer, and no signature");
    assert!(!is_stored(&world, &new.layers()[0].0), "now the other one is older");
}

#[tokio::test]
async fn a_layer_larger_than_the_budget_is_served_whole_and_nothing_leaves_for_it() {
    let world = World::new().await;
    let (small, large) = (sized(1000, 1), sized(LAYER_BYTES, 2));
    world.push_signed("chainguard/small", "latest", &small);
    world.push_signed("chainguard/large", "latest", &large);
    let pratique = with_budget(&world, 5000).await;
    let (client, url) = (Client::plain(), pratique.url());
    pull(&client, &url, "chainguard/small", "latest").await.unwrap();
    for _ in 0..2 {
        pull(&client, &url, "chainguard/large", "latest").await.unwrap();
        assert!(!is_stored(&world, &large.layers()[0].0) && is_stored(&world, &small.layers()[0].0));
    }
}

#[tokio::test]
async fn what_was_removed_is_answered_from_nowhere() {
    let mut world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&Setup::default()).await;
    let (client, url) = (Client::plain(), pratique.url());
    for _ in 0..2 {
        pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    }
    let request =
        CacheRequest::Rm { images: vec![format!("cgr.dev/chainguard/nginx@{}", image.digest)], dry_run: false };
    let answer = command::answer(&pratique.server.app, Request::Cache(request), &Reporter::default()).await;
    assert!(matches!(answer, Answer::Cache(_)), "{answer:?}");
    world.registry.stop().await;
    let (layer, _) = image.layers()[0].clone();
    for path in [format!("manifests/{}", image.digest), "manifests/latest".to_owned(), format!("blobs/{layer}")] {
        let answer = client.get(&format!("{url}/v2/chainguard/nginx/{path}"), &[]).await.unwrap();
        assert!(!answer.status.is_success(), "{path}: {}", answer.status);
    }
    assert!(!is_stored(&world, &image.digest) && !is_stored(&world, &layer));
}

fn metadata_bytes(pratique: &Pratique) -> u64 {
    pratique.server.app.store.facts().read().unwrap().totals().unwrap().metadata.bytes
}

fn metadata_max(bytes: u64) -> Setup {
    Setup { storage: format!("metadata_max_bytes = {bytes}"), ..Setup::default() }
}

#[tokio::test]
async fn metadata_leaves_a_running_server_for_its_own_budget_alone() {
    let (millis, clock) = moved_by_hand(1_790_000_000_000);
    let world = World::new().await;
    let images: Vec<_> = (0..4).map(|seed| sized(1000, seed)).collect();
    let pratique = world.try_pratique(&Setup::default(), clock).await.unwrap();
    let keeper = Keeper::new(pratique.server.app.store.clone());
    for (number, image) in images.iter().enumerate() {
        let tag = format!("v{number}");
        world.push_signed("chainguard/nginx", &tag, image);
        pull(&Client::plain(), &pratique.url(), "chainguard/nginx", &tag).await.unwrap();
        // What the server does every few seconds.
        keeper.settle().await.unwrap();
        if number == 0 {
            pratique.reload(&world, &metadata_max(metadata_bytes(&pratique) * 5 / 2)).await.unwrap();
        }
        millis.fetch_add(16 * 60_000, Ordering::SeqCst);
    }
    let oldest = &images[0].digest;
    let left = async {
        while is_stored(&world, oldest) {
            keeper.settle().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left).await.expect("the oldest image leaves");
    assert!(is_stored(&world, &images[3].digest));
}

#[tokio::test]
async fn images_that_are_refused_do_not_push_out_those_that_are_served() {
    let (millis, clock) = moved_by_hand(1_790_000_000_000);
    let world = World::new().await;
    let good = sized(1000, 1);
    world.push_signed("chainguard/nginx", "latest", &good);
    let pratique = world.try_pratique(&Setup::default(), clock).await.unwrap();
    let (client, url) = (Client::plain(), pratique.url());
    pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    Keeper::new(pratique.server.app.store.clone()).settle().await.unwrap();
    pratique.reload(&world, &metadata_max(metadata_bytes(&pratique) * 3 / 2)).await.unwrap();
    millis.fetch_add(16 * 60_000, Ordering::SeqCst);
    let unsigned: Vec<_> = (0..40).map(|seed| sized(1000, 100 + seed)).collect();
    for (number, image) in unsigned.iter().enumerate() {
        image.push(&world.registry, "chainguard/nginx", Some(&format!("unsigned-{number}")));
        let answer = client.get(&format!("{url}/v2/chainguard/nginx/manifests/{}", image.digest), &[]).await.unwrap();
        assert_eq!(answer.status, 403);
    }
    millis.fetch_add(16 * 60_000, Ordering::SeqCst);
    command::answer(&pratique.server.app, Request::Cache(CacheRequest::Gc { dry_run: false }), &Reporter::default())
        .await;
    let kept = unsigned.iter().filter(|image| is_stored(&world, &image.digest)).count();
    assert!(kept < unsigned.len(), "something had to leave");
    assert!(is_stored(&world, &good.digest));
}

#[tokio::test]
async fn what_a_refused_manifest_calls_a_layer_does_not_change_its_budget() {
    let world = World::new().await;
    let good = sized(LAYER_BYTES, 1);
    world.push_signed("chainguard/nginx", "latest", &good);
    let (layer, bytes) = good.layers()[0].clone();
    // Its config is the other image's layer, it says.
    let evil = image::Builder::new("linux/amd64").config_as("application/vnd.oci.image.config.v1+json", bytes).build();
    evil.push(&world.registry, "chainguard/evil", Some("latest"));
    let pratique = world.pratique(&Setup::default()).await;
    let (client, url) = (Client::plain(), pratique.url());
    let answer = client.get(&format!("{url}/v2/chainguard/evil/manifests/latest"), &[]).await.unwrap();
    assert_eq!(answer.status, 403);
    pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    let store = &pratique.server.app.store;
    Keeper::new(store.clone()).settle().await.unwrap();
    let snapshot = store.facts().read().unwrap();
    assert!(snapshot.reached_by(&layer, None, 9).unwrap().iter().any(|(_, edge)| edge.kind == EdgeKind::Config));
    assert_eq!(snapshot.content(&layer).unwrap().unwrap().class, ContentClass::Layer);
}

#[tokio::test]
async fn what_was_removed_in_one_repository_is_served_in_the_other() {
    let mut world = World::new().await;
    let image = sized(1000, 1);
    let repositories = ["chainguard/nginx", "chainguard/other"];
    for repository in repositories {
        world.push_signed(repository, "latest", &image);
    }
    let pratique = world.pratique(&Setup::default()).await;
    let (client, url) = (Client::plain(), pratique.url());
    for repository in repositories {
        pull(&client, &url, repository, "latest").await.unwrap();
    }
    let request =
        CacheRequest::Rm { images: vec![format!("cgr.dev/chainguard/nginx@{}", image.digest)], dry_run: false };
    let answer = command::answer(&pratique.server.app, Request::Cache(request), &Reporter::default()).await;
    assert!(matches!(answer, Answer::Cache(_)), "{answer:?}");
    world.registry.stop().await;
    let layer = &image.layers()[0].0;
    for path in [format!("manifests/{}", image.digest), format!("blobs/{layer}")] {
        let gone = client.get(&format!("{url}/v2/chainguard/nginx/{path}"), &[]).await.unwrap();
        assert!([404, 503].contains(&gone.status.as_u16()), "{path}: {}", gone.status);
        let there = client.get(&format!("{url}/v2/chainguard/other/{path}"), &[]).await.unwrap();
        assert_eq!(there.status, 200, "{path}");
    }
}
