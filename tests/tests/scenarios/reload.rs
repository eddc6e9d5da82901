//! A policy holds from the reload on: for answers that begin, and for bodies under way.

use std::time::Duration;

use http::Method;
use support::{
    client::Client,
    image,
    pull::pull,
    sigstore::Signer,
    upstream::{Certificate, Fault, TestCa, ends_with},
    world::{Setup, World},
};

use crate::{chainguard_policy, get, keyless_policy, sized, static_policy};

fn chainguard() -> Setup {
    Setup::with_policy(&chainguard_policy("chainguard-public", "cgr.dev/chainguard/**"))
}

/// Other words, the same signer.
fn same_signer_other_policy() -> Setup {
    Setup::with_policy(&chainguard_policy("renamed", "cgr.dev/**"))
}

fn another_signer() -> Setup {
    let fork = Signer::fork();
    Setup::with_policy(&keyless_policy("fork-only", "cgr.dev/**", &fork.issuer, &fork.subject))
}

#[tokio::test]
async fn between_manifest_and_blobs_a_reload_that_still_admits_lets_the_pull_end_well() {
    let world = World::new().await;
    let image = sized(100_000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    let manifest = format!("{}/v2/chainguard/nginx/manifests/latest", pratique.url());
    assert_eq!(get(&manifest).await.status, 200);
    world.registry.clear_calls();
    pratique.reload(&world, &same_signer_other_policy()).await.unwrap();
    for (digest, bytes) in &image.blobs {
        let answer = get(&format!("{}/v2/chainguard/nginx/blobs/{digest}", pratique.url())).await;
        assert_eq!((answer.status.as_u16(), answer.received()), (200, bytes));
    }
    // Judged again from stored evidence: only the blobs were fetched.
    assert_eq!(world.registry.count(|call| !call.is_blob() && !call.is_storage()), 0);
}

#[tokio::test]
async fn between_manifest_and_blobs_a_reload_that_refuses_lets_no_answer_begin() {
    let world = World::new().await;
    let image = sized(100_000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    pull(&Client::plain(), &pratique.url(), "chainguard/nginx", "latest").await.unwrap();
    pratique.reload(&world, &another_signer()).await.unwrap();
    for path in ["manifests/latest".to_owned(), format!("manifests/{}", image.digest)]
        .into_iter()
        .chain(image.blobs.iter().map(|(digest, _)| format!("blobs/{digest}")))
    {
        let answer = get(&format!("{}/v2/chainguard/nginx/{path}", pratique.url())).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    pratique.reload(&world, &chainguard()).await.unwrap();
    pull(&Client::plain(), &pratique.url(), "chainguard/nginx", "latest").await.unwrap();
}

#[tokio::test]
async fn a_body_in_flight_breaks_within_a_second_of_the_reload_that_refuses_it() {
    let world = World::new().await;
    let image = sized(4_000_000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    // Upstream stops in the middle: the body is under way and waits.
    let stalled = world.registry.fault(ends_with(&image.layers()[0].0), Fault::Stall(1_000_000));
    let pratique = world.pratique(&chainguard()).await;
    let (client, url) = (Client::plain(), pratique.url());
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/latest")).await.status, 200);
    let address = format!("{url}/v2/chainguard/nginx/blobs/{}", image.layers()[0].0);
    let mut open = client.open(Method::GET, &address, &[]).await.unwrap();
    assert_eq!(open.status, 200);
    open.at_least(500_000).await.unwrap();
    pratique.reload(&world, &another_signer()).await.unwrap();
    // A second is for a machine that is not busy. Were it not for the reload it would wait for upstream, for half a minute.
    let rest = tokio::time::timeout(Duration::from_secs(10), open.whole()).await.expect("the body ends soon");
    assert!(rest.is_broken());
    stalled.release();
}

#[tokio::test]
async fn a_stored_body_in_flight_breaks_too_and_one_that_still_passes_goes_on() {
    let world = World::new().await;
    let image = sized(64_000_000, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    let (client, url) = (Client::plain(), pratique.url());
    pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    let address = format!("{url}/v2/chainguard/nginx/blobs/{}", image.layers()[0].0);
    for (setup, passes) in [(same_signer_other_policy(), true), (another_signer(), false)] {
        let mut open = client.open(Method::GET, &address, &[]).await.unwrap();
        open.at_least(1_000_000).await.unwrap();
        pratique.reload(&world, &setup).await.unwrap();
        let rest = tokio::time::timeout(Duration::from_secs(10), open.drain()).await.expect("the body ends");
        assert_eq!(rest.complete, passes);
    }
}

#[tokio::test]
async fn over_http2_bodies_in_flight_break_by_the_reload_that_refuses_them_and_by_nothing_else() {
    let world = World::new().await;
    let (arriving, stored) = (sized(4_000_000, 1), sized(16_000_000, 2));
    for (tag, image) in [("arriving", &arriving), ("stored", &stored)] {
        world.push_signed("chainguard/nginx", tag, image);
    }
    let ca = TestCa::new().unwrap();
    let (certificate, key) = ca.server_pem(Certificate::Good).unwrap();
    std::fs::write(world.directory.path().join("tls.crt"), certificate).unwrap();
    std::fs::write(world.directory.path().join("tls.key"), key).unwrap();
    // Neither a client that takes nothing nor an upstream that sends nothing is given up within ten minutes.
    let patient = "[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n[limits]\nclient_write_timeout = \"10m\"\n\
                   client_idle_timeout = \"10m\"\nupstream_stall_timeout = \"10m\"\n";
    let stalled = world.registry.fault(ends_with(&arriving.layers()[0].0), Fault::Stall(1_000_000));
    let pratique = world.pratique(&chainguard().sections(patient)).await;
    let (client, base) = (Client::trusting(&ca.pem()).unwrap(), format!("{}/v2/chainguard/nginx", pratique.url()));
    let blob = |image: &image::Image| format!("{base}/blobs/{}", image.layers()[0].0);
    for tag in ["arriving", "stored"] {
        assert_eq!(client.get(&format!("{base}/manifests/{tag}"), &[]).await.unwrap().status, 200);
    }
    assert!(!client.get(&blob(&stored), &[]).await.unwrap().is_broken());
    for (setup, passes) in [(same_signer_other_policy(), true), (another_signer(), false)] {
        let mut open = Vec::new();
        for image in [&arriving, &stored] {
            let mut body = client.open(Method::GET, &blob(image), &[]).await.unwrap();
            assert_eq!((body.status.as_u16(), body.version), (200, http::Version::HTTP_2));
            body.at_least(500_000).await.unwrap();
            open.push(body);
        }
        let (last, mut first) = (open.pop().unwrap(), open.pop().unwrap());
        pratique.reload(&world, &setup.sections(patient)).await.unwrap();
        if passes {
            assert!(last.drain().await.complete);
            // It still waits, for longer than it takes the other one to break.
            let rest = tokio::time::timeout(Duration::from_secs(3), first.at_least(usize::MAX)).await;
            assert!(rest.is_err(), "{:?}", rest.map(|rest| rest.map(|rest| rest.len())));
            continue;
        }
        // A second is for a machine that is not busy.
        let both = async { tokio::join!(first.whole(), last.drain()) };
        let (first, last) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("both end soon");
        assert!(first.is_broken() && !last.complete);
        let why = first.body.unwrap_err().why;
        assert!(why.contains("stream error"), "the stream, and not the connection: {why}");
        // The connection goes on, and says no to who asks again.
        for image in [&arriving, &stored] {
            assert_eq!(client.get(&blob(image), &[]).await.unwrap().status, 403);
        }
    }
    stalled.release();
}

#[tokio::test]
async fn a_static_fail_for_one_digest_refuses_it_at_once_also_as_a_child() {
    let world = World::new().await;
    let (first, second) = (sized(5, 1), image::single("linux/arm64", [support::upstream::noise(6, 2)]));
    let index = image::index([first.clone(), second.clone()]);
    world.push_signed("chainguard/nginx", "latest", &index);
    let pratique = world.pratique(&chainguard()).await;
    let (client, url) = (Client::plain(), pratique.url());
    pull(&client, &url, "chainguard/nginx", "latest").await.unwrap();
    let base = chainguard_policy("chainguard-public", "cgr.dev/chainguard/**");
    let block = static_policy("blocked", &format!("cgr.dev/chainguard/nginx@{}", first.digest), "fail");
    world.registry.clear_calls();
    pratique.reload(&world, &Setup::with_policy(&format!("{base}---\n{block}"))).await.unwrap();
    let manifest = |digest| format!("{url}/v2/chainguard/nginx/manifests/{digest}");
    let blocked = get(&manifest(&first.digest)).await;
    assert_eq!(blocked.status, 403);
    assert!(blocked.text().contains("blocked"), "{}", blocked.text());
    assert_eq!(get(&format!("{url}/v2/chainguard/nginx/blobs/{}", first.layers()[0].0)).await.status, 403);
    assert_eq!(get(&manifest(&index.digest)).await.status, 200);
    assert_eq!(get(&manifest(&second.digest)).await.status, 200);
    assert_eq!(world.registry.calls().len(), 0, "refused by what is stored");
}

#[tokio::test]
async fn a_policy_that_does_not_load_leaves_the_last_good_one_in_force() {
    let world = World::new().await;
    let image = sized(5, 1);
    world.push_signed("chainguard/nginx", "latest", &image);
    let pratique = world.pratique(&chainguard()).await;
    for bad in [
        "",
        "kind: Nonsense\n",
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: x}\nspec: {images: [], authorities: []}\n",
    ] {
        let error = pratique.reload(&world, &Setup::with_policy(bad)).await.unwrap_err();
        assert!(error.to_string().contains("policy.yaml"), "{error}");
        let url = pratique.url();
        assert_eq!(get(&format!("{url}/v2/chainguard/nginx/manifests/latest")).await.status, 200);
        assert_eq!(get(&format!("{url}/v2/other/nginx/tags/list")).await.status, 403);
    }
}
