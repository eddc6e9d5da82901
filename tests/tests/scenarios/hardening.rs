//! What a review as an attacker found, and must not come back.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use oci::{Digest, MediaType};
use support::{
    image::{self, Builder},
    sigstore::{Options, Signer},
    upstream::{Call, Fault, Registry, noise},
    world::{Setup, World},
};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{chainguard_policy, get, sized, static_policy};

const REPOSITORY: &str = "chainguard/nginx";

fn policy(name: &str, glob: &str, mode: &str) -> String {
    chainguard_policy(name, glob).replace("spec:\n", &format!("spec:\n  mode: {mode}\n"))
}

fn url(pratique: &support::world::Pratique, rest: &str) -> String {
    format!("{}/v2/{REPOSITORY}/{rest}", pratique.url())
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let world = World::new().await;
    let pratique = world
        .pratique(
            &Setup::default().sections("[limits]\nrequest_header_timeout = \"1s\"\nclient_idle_timeout = \"1s\"\n"),
        )
        .await;
    let mut tcp = TcpStream::connect(pratique.server.address).await.unwrap();
    let mut buffer = [0; 16];
    let read = timeout(Duration::from_secs(6), tcp.read(&mut buffer)).await;
    assert!(read.is_ok(), "still open after 6 s");
}

#[tokio::test]
async fn a_signed_artifact_that_refers_to_a_signed_image_can_be_pulled_after_it() {
    let world = World::new().await;
    let image = sized(5000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let artifact = Builder::new("linux/amd64")
        .layer_as("application/vnd.example.chart", noise(3000, 2), std::collections::BTreeMap::new())
        .subject(&image.descriptor())
        .artifact_type("application/vnd.example")
        .build();
    world.push_signed(REPOSITORY, "chart", &artifact);
    let pratique = world.pratique(&Setup::default()).await;
    assert_eq!(get(&url(&pratique, "manifests/latest")).await.status, 200);
    assert_eq!(get(&url(&pratique, "manifests/chart")).await.status, 200);
    for (digest, _) in &artifact.blobs {
        let answer = get(&url(&pratique, &format!("blobs/{digest}"))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_piece_as_large_as_all_the_room_does_not_stop_the_others() {
    let world = World::new().await;
    let evil = sized(100, 9);
    evil.push(&world.registry, REPOSITORY, Some("evil"));
    let (config, layer) = (Digest::sha256(b"{}"), Digest::sha256(b"not there"));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{m}","config":{{"mediaType":"{c}","digest":"{config}","size":2}},"layers":[{{"mediaType":"{s}","digest":"{layer}","size":1048576}}]}}"#,
        m = MediaType::OCI_MANIFEST,
        c = MediaType::OCI_CONFIG,
        s = MediaType::SIMPLE_SIGNING,
    );
    world.registry.put_manifest(
        REPOSITORY,
        Some(&image::cosign_tag(&evil.digest, "sig")),
        MediaType::OCI_MANIFEST,
        manifest,
    );
    let good = sized(5000, 1);
    world.push_signed(REPOSITORY, "good", &good);
    let limits = "[limits]\nevidence_bytes_max = \"1MiB\"\nattestation_bytes_max = \"1MiB\"\nevidence_memory_bytes_max = \"1MiB\"\ndecision_timeout = \"20s\"\n";
    let pratique = world.pratique(&Setup::default().sections(limits)).await;
    let evil = get(&url(&pratique, "manifests/evil")).await;
    let good = get(&url(&pratique, "manifests/good")).await;
    assert_eq!((evil.status.as_u16(), good.status.as_u16()), (403, 200), "{} / {}", evil.text(), good.text());
}

#[tokio::test]
async fn under_warn_an_image_that_is_signed_later_is_served_without_warning() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let setup = Setup::with_policy(&policy("lax", "cgr.dev/**", "warn"))
        .sections("[verdicts]\nabsent_ttl = \"1s\"\nrefused_ttl = \"1s\"\n");
    let pratique = world.pratique(&setup).await;
    let first = get(&url(&pratique, "manifests/latest")).await;
    assert!(first.header("warning").is_some(), "{}", first.status);
    world.sign(REPOSITORY, &image, &Signer::chainguard(), &Options::default());
    sleep(Duration::from_secs(3)).await;
    let later = get(&url(&pratique, "manifests/latest")).await;
    assert_eq!((later.status.as_u16(), later.header("warning")), (200, None));
}

#[tokio::test]
async fn upstream_text_in_an_error_is_bounded() {
    let world = World::new().await;
    let (config, long) = (Digest::sha256(b"{}"), "\\u001b[31mA".repeat(100_000));
    let manifest = format!(
        r#"{{"schemaVersion":"{long}","mediaType":"{m}","config":{{"mediaType":"{c}","digest":"{config}","size":2}},"layers":[]}}"#,
        m = MediaType::OCI_MANIFEST,
        c = MediaType::OCI_CONFIG,
    );
    world.registry.put_manifest(REPOSITORY, Some("long"), MediaType::OCI_MANIFEST, manifest);
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&url(&pratique, "manifests/long")).await;
    assert!(answer.text().len() < 64 * 1024, "{}: {} bytes", answer.status, answer.text().len());
}

#[tokio::test]
async fn a_signature_tag_is_looked_up_again_after_its_ttl_however_often_it_is_asked_for() {
    let world = World::new().await;
    let image = sized(5000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let pratique = world.pratique(&Setup::default().sections("[tags]\nttl = \"1s\"\n")).await;
    let tag = image::cosign_tag(&image.digest, "sig");
    assert_eq!(get(&url(&pratique, &format!("manifests/{tag}"))).await.status, 200);
    world.registry.clear_calls();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        assert_eq!(get(&url(&pratique, &format!("manifests/{tag}"))).await.status, 200);
        sleep(Duration::from_millis(300)).await;
    }
    assert!(world.registry.count(|call| call.mentions(&tag)) > 0, "not asked for 4 s at a ttl of 1 s");
}

#[tokio::test]
async fn after_a_reload_a_signed_index_still_carries_its_children_where_one_source_is_out() {
    let world = World::new().await;
    let child = sized(5000, 1);
    let index = image::index([child.clone()]);
    index.push(&world.registry, REPOSITORY, Some("latest"));
    let signature = world.sigstore.sign_legacy(
        &Signer::chainguard(),
        &format!("cgr.dev/{REPOSITORY}"),
        &index.digest,
        &Options::default(),
    );
    image::signature_manifest(&[signature]).push(
        &world.registry,
        REPOSITORY,
        Some(&image::cosign_tag(&index.digest, "sig")),
    );
    world.registry.fault(support::upstream::Call::is_referrers, Fault::status(503));
    let pratique = world.pratique(&Setup::with_policy(&policy("one", "cgr.dev/chainguard/**", "enforce"))).await;
    assert_eq!(get(&url(&pratique, "manifests/latest")).await.status, 200);
    assert_eq!(get(&url(&pratique, &format!("manifests/{}", child.digest))).await.status, 200);
    pratique.reload(&world, &Setup::with_policy(&policy("two", "cgr.dev/**", "enforce"))).await.unwrap();
    for (digest, _) in &child.blobs {
        let answer = get(&url(&pratique, &format!("blobs/{digest}"))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_referrer_that_could_not_be_asked_for_is_not_silently_left_out() {
    let world = World::new().await;
    let image = sized(5000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    let referrer = image::bundle_referrer(&image.descriptor(), &bundle);
    referrer.push(&world.registry, REPOSITORY, None);
    let wanted = referrer.digest.to_string();
    world.registry.fault(move |call| call.is_manifest() && call.mentions(&wanted), Fault::status(503));
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&url(&pratique, &format!("referrers/{}", image.digest))).await;
    let told = answer.status != 200 || answer.header("warning").is_some();
    assert!(told, "{} {}", answer.status, answer.text());
}

#[tokio::test]
async fn evidence_of_a_subject_that_cannot_be_decided_is_not_refused() {
    let world = World::new().await;
    let image = sized(5000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    let referrer = image::bundle_referrer(&image.descriptor(), &bundle);
    referrer.push(&world.registry, REPOSITORY, None);
    let hex = image.digest.hex().to_owned();
    world.registry.fault(move |call| call.mentions(&hex), Fault::status(503));
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&url(&pratique, &format!("manifests/{}", referrer.digest))).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
}

#[tokio::test]
async fn one_piece_that_cannot_be_fetched_does_not_hide_a_good_one_of_the_same_source() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    image::bundle_referrer(&image.descriptor(), &bundle).push(&world.registry, REPOSITORY, None);
    let other = world.sigstore.sign_bundle(&Signer::fork(), &image.digest, &Options::default());
    let other = image::bundle_referrer(&image.descriptor(), &other);
    other.push(&world.registry, REPOSITORY, None);
    let wanted = other.digest.to_string();
    world.registry.fault(move |call| call.is_manifest() && call.mentions(&wanted), Fault::status(503));
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&url(&pratique, "manifests/latest")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn over_http2_a_body_that_is_not_taken_breaks_after_a_reload_that_refuses_and_after_the_write_timeout() {
    use http_body_util::BodyExt as _;
    let world = World::new().await;
    let image = sized(200_000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let setup = || {
        Setup::with_policy(&policy("one", "cgr.dev/**", "enforce")).sections(
            "[limits]\nclient_write_timeout = \"1s\"\nclient_idle_timeout = \"1s\"\nrequest_header_timeout = \"1s\"\n",
        )
    };
    let pratique = world.pratique(&setup()).await;
    assert_eq!(get(&url(&pratique, "manifests/latest")).await.status, 200);
    let (layer, bytes) = image.layers()[0].clone();
    assert_eq!(get(&url(&pratique, &format!("blobs/{layer}"))).await.status, 200);
    let tcp = TcpStream::connect(pratique.server.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .initial_stream_window_size(1024)
        .initial_connection_window_size(65_535)
        .handshake::<_, http_body_util::Empty<bytes::Bytes>>(hyper_util::rt::TokioIo::new(tcp))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request =
        http::Request::get(url(&pratique, &format!("blobs/{layer}"))).body(http_body_util::Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    sleep(Duration::from_millis(500)).await;
    let other = policy("two", "cgr.dev/**", "enforce").replace(&Signer::chainguard().subject, &Signer::fork().subject);
    let mut refusing = setup();
    refusing.policies = vec![("policy.yaml".to_owned(), other)];
    pratique.reload(&world, &refusing).await.unwrap();
    assert_eq!(get(&url(&pratique, &format!("blobs/{layer}"))).await.status, 403);
    sleep(Duration::from_secs(4)).await;
    let outcome = answer.into_body().collect().await;
    let whole = outcome.is_ok_and(|body| body.to_bytes() == bytes);
    assert!(!whole, "complete 4 s after the reload that refuses it, and 3 s after the write timeout");
}

#[tokio::test]
async fn a_blob_hit_asks_nobody_where_evidence_of_a_refused_subject_holds_it_too() {
    let world = World::new().await;
    let subject = sized(5000, 1);
    subject.push(&world.registry, REPOSITORY, Some("subject"));
    // Signed until its digest is in the lower half, so that an image with a higher one is soon found: every signature is another.
    let evidence = std::iter::repeat_with(|| {
        let bundle = world.sigstore.sign_bundle(&Signer::fork(), &subject.digest, &Options::default());
        image::bundle_referrer(&subject.descriptor(), &bundle)
    })
    .find(|evidence| evidence.digest.hex() < "8")
    .unwrap();
    evidence.push(&world.registry, REPOSITORY, None);
    let config = evidence.config().unwrap().0.clone();
    let config_bytes = evidence.config().unwrap().1.clone();
    let image = (0..1000)
        .map(|seed| {
            Builder::new("linux/amd64")
                .config_as(MediaType::OCI_CONFIG, config_bytes.clone())
                .layer(noise(1000, seed))
                .build()
        })
        .find(|image| image.digest > evidence.digest)
        .expect("one of a thousand digests in the upper half");
    world.push_signed(REPOSITORY, "latest", &image);
    let ttl = "[verdicts]\nabsent_ttl = \"1s\"\nrefused_ttl = \"1s\"\n";
    let pass = policy("pass", "cgr.dev/**", "enforce").split("    keyless").next().unwrap().to_owned()
        + "    static:\n      action: pass\n";
    let pratique = world.pratique(&Setup::with_policy(&pass).sections(ttl)).await;
    assert_eq!(get(&url(&pratique, &format!("manifests/{}", subject.digest))).await.status, 200);
    let listed = get(&url(&pratique, &format!("referrers/{}", subject.digest))).await;
    assert!(listed.text().contains(&evidence.digest.to_string()), "{}", listed.text());
    pratique.reload(&world, &Setup::with_policy(&policy("two", "cgr.dev/**", "enforce")).sections(ttl)).await.unwrap();
    assert_eq!(get(&url(&pratique, "manifests/latest")).await.status, 200);
    assert_eq!(get(&url(&pratique, &format!("blobs/{config}"))).await.status, 200);
    sleep(Duration::from_secs(2)).await;
    world.registry.clear_calls();
    assert_eq!(get(&url(&pratique, &format!("blobs/{config}"))).await.status, 200);
    let calls: Vec<_> = world.registry.calls().iter().map(|call| call.path.clone()).collect();
    assert!(calls.is_empty(), "{calls:?}");
}

#[tokio::test]
async fn a_reload_with_a_bad_certificate_changes_nothing() {
    let world = World::new().await;
    let ca = support::upstream::TestCa::new().unwrap();
    let (certificate, key) = ca.server_pem(support::upstream::Certificate::Good).unwrap();
    let write = |name: &str, text: &str| std::fs::write(world.directory.path().join(name), text).unwrap();
    write("tls.crt", &certificate);
    write("tls.key", &key);
    let setup = |name: &str| {
        Setup::with_policy(&policy(name, "cgr.dev/**", "enforce"))
            .sections("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n")
    };
    let pratique = world.pratique(&setup("one")).await;
    write("tls.crt", "none");
    assert!(pratique.reload(&world, &setup("two")).await.is_err());
    assert_eq!(pratique.server.app.in_force().judge.policies().policies()[0].name(), "one");
}

#[tokio::test]
async fn the_manifest_of_a_referrer_is_as_small_as_such_are() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    let padded = Builder::new("linux/amd64")
        .layer_as("application/vnd.dev.sigstore.bundle.v0.3+json", bundle.clone(), std::collections::BTreeMap::new())
        .subject(&image.descriptor())
        .artifact_type("application/vnd.dev.sigstore.bundle.v0.3+json")
        .annotation("padding", &"x".repeat(300_000))
        .build();
    padded.push(&world.registry, REPOSITORY, None);
    let ttl = "[verdicts]\nabsent_ttl = \"0s\"\nrefused_ttl = \"0s\"\n";
    let pratique = world.pratique(&Setup::default().sections(ttl)).await;
    let refused = get(&url(&pratique, "manifests/latest")).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    image::bundle_referrer(&image.descriptor(), &bundle).push(&world.registry, REPOSITORY, None);
    let answer = get(&url(&pratique, "manifests/latest")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Room for twelve large ones, all of which this upstream would take.
#[tokio::test]
async fn an_upstream_whose_large_manifests_do_not_come_takes_no_room_from_another_one() {
    const LARGE: usize = 12;
    let (world, slow) = (World::new().await, Registry::builder().start().await.unwrap());
    let large = |number: usize| {
        let padding = number.to_string().repeat(100_000);
        Builder::new("linux/amd64").layer(noise(100, number as u64)).annotation("padding", &padding).build()
    };
    let image = large(0);
    world.push_signed("chainguard/large", "latest", &image);
    let images: Vec<_> = (1..=LARGE).map(large).collect();
    for image in &images {
        image.push(&slow, "large", None);
    }
    let stalled = slow.fault(Call::is_get, Fault::Stall(80_000));
    let policies =
        chainguard_policy("ours", "cgr.dev/**") + "---\n" + &static_policy("theirs", "mirror.example/**", "pass");
    let more = format!(
        "[limits]\nmanifest_memory_bytes_max = \"64MiB\"\nmanifest_cache_bytes_max = \"1MiB\"\n[[upstreams]]\nname = \"mirror.example\"\nurl = \"{}\"\nprefix = \"mirror\"\n",
        slow.url()
    );
    let pratique = world.pratique(&Setup::with_policy(&policies).sections(&more)).await;
    let url = pratique.url();
    let urls = images.iter().map(|image| format!("{url}/v2/mirror/large/manifests/{}", image.digest));
    let waiting = tokio::spawn(join_all(urls.map(|url| async move { get(&url).await })));
    stalled.hit(LARGE).await.unwrap();
    assert_eq!(get(&format!("{url}/v2/chainguard/large/manifests/{}", image.digest)).await.status, 200);
    // Those that were left for want of room were asked for again.
    stalled.clear();
    for answer in waiting.await.unwrap() {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}
