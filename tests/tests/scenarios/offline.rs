//! What was pulled once is there when upstream is not.

use std::sync::atomic::Ordering;

use proxy::clock::Clock;
use support::{
    client::Client,
    image,
    pull::pull,
    world::{Setup, World, moved_by_hand},
};

use crate::{get, sized};

const DAY: u64 = 86_400_000;

#[tokio::test]
async fn after_a_restart_without_upstream_the_same_pulls_work_until_max_stale() {
    let mut world = World::new().await;
    let index = image::index([sized(100_000, 1), image::single("linux/arm64", [support::upstream::noise(6, 2)])]);
    world.push_signed("chainguard/nginx", "latest", &index);
    let (time, clock) = moved_by_hand(1_790_000_000_000);
    let pratique = world.try_pratique(&Setup::default(), clock.clone()).await.unwrap();
    let client = Client::plain();
    let warm = pull(&client, &pratique.url(), "chainguard/nginx", "latest").await.unwrap();
    assert!(warm.warnings.is_empty());
    pratique.stop().await;
    world.registry.stop().await;

    time.fetch_add(DAY, Ordering::SeqCst);
    let pratique = world.try_pratique(&Setup::default(), clock.clone()).await.unwrap();
    let url = pratique.url();
    for reference in [index.digest.to_string(), "latest".to_owned()] {
        let pulled = pull(&client, &url, "chainguard/nginx", &reference).await.unwrap();
        assert_eq!((&pulled.manifests, &pulled.blobs), (&warm.manifests, &warm.blobs));
        let stale =
            pulled.warnings.iter().any(|warning| warning.contains("tag as of 24 h ago: upstream does not answer"));
        assert_eq!(stale, reference == "latest", "{:?}", pulled.warnings);
    }
    // Evidence that the judgement was made by is there too.
    let tag = image::cosign_tag(&index.digest, "sig");
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/{tag}")).await.status, 200);
    // After max_stale the tag says nothing any more; the digest still does.
    time.fetch_add(7 * DAY, Ordering::SeqCst);
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/latest")).await.status, 503);
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/{}", index.digest)).await.status, 200);
    // A clock that stepped back makes the tag's record one of the future: not believed. Digests are judged by signed time.
    time.store(1_765_000_000_000, Ordering::SeqCst);
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/latest")).await.status, 503);
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/{}", index.digest)).await.status, 200);
}

#[tokio::test]
async fn a_tag_that_upstream_dropped_ends_and_its_content_stays() {
    let world = World::new().await;
    let image = sized(5, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let (time, clock) = moved_by_hand(1_790_000_000_000);
    let pratique = world.try_pratique(&Setup::default(), clock).await.unwrap();
    let url = pratique.url();
    let tagged = format!("{url}/v2/chainguard/nginx/manifests/latest");
    assert_eq!(get(&tagged).await.status, 200);
    world.registry.delete_tag("chainguard/nginx", "latest");
    assert_eq!(get(&tagged).await.status, 200, "within tags.ttl");
    time.fetch_add(61_000, Ordering::SeqCst);
    assert_eq!(get(&tagged).await.status, 404);
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/{}", image.digest)).await.status, 200);
}

#[tokio::test]
async fn a_tag_that_moves_to_an_unsigned_image_is_refused_and_the_old_digest_stays() {
    let world = World::new().await;
    let (image, evil) = (sized(5, 1), sized(5, 2));
    world.push_signed("chainguard/nginx", "latest", &image);
    // Looked up for nobody else: who joins a look that began before is told what was so then.
    let pratique = world.pratique(&Setup::default().sections("[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n")).await;
    let url = pratique.url();
    let tagged = format!("{url}/v2/chainguard/nginx/manifests/latest");
    assert_eq!(get(&tagged).await.status, 200);
    evil.push(&world.registry, "chainguard/nginx", Some("latest"));
    assert_eq!(get(&tagged).await.status, 403);
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/{}", image.digest)).await.status, 200);
}

#[tokio::test]
async fn signed_time_decides_whatever_the_clock_says() {
    const DECADE: u64 = 3653 * DAY;
    let world = World::new().await;
    let image = sized(5, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let now = Clock::system().now().as_millis();
    // Ten years late: signed long ago, and signed all the same. Ten years early: signed in the future, which nobody can have been.
    for (start, status) in [(now + DECADE, 200), (now - DECADE, 403), (now, 200)] {
        let (_, clock) = moved_by_hand(start);
        let pratique = world.try_pratique(&Setup::default(), clock).await.unwrap();
        let url = format!("{}/v2/chainguard/nginx/manifests/{}", pratique.url(), image.digest);
        let answer = get(&url).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        pratique.stop().await;
    }
}
