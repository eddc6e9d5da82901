//! One download for everyone, and no wrong byte completes.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use oci::Digest;
use support::{
    client::Client,
    image::Image,
    pull::pull,
    upstream::{Call, Fault, ends_with},
    world::{Pratique, Setup, World},
};

use crate::{chainguard_policy, get, sized, static_policy};

/// A world with the signed image `chainguard/big:latest`, and its one layer of so many bytes.
async fn big(bytes: usize) -> (World, Digest, Bytes) {
    let world = World::new().await;
    let image = sized(bytes, 1);
    world.push_signed("chainguard/big", "latest", &image);
    let (digest, bytes) = image.layers()[0].clone();
    (world, digest, bytes)
}

#[tokio::test]
async fn many_clients_of_one_cold_blob_cost_one_upstream_download() {
    let (world, digest, _) = big(20_000_000).await;
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    assert_eq!(get(&format!("{url}/v2/chainguard/big/manifests/latest")).await.status, 200);
    world.registry.clear_calls();
    let address = Arc::new(format!("{url}/v2/chainguard/big/blobs/{digest}"));
    let clients = (0..32).map(|number| {
        let address = Arc::clone(&address);
        async move {
            let open = Client::plain().open(Method::GET, &address, &[]).await.unwrap();
            // Every fourth client leaves early: the others get everything all the same.
            if number % 4 == 0 { None } else { Some(open.drain().await) }
        }
    });
    for drained in futures_util::future::join_all(clients).await.into_iter().flatten() {
        assert_eq!((drained.complete, drained.length, drained.digest), (true, 20_000_000, digest.clone()));
    }
    assert_eq!(world.registry.count(|call| call.is_get() && call.is_blob()), 1);
}

