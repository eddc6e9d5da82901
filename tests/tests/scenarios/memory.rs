//! What is answered from memory is answered as if it had been looked up: no longer than it counts, and to nobody else.

use std::sync::atomic::Ordering;

use http::Method;
use oci::Digest;
use support::{
    client::Client,
    sigstore::{Options, Signer},
    upstream::ends_with,
    world::{Pratique, Setup, World, moved_by_hand},
};

use crate::{chainguard_policy, get, keyless_policy, sized, static_policy};

const REPOSITORY: &str = "cgr.dev/chainguard/nginx";

fn chainguard() -> Setup {
    Setup::with_policy(&chainguard_policy("chainguard-public", "cgr.dev/chainguard/**"))
}

fn manifest(pratique: &Pratique, reference: &str) -> String {
    format!("{}/v2/chainguard/nginx/manifests/{reference}", pratique.url())
}

/// Whether the admission is in memory and counts now.
fn is_in_memory(pratique: &Pratique, repository: &str, digest: &Digest) -> bool {
    let app = &pratique.server.app;
    app.admission.recalled(&app.in_force(), &repository.parse().unwrap(), digest).is_some()
}

/// Asks twice: the second look finds the verdict that the first one made, and is kept.
async fn warm(pratique: &Pratique, reference: &str) {
    for _ in 0..2 {
        assert_eq!(get(&manifest(pratique, reference)).await.status, 200, "{reference}");
    }
}