#[tokio::test]
async fn a_corrupted_blob_completes_at_no_client_whole_or_in_part_and_is_not_stored() {
    for at in [0, 500, 2_999_999] {
        let (world, digest, bytes) = big(3_000_000).await;
        world.registry.fault(ends_with(&digest), Fault::Corrupt(at));
        let pratique = world.pratique(&Setup::default()).await;
        let (client, url) = (Client::plain(), pratique.url());
        assert_eq!(get(&format!("{url}/v2/chainguard/big/manifests/latest")).await.status, 200);
        let address = format!("{url}/v2/chainguard/big/blobs/{digest}");
        let ranges = ["0-999", "0-0", "2999000-", "-1", "1000000-1999999", "0-0,7-1000000,2999000-"];
        let asked = ranges.iter().map(|range| client.get_range(&address, range));
        let (whole, parts) = tokio::join!(client.get(&address, &[]), futures_util::future::join_all(asked));
        for answer in [whole].into_iter().chain(parts) {
            let answer = answer.unwrap();
            let complete = answer.status.is_success() && !answer.is_broken();
            assert!(!complete, "byte {at}: {} completed", answer.status);
        }
        assert!(pratique.server.app.store.blobs().open(&digest).await.unwrap().is_none(), "nothing is stored");
        world.registry.clear_faults();
        let mended = client.get(&address, &[]).await.unwrap();
        assert_eq!((mended.status.as_u16(), mended.received()), (200, &bytes));
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_is_resumed_where_it_was() {
    let (world, digest, bytes) = big(3_000_000).await;
    world.registry.fault(ends_with(&digest), Fault::Truncate(1_000_000)).times(2);
    let pratique = world.pratique(&Setup::default()).await;
    let pulled = pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await.unwrap();
    assert_eq!(pulled.blobs[1], (digest.clone(), bytes));
    let asked: Vec<_> = world
        .registry
        .calls()
        .into_iter()
        .filter(ends_with(&digest))
        .map(|call| call.range().map(str::to_owned))
        .collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[0].is_none() && asked[1].is_some() && asked[2].is_some(), "{asked:?}");
}

#[tokio::test]
async fn an_upstream_that_ignores_range_is_compared_with_what_is_written() {
    for (tampered, passes) in [(false, true), (true, false)] {
        let (world, digest, _) = big(3_000_000).await;
        world.registry.fault(ends_with(&digest), Fault::Truncate(1_000_000)).times(1);
        world.registry.fault(ends_with(&digest), Fault::IgnoreRange);
        if tampered {
            world.registry.fault(ends_with(&digest), Fault::Corrupt(5)).after(1);
        }
        let pratique = world.pratique(&Setup::default()).await;
        let outcome = pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await;
        assert_eq!(outcome.is_ok(), passes, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_beginning_that_has_become_another_breaks_every_follower_and_a_new_file_begins() {
    let (world, digest, bytes) = big(3_000_000).await;
    let blob = ends_with(&digest);
    // The first answer is wrong from its fifth byte on and breaks off; the second does not do ranges, and is right.
    world.registry.fault(blob.clone(), Fault::Corrupt(5)).times(1);
    world.registry.fault(blob.clone(), Fault::Truncate(1_000_000)).times(1);
    let late = world.registry.fault(blob.clone(), Fault::Hang).after(1).times(1);
    world.registry.fault(blob.clone(), Fault::IgnoreRange);
    let pratique = world.pratique(&Setup::default()).await;
    assert_eq!(get(&format!("{}/v2/chainguard/big/manifests/latest", pratique.url())).await.status, 200);
    let address = format!("{}/v2/chainguard/big/blobs/{digest}", pratique.url());
    let client = Client::plain();
    let first = client.open(Method::GET, &address, &[]).await.unwrap();
    late.hit(1).await.unwrap();
    let part = client.open(Method::GET, &address, &[("range", "bytes=10-19")]).await.unwrap();
    late.release();
    let (first, part) = tokio::join!(first.drain(), part.drain());
    assert!(!first.complete && !part.complete, "{first:?} {part:?}");
    let again = client.get(&address, &[]).await.unwrap();
    assert_eq!((again.status.as_u16(), again.received()), (200, &bytes));
    // Broken off, compared, begun anew: the last client cost nothing more.
    assert_eq!(world.registry.count(blob), 3);
}

#[tokio::test]
async fn an_upstream_that_is_never_the_same_twice_is_given_up() {
    let (world, digest, _) = big(300_000).await;
    let blob = ends_with(&digest);
    let cut = world.registry.fault(blob.clone(), Fault::Truncate(200_000));
    world.registry.fault(blob.clone(), Fault::IgnoreRange);
    for spared in (1..64).step_by(2) {
        world.registry.fault(blob.clone(), Fault::Corrupt(5)).after(spared).times(1);
    }
    let pratique = world.pratique(&Setup::default()).await;
    assert!(pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await.is_err());
    // The client is told when the first file breaks; the fill tries another one by itself.
    cut.hit(3).await.unwrap();
    assert!(pratique.server.app.store.blobs().open(&digest).await.unwrap().is_none());
    let asked = world.registry.count(blob);
    assert!((3..=12).contains(&asked), "{asked} requests");
}

#[tokio::test]
async fn a_repository_that_refuses_in_the_middle_is_left_for_another_in_which_the_blob_is_permitted() {
    for code in [401, 403, 404, 429] {
        let world = World::new().await;
        let image = sized(3_000_000, 1);
        for repository in ["chainguard/one", "chainguard/other"] {
            world.push_signed(repository, "latest", &image);
        }
        let (digest, bytes) = image.layers()[0].clone();
        let at = |repository: &str| {
            let path = format!("/v2/{repository}/blobs/{digest}");
            move |call: &Call| call.path == path
        };
        world.registry.fault(at("chainguard/one"), Fault::Truncate(1_000_000)).times(1);
        let refusing = world.registry.fault(at("chainguard/one"), Fault::status(code)).after(1);
        let waiting = world.registry.fault(at("chainguard/one"), Fault::Hang).after(1);
        let pratique = world.pratique(&Setup::default()).await;
        let (client, url) = (Client::plain(), pratique.url());
        for repository in ["chainguard/one", "chainguard/other"] {
            assert_eq!(get(&format!("{url}/v2/{repository}/manifests/latest")).await.status, 200);
        }
        let of = |repository: &str| format!("{url}/v2/{repository}/blobs/{digest}");
        let one = client.open(Method::GET, &of("chainguard/one"), &[]).await.unwrap();
        waiting.hit(1).await.unwrap();
        let other = client.open(Method::GET, &of("chainguard/other"), &[]).await.unwrap();
        waiting.release();
        for open in [one, other] {
            let drained = open.drain().await;
            assert_eq!(
                (drained.complete, drained.length, &drained.digest),
                (true, bytes.len() as u64, &digest),
                "{code}"
            );
        }
        assert_eq!(refusing.hits(), 1, "{code}: a refusal is asked for once");
        let asked: Vec<_> = world.registry.calls().into_iter().filter(at("chainguard/other")).collect();
        assert_eq!(asked.len(), 1, "{code}");
        assert_eq!(asked[0].range(), Some("bytes=1000000-"), "{code}: the rest, not all of it again");
    }
}

#[tokio::test]
async fn a_repository_that_refuses_in_the_middle_and_has_no_other_breaks_the_answer() {
    for code in [401, 403, 404] {
        let world = World::new().await;
        let image = sized(3_000_000, 1);
        world.push_signed("chainguard/one", "latest", &image);
        // The same blob elsewhere, where nobody has ever asked for the image: no permission to fetch it there.
        world.push_signed("chainguard/other", "latest", &image);
        let digest = image.layers()[0].0.clone();
        let path = format!("/v2/chainguard/one/blobs/{digest}");
        let one = move |call: &Call| call.path == path;
        world.registry.fault(one.clone(), Fault::Truncate(1_000_000)).times(1);
        world.registry.fault(one, Fault::status(code)).after(1);
        let pratique = world.pratique(&Setup::default()).await;
        assert!(pull(&Client::plain(), &pratique.url(), "chainguard/one", "latest").await.is_err(), "{code}");
        assert!(pratique.server.app.store.blobs().open(&digest).await.unwrap().is_none());
        assert_eq!(world.registry.count(|call| call.path.contains("chainguard/other/blobs")), 0);
    }
}

/// The layer's file goes, as if it had left for the budget: manifests, verdicts and edges stay.
async fn evict(pratique: &Pratique, layer: &Digest) {
    let blobs = pratique.server.app.store.blobs();
    assert!(blobs.open(layer).await.unwrap().is_some());
    blobs.remove(layer).await.unwrap();
}

/// Two repositories with one image, and an upstream that breaks off in `chainguard/one` and then refuses with `code`.
async fn refused_in_one(code: u16) -> (World, Image) {
    let world = World::new().await;
    let image = sized(3_000_000, 1);
    for repository in ["chainguard/one", "chainguard/other"] {
        world.push_signed(repository, "latest", &image);
    }
    let path = format!("/v2/chainguard/one/blobs/{}", image.layers()[0].0);
    let one = move |call: &Call| call.path == path;
    world.registry.fault(one.clone(), Fault::Truncate(1_000_000)).times(1);
    world.registry.fault(one, Fault::status(code)).after(1);
    (world, image)
}

fn asked_in_other(world: &World) -> Vec<Call> {
    world.registry.calls().into_iter().filter(|call| call.path.contains("chainguard/other/")).collect()
}

#[tokio::test]
async fn a_refused_download_goes_on_from_a_repository_that_only_the_store_knows_to_be_permitted() {
    for code in [401, 403, 404] {
        let (world, image) = refused_in_one(code).await;
        let (layer, bytes) = image.layers()[0].clone();
        let (client, earlier) = (Client::plain(), world.pratique(&Setup::default()).await);
        pull(&client, &earlier.url(), "chainguard/other", "latest").await.unwrap();
        evict(&earlier, &layer).await;
        earlier.stop().await;
        world.registry.clear_calls();
        let pratique = world.pratique(&Setup::default()).await;
        let pulled = pull(&Client::plain(), &pratique.url(), "chainguard/one", "latest").await.unwrap();
        assert!(pulled.blobs.contains(&(layer.clone(), bytes)), "{code}");
        let [call] = asked_in_other(&world).try_into().unwrap();
        assert!(call.path.ends_with(&layer.to_string()), "{code}: nothing but the blob is asked for: {call:?}");
        assert_eq!(call.range(), Some("bytes=1000000-"), "{code}: the rest, not all of it again");
        assert!(pratique.server.app.store.blobs().open(&layer).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_refused_download_does_not_go_on_from_a_repository_that_is_not_admitted_any_more() {
    let (world, image) = refused_in_one(403).await;
    let layer = image.layers()[0].0.clone();
    let pratique = world.pratique(&Setup::with_policy(&chainguard_policy("all", "cgr.dev/chainguard/**"))).await;
    pull(&Client::plain(), &pratique.url(), "chainguard/other", "latest").await.unwrap();
    evict(&pratique, &layer).await;
    let fewer = chainguard_policy("one", "cgr.dev/chainguard/one@**")
        + "---\n"
        + &static_policy("other", "cgr.dev/chainguard/other@**", "fail");
    pratique.reload(&world, &Setup::with_policy(&fewer)).await.unwrap();
    world.registry.clear_calls();
    assert!(pull(&Client::plain(), &pratique.url(), "chainguard/one", "latest").await.is_err());
    assert!(asked_in_other(&world).is_empty(), "{:?}", asked_in_other(&world));
}

#[tokio::test]
async fn a_refused_download_does_not_go_on_from_another_upstream() {
    let (world, image) = refused_in_one(403).await;
    let layer = image.layers()[0].0.clone();
    let mirror =
        format!("[[upstreams]]\nname = \"mirror.example\"\nurl = \"{}\"\nprefix = \"mirror\"\n", world.registry.url());
    let policies =
        chainguard_policy("ours", "cgr.dev/**") + "---\n" + &static_policy("theirs", "mirror.example/**", "pass");
    let pratique = world.pratique(&Setup::with_policy(&policies).sections(&mirror)).await;
    pull(&Client::plain(), &pratique.url(), "mirror/chainguard/other", "latest").await.unwrap();
    evict(&pratique, &layer).await;
    world.registry.clear_calls();
    assert!(pull(&Client::plain(), &pratique.url(), "chainguard/one", "latest").await.is_err());
    assert!(asked_in_other(&world).is_empty(), "{:?}", asked_in_other(&world));
}

#[tokio::test]
async fn an_upstream_that_is_busy_for_a_moment_is_asked_again_when_it_wants() {
    let (world, digest, _) = big(300_000).await;
    let blob = ends_with(&digest);
    world.registry.fault(blob.clone(), Fault::Truncate(100_000)).times(1);
    world.registry.fault(blob.clone(), Fault::too_many_requests(1)).after(1).times(1);
    let busy = Fault::Status { code: 503, headers: vec![("retry-after".to_owned(), "1".to_owned())] };
    world.registry.fault(blob.clone(), busy).after(2).times(1);
    let pratique = world.pratique(&Setup::default()).await;
    pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await.unwrap();
    assert_eq!(world.registry.count(blob), 4);
}

#[tokio::test]
async fn an_upstream_that_answers_every_range_wrongly_is_asked_for_the_whole_and_compared() {
    let wrong_part = Fault::header("content-range", "bytes 0-1999999/3000000");
    let another_size = Fault::header("content-range", "bytes 1000000-2999998/2999999");
    for fault in [wrong_part, another_size, Fault::status(416), Fault::status(400), Fault::status(500)] {
        let (world, digest, bytes) = big(3_000_000).await;
        let of = |ranged: bool| {
            let blob = ends_with(&digest);
            move |call: &Call| blob(call) && call.range().is_some() == ranged
        };
        world.registry.fault(of(false), Fault::Truncate(1_000_000)).times(1);
        let wrong = world.registry.fault(of(true), fault.clone());
        let setup = Setup::default().sections("[limits]\nfill_pause_max = \"10ms\"\n");
        let pratique = world.pratique(&setup).await;
        let pulled = pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await;
        let pulled = pulled.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(pulled.blobs[1], (digest.clone(), bytes), "{fault:?}");
        assert!(wrong.hits() > 0, "{fault:?}: the rest is asked for first");
        assert_eq!(world.registry.count(of(false)), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_kept_of_a_download_does_not_stand_in_the_way_of_the_next_one() {
    let (world, digest, bytes) = big(3_000_000).await;
    let blob = ends_with(&digest);
    world.registry.fault(blob.clone(), Fault::Truncate(1_000_000)).times(1);
    let gone = world.registry.fault(blob.clone(), Fault::status(502)).after(1);
    let setup = Setup::default().sections("[limits]\nfill_pause_max = \"1ms\"\nfill_tries_max = 2\n");
    let pratique = world.pratique(&setup).await;
    assert!(pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await.is_err());
    gone.clear();
    // Whoever still reads what has come holds its name; after a restart nobody does.
    pratique.stop().await;
    let pratique = world.pratique(&setup).await;
    let address = format!("{}/v2/chainguard/big/blobs/{digest}", pratique.url());
    let no_ranges = world.registry.fault(|call| call.range().is_some(), Fault::status(416));
    let answer = get(&address).await;
    assert_eq!((answer.status.as_u16(), answer.received()), (200, &bytes));
    assert_eq!(no_ranges.hits(), 1, "what was kept is gone on with, as far as upstream lets us");
    // What was kept is another blob's: a new file begins.
    evict(&pratique, &digest).await;
    world.registry.fault(blob.clone(), Fault::Truncate(1_000_000)).times(1);
    world.registry.fault(blob.clone(), Fault::Corrupt(5)).times(1);
    assert!(get(&address).await.is_broken());
    let answer = get(&address).await;
    assert_eq!((answer.status.as_u16(), answer.received()), (200, &bytes));
}

#[tokio::test]
async fn a_blob_of_another_size_than_its_manifest_says_is_refused() {
    let (world, digest, _) = big(1000).await;
    for fault in [Fault::Length(999), Fault::Length(1001), Fault::Endless] {
        let injected = world.registry.fault(ends_with(&digest), fault.clone());
        let setup = Setup::default().sections("[limits]\nupstream_stall_timeout = \"300ms\"\n");
        let pratique = world.pratique(&setup).await;
        let outcome = pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await;
        // What comes after the end, or does not come before it, is first noticed in the middle of the answer or before any of it.
        let status = outcome.expect_err("no blob").status();
        assert!(status.is_none_or(|status| status == 502 || status == 503), "{fault:?}: {status:?}");
        assert!(pratique.server.app.store.blobs().open(&digest).await.unwrap().is_none());
        injected.clear();
        pratique.stop().await;
    }
}

#[tokio::test]
async fn who_leaves_fsync_never_goes_on_to_hash_what_it_left() {
    let (world, digest, _) = big(1_000_000).await;
    let storage = |text: &str| Setup { storage: format!("scrub_bytes_per_second = 1\n{text}"), ..Setup::default() };
    let careless = storage("fsync = \"never\"\nverify_reads = \"always\"");
    let careful = storage("fsync = \"always\"\nverify_reads = \"scrub\"");
    let file = world.directory.path().join("store/blobs/sha256").join(digest.hex());
    let half = || {
        let file = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        // As a power cut leaves it: its length is there, its end is not.
        file.set_len(600_000).unwrap();
        file.set_len(1_000_000).unwrap();
    };
    let broken = async |url: &str| {
        let answer = Client::plain().get(&format!("{url}/v2/chainguard/big/blobs/{digest}"), &[]).await.unwrap();
        answer.is_broken() || answer.status == 500
    };
    let pratique = world.pratique(&careless).await;
    pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await.unwrap();
    // A reload does not change how the store is written, and so not how it is read.
    pratique.reload(&world, &careful).await.unwrap();
    half();
    assert!(broken(&pratique.url()).await);
    pull(&Client::plain(), &pratique.url(), "chainguard/big", "latest").await.unwrap();
    pratique.stop().await;
    half();
    let pratique = world.pratique(&careful).await;
    assert!(broken(&pratique.url()).await);
}

#[tokio::test]
async fn damage_on_disk_is_never_served_when_every_read_is_verified() {
    let (world, digest, bytes) = big(1_000_000).await;
    let setup = Setup { top: Setup::default().top, ..Setup::default() };
    let config = world.write(&setup);
    let text = std::fs::read_to_string(&config)
        .unwrap()
        .replace("path = \"store\"", "path = \"store\"\nverify_reads = \"always\"");
    std::fs::write(&config, text).unwrap();
    let loaded =
        config::load_without_environment(&config::Overrides { config: Some(config), ..Default::default() }).unwrap();
    let server = proxy::server::Server::start(loaded, proxy::clock::Clock::system()).await.unwrap();
    let (client, url) = (Client::plain(), format!("http://{}", server.address));
    pull(&client, &url, "chainguard/big", "latest").await.unwrap();
    let file = world.directory.path().join("store/blobs/sha256").join(digest.hex());
    let address = format!("{url}/v2/chainguard/big/blobs/{digest}");
    for range in [None, Some("0-9"), Some("999990-")] {
        let mut damaged = std::fs::read(&file).unwrap();
        damaged[700_000] ^= 1;
        let mut permissions = std::fs::metadata(&file).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        std::fs::set_permissions(&file, permissions).unwrap();
        std::fs::write(&file, &damaged).unwrap();
        let answer = match range {
            None => client.get(&address, &[]).await.unwrap(),
            Some(range) => client.get_range(&address, range).await.unwrap(),
        };
        assert!(answer.is_broken() || answer.status == 500, "{range:?}: {}", answer.status);
        // Set aside, fetched again.
        let again = client.get(&address, &[]).await.unwrap();
        assert_eq!((again.status.as_u16(), again.received()), (200, &bytes), "{range:?}");
    }
}

#[tokio::test]
async fn a_blob_whose_upstream_hangs_is_503_within_the_decision_timeout_and_comes_with_the_next_request() {
    let (world, digest, bytes) = big(3_000_000).await;
    let hanging = world.registry.fault(ends_with(&digest), Fault::Hang);
    // Nothing else ends it in the time that is looked at.
    let limits = "[limits]\ndecision_timeout = \"5s\"\nupstream_response_timeout = \"60s\"\n";
    let setup = Setup::default().sections(limits);
    let pratique = world.pratique(&setup).await;
    assert_eq!(get(&format!("{}/v2/chainguard/big/manifests/latest", pratique.url())).await.status, 200);
    let address = format!("{}/v2/chainguard/big/blobs/{digest}", pratique.url());
    let began = std::time::Instant::now();
    let answer = get(&address).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && began.elapsed() < std::time::Duration::from_secs(15));
    hanging.release();
    assert_eq!(get(&address).await.received(), &bytes);
    assert_eq!(hanging.hits(), 1, "the same download");
}

#[tokio::test]
async fn a_download_whose_stream_is_reset_is_resumed_over_http2() {
    let world = World::with(support::upstream::Registry::builder().https()).await;
    let image = sized(3_000_000, 1);
    world.push_signed("chainguard/big", "latest", &image);
    let (digest, bytes) = image.layers()[0].clone();
    world.registry.fault(ends_with(&digest), Fault::Truncate(1_000_000)).times(1);
    let stalled = world.registry.fault(ends_with(&digest), Fault::Stall(1_000_000)).after(1).times(1);
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    let pulling = tokio::spawn(async move { pull(&Client::plain(), &url, "chainguard/big", "latest").await });
    // First the stream is reset, then the whole connection goes.
    stalled.hit(1).await.unwrap();
    world.registry.drop_connections();
    let pulled = pulling.await.unwrap().unwrap();
    assert_eq!(pulled.blobs[1], (digest.clone(), bytes));
    let calls = world.registry.calls();
    let asked: Vec<_> =
        calls.iter().filter(|call| call.is_blob() && call.path.ends_with(&digest.to_string())).collect();
    assert!(asked.iter().all(|call| call.version == http::Version::HTTP_2), "{asked:?}");
    let ranges: Vec<_> = asked.iter().map(|call| call.range().is_some()).collect();
    assert_eq!(ranges, [false, true, true], "{asked:?}");
}