#[tokio::test]
async fn memory_and_store_give_one_answer_to_get_and_head() {
    let world = World::new().await;
    let image = sized(10, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    for reference in ["latest".to_owned(), image.digest.to_string()] {
        let first = get(&manifest(&pratique, &reference)).await;
        warm(&pratique, &reference).await;
        assert!(is_in_memory(&pratique, REPOSITORY, &image.digest), "{reference}");
        world.registry.clear_calls();
        let client = Client::plain();
        for method in [Method::GET, Method::HEAD] {
            let address = manifest(&pratique, &reference);
            let answer =
                if method == Method::GET { client.get(&address, &[]).await } else { client.head(&address, &[]).await };
            let answer = answer.unwrap();
            for header in
                ["content-type", "docker-content-digest", "etag", "cache-control", "content-length", "warning"]
            {
                assert_eq!(answer.header(header), first.header(header), "{method} {header}");
            }
            let body: &[u8] = if method == Method::GET { &image.manifest } else { b"" };
            assert_eq!(answer.received(), body, "{method}");
        }
        assert_eq!(world.registry.count(|_| true), 0, "a hit costs upstream nothing");
    }
}

#[tokio::test]
async fn a_reload_that_refuses_is_in_force_with_the_next_answer() {
    let world = World::new().await;
    let image = sized(10, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    let references = ["latest".to_owned(), image.digest.to_string()];
    for reference in &references {
        warm(&pratique, reference).await;
    }
    let fork = Signer::fork();
    let other = Setup::with_policy(&keyless_policy("fork-only", "cgr.dev/**", &fork.issuer, &fork.subject));
    pratique.reload(&world, &other).await.unwrap();
    assert!(!is_in_memory(&pratique, REPOSITORY, &image.digest));
    for reference in &references {
        assert_eq!(get(&manifest(&pratique, reference)).await.status, 403, "{reference}");
    }
    let (blob, _) = &image.blobs[0];
    assert_eq!(get(&format!("{}/v2/chainguard/nginx/blobs/{blob}", pratique.url())).await.status, 403);
}

#[tokio::test]
async fn a_verdict_that_has_ended_is_not_recalled() {
    let world = World::new().await;
    let image = sized(10, 1);
    image.push(&world.registry, "chainguard/nginx", Some("latest"));
    let (millis, clock) = moved_by_hand(1_790_000_000_000);
    // Nobody signed it: served with a warning that ends after verdicts.absent_ttl.
    let policy =
        chainguard_policy("chainguard-public", "cgr.dev/chainguard/**").replace("spec:", "spec:\n  mode: warn");
    let pratique = world.try_pratique(&Setup::with_policy(&policy), clock).await.unwrap();
    let digest = image.digest.to_string();
    warm(&pratique, &digest).await;
    assert!(is_in_memory(&pratique, REPOSITORY, &image.digest));
    assert!(get(&manifest(&pratique, &digest)).await.header("warning").unwrap().contains("not verified"));
    millis.fetch_add(86_400_000, Ordering::SeqCst);
    assert!(!is_in_memory(&pratique, REPOSITORY, &image.digest));
    // Nor one that was kept in the future.
    world.sign("chainguard/nginx", &image, &Signer::chainguard(), &Options::default());
    warm(&pratique, &digest).await;
    assert!(is_in_memory(&pratique, REPOSITORY, &image.digest));
    assert_eq!(get(&manifest(&pratique, &digest)).await.header("warning"), None);
    millis.fetch_sub(3_600_000, Ordering::SeqCst);
    assert!(!is_in_memory(&pratique, REPOSITORY, &image.digest));
}

#[tokio::test]
async fn what_was_forgotten_is_looked_up_in_the_store_again() {
    let world = World::new().await;
    let image = sized(10, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    warm(&pratique, "latest").await;
    assert!(is_in_memory(&pratique, REPOSITORY, &image.digest));
    pratique.server.app.admission.forget(&image.digest);
    assert!(!is_in_memory(&pratique, REPOSITORY, &image.digest));
    warm(&pratique, "latest").await;
    assert!(is_in_memory(&pratique, REPOSITORY, &image.digest));
}

#[tokio::test]
async fn another_repository_with_the_same_bytes_is_judged_by_itself() {
    let world = World::new().await;
    let image = sized(10, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    image.push(&world.registry, "chainguard/other", Some("latest"));
    let policies = chainguard_policy("chainguard-public", "cgr.dev/chainguard/nginx@**")
        + "---\n"
        + &static_policy("nobody", "cgr.dev/chainguard/other@**", "fail");
    let pratique = world.pratique(&Setup::with_policy(&policies)).await;
    warm(&pratique, &image.digest.to_string()).await;
    let other = |path: String| format!("{}/v2/chainguard/other/{path}", pratique.url());
    for _ in 0..2 {
        assert_eq!(get(&other(format!("manifests/{}", image.digest))).await.status, 403);
        assert!(!is_in_memory(&pratique, "cgr.dev/chainguard/other", &image.digest));
        assert_eq!(get(&other(format!("blobs/{}", image.blobs[0].0))).await.status, 403);
    }
}

#[tokio::test]
async fn a_rotten_stored_manifest_is_not_served_once_memory_has_let_go() {
    let world = World::new().await;
    let image = sized(10, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    warm(&pratique, "latest").await;
    let path = world.directory.path().join("store/blobs/sha256").join(image.digest.hex());
    let mut rotten = image.manifest.to_vec();
    rotten[20] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, rotten).unwrap();
    // What is in memory was hashed when it came in.
    assert_eq!(get(&manifest(&pratique, "latest")).await.received(), &image.manifest);
    pratique.server.app.admission.forget(&image.digest);
    world.registry.clear_calls();
    assert_eq!(get(&manifest(&pratique, "latest")).await.received(), &image.manifest);
    let fetched = world.registry.count(ends_with(&image.digest));
    assert_eq!(fetched, 1, "set aside and fetched again");
}

#[tokio::test]
async fn a_tag_in_memory_moves_when_its_time_is_over() {
    let world = World::new().await;
    let (old, new) = (sized(10, 1), sized(10, 2));
    world.push_signed("chainguard/nginx", "latest", &old);
    let (millis, clock) = moved_by_hand(1_790_000_000_000);
    let pratique = world.try_pratique(&chainguard(), clock).await.unwrap();
    warm(&pratique, "latest").await;
    world.push_signed("chainguard/nginx", "latest", &new);
    assert_eq!(get(&manifest(&pratique, "latest")).await.received(), &old.manifest, "within tags.ttl");
    millis.fetch_add(61_000, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(get(&manifest(&pratique, "latest")).await.received(), &new.manifest);
    }
}

#[tokio::test]
async fn a_permit_by_memory_ends_with_what_it_rests_on() {
    let world = World::new().await;
    let image = sized(10, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    warm(&pratique, "latest").await;
    let (blob, bytes) = &image.blobs[0];
    let repository = REPOSITORY.parse().unwrap();
    let patience = || pratique.server.app.in_force().patience();
    for _ in 0..3 {
        let answer = get(&format!("{}/v2/chainguard/nginx/blobs/{blob}", pratique.url())).await;
        assert_eq!((answer.status.as_u16(), answer.received()), (200, bytes));
        assert!(pratique.server.app.admission.permit(&repository, blob, patience()).await.is_ok());
    }
    // The manifest itself, another blob, another repository: memory of one blob says nothing about them.
    let stranger = Digest::sha256(b"stranger");
    for (repository, blob) in [(REPOSITORY, &image.digest), (REPOSITORY, &stranger), ("cgr.dev/chainguard/other", blob)]
    {
        assert!(pratique.server.app.admission.permit(&repository.parse().unwrap(), blob, patience()).await.is_err());
    }
    let refusing = Setup::with_policy(&static_policy("nobody", "cgr.dev/**", "fail"));
    pratique.reload(&world, &refusing).await.unwrap();
    assert!(pratique.server.app.admission.permit(&repository, blob, patience()).await.is_err());
}
