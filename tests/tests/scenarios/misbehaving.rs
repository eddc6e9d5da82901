//! Upstreams whose answers are none: they say nothing about the content, and nothing of them is remembered as if they did.

use std::time::{Duration, Instant};

use oci::MediaType;
use support::{
    client::Client,
    image,
    pull::pull,
    upstream::{Call, Fault, ends_with},
    world::{Setup, World},
};

use crate::{get, sized};

const REPOSITORY: &str = "chainguard/nginx";
/// A digest that nobody has.
const NOBODYS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn signature(call: &Call) -> bool {
    call.is_manifest() && call.path.ends_with(".sig")
}

/// A signed image, and the manifest of its signature as text.
async fn signed() -> (World, String) {
    let world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let manifest = world.registry.manifest(REPOSITORY, &image::cosign_tag(&image.digest, "sig")).unwrap();
    (world, String::from_utf8(manifest.to_vec()).unwrap())
}

/// What comes of a pull while faults are in force, and after them.
async fn during_and_after(world: &World) -> (u16, u16) {
    let pratique = world.pratique(&Setup::default()).await;
    let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
    let during = get(&url).await;
    world.registry.clear_faults();
    let after = get(&url).await;
    assert!(during.status != 503 || during.header("retry-after").is_some());
    (during.status.as_u16(), after.status.as_u16())
}

#[tokio::test]
async fn a_damaged_signature_manifest_is_undecided_and_leaves_no_refusal_behind() {
    let key = "dev.cosignproject.cosign/signature\":\"";
    for fault in [
        Fault::Corrupt(0),
        Fault::content_type("text/html"),
        Fault::Gzip,
        Fault::Length(5),
        Fault::Status { code: 400, headers: Vec::new() },
    ] {
        let (world, _) = signed().await;
        let damaged = world.registry.fault(signature, fault.clone());
        assert_eq!(during_and_after(&world).await, (503, 200), "{fault:?}");
        assert!(damaged.hits() > 0, "{fault:?}");
    }
    // It can still be read, and what it says is another signature.
    let (world, manifest) = signed().await;
    let at = manifest.find(key).expect("a signature in its annotation") + key.len();
    world.registry.fault(signature, Fault::Corrupt(at as u64));
    assert_eq!(during_and_after(&world).await, (503, 200));
    // A page that somebody put in the way: nobody vouches for it.
    let (world, _) = signed().await;
    world.registry.fault(signature, Fault::instead("text/html", "<html>log in</html>"));
    world.registry.fault(signature, Fault::without_header("docker-content-digest"));
    assert_eq!(during_and_after(&world).await, (503, 200));
}

#[tokio::test]
async fn a_damaged_piece_of_evidence_is_undecided_and_leaves_no_refusal_behind() {
    let (world, manifest) = signed().await;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let piece = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    for fault in [Fault::Corrupt(3), Fault::Length(5), Fault::Gzip] {
        world.registry.fault(ends_with(&piece), fault.clone());
        let pratique = world.pratique(&Setup::default()).await;
        let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
        let during = get(&url).await;
        assert_eq!(during.status, 503, "{fault:?}: {}", during.text());
        world.registry.clear_faults();
        assert_eq!(get(&url).await.status, 200, "{fault:?}");
        pratique.stop().await;
        std::fs::remove_dir_all(world.directory.path().join("store")).unwrap();
    }
}

#[tokio::test]
async fn a_signature_manifest_that_was_published_unreadable_is_refused() {
    let world = World::new().await;
    let image = sized(1000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let tag = image::cosign_tag(&image.digest, "sig");
    world.registry.put_manifest(REPOSITORY, Some(&tag), MediaType::OCI_MANIFEST, "{\"layers\":");
    assert_eq!(during_and_after(&world).await, (403, 403));
}

#[tokio::test]
async fn a_wrong_digest_header_of_a_good_signature_is_ignored() {
    let (world, _) = signed().await;
    world.registry.fault(signature, Fault::digest_header(NOBODYS));
    assert_eq!(during_and_after(&world).await, (200, 200));
}

#[tokio::test]
async fn a_limited_rate_met_on_evidence_is_429_with_upstreams_patience() {
    let (world, _) = signed().await;
    world.registry.fault(signature, Fault::too_many_requests(7));
    let pratique = world.pratique(&Setup::default()).await;
    let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
    let answer = get(&url).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, Some("7")), "{}", answer.text());
}

/// Out for ten minutes, as it says.
fn out() -> Fault {
    Fault::Status { code: 503, headers: vec![("retry-after".to_owned(), "600".to_owned())] }
}

#[tokio::test]
async fn an_upstream_that_is_out_for_one_repository_stops_no_pull_of_another() {
    let (world, _) = signed().await;
    let image = sized(1000, 2);
    world.push_signed("chainguard/other", "latest", &image);
    let broken = world.registry.fault(|call| call.path.contains("/chainguard/nginx/"), out());
    let pratique = world.pratique(&Setup::default()).await;
    let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
    for _ in 0..10 {
        let answer = get(&url).await;
        let patience: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert_eq!((answer.status.as_u16(), patience > 500), (503, true), "{}", answer.text());
    }
    assert_eq!(broken.hits(), 1, "it has said when to ask for that again");
    let pulled = pull(&Client::plain(), &pratique.url(), "chainguard/other", "latest").await.unwrap();
    assert_eq!(pulled.manifests[0].0, image.digest);
}

#[tokio::test]
async fn referrers_that_upstream_is_out_for_stop_no_pull_of_what_is_signed_otherwise() {
    let (world, _) = signed().await;
    let images: Vec<_> = (2..4).map(|seed| sized(1000, seed)).collect();
    for (n, image) in images.iter().enumerate() {
        world.push_signed(REPOSITORY, &format!("v{n}"), image);
    }
    world.registry.fault(Call::is_referrers, out());
    let pratique = world.pratique(&Setup::default()).await;
    // What the second and the third pull ask for is asked for after the answer to the first.
    for tag in ["latest", "v0", "v1"] {
        pull(&Client::plain(), &pratique.url(), REPOSITORY, tag).await.unwrap_or_else(|error| panic!("{tag}: {error}"));
    }
}

#[tokio::test]
async fn a_malformed_digest_header_of_a_tag_is_ignored() {
    for bad in ["md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:12", "latest", ""] {
        let (world, _) = signed().await;
        world.registry.fault(Call::is_manifest, Fault::digest_header(bad));
        let image = sized(1000, 1);
        let pratique = world.pratique(&Setup::default()).await;
        let pulled = pull(&Client::plain(), &pratique.url(), REPOSITORY, "latest").await.unwrap();
        assert_eq!(pulled.manifests[0].0, image.digest, "{bad}");
    }
}

#[tokio::test]
async fn a_head_without_digest_is_followed_by_one_get() {
    let without = Fault::without_header("docker-content-digest");
    for fault in [without, Fault::status(405), Fault::status(501)] {
        let (world, _) = signed().await;
        world.registry.fault(Call::is_head, fault.clone());
        let image = sized(1000, 1);
        let pratique = world.pratique(&Setup::default()).await;
        let pulled = pull(&Client::plain(), &pratique.url(), REPOSITORY, "latest").await.unwrap();
        assert_eq!(pulled.manifests[0].0, image.digest, "{fault:?}");
        let gets = world.registry.count(|call| call.is_get() && call.path.ends_with("/manifests/latest"));
        assert_eq!(gets, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_digest_that_the_get_of_a_tag_lies_about_is_ignored() {
    let image = sized(1000, 1);
    let other = sized(1000, 2);
    // What nobody has, and what is signed and there: neither is what the tag means.
    for lie in [NOBODYS.to_owned(), other.digest.to_string()] {
        let (world, _) = signed().await;
        world.push_signed(REPOSITORY, "other", &other);
        world.registry.fault(Call::is_head, Fault::status(405));
        let lying = world
            .registry
            .fault(|call| call.is_get() && call.path.ends_with("/manifests/latest"), Fault::digest_header(&lie));
        let pratique = world.pratique(&Setup::default()).await;
        let url = format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url());
        let answer = get(&url).await;
        assert_eq!((answer.status.as_u16(), answer.received()), (200, &image.manifest), "{lie}: {}", answer.text());
        assert_eq!(answer.header("docker-content-digest"), Some(&*image.digest.to_string()), "{lie}");
        let pulled = pull(&Client::plain(), &pratique.url(), REPOSITORY, "latest").await.unwrap();
        assert_eq!(pulled.manifests[0].0, image.digest, "{lie}");
        assert!(lying.hits() > 0, "{lie}");
        // Nothing is remembered under the digest that was told.
        let lied_about = get(&format!("{}/v2/{REPOSITORY}/manifests/{lie}", pratique.url())).await;
        let want = if lie == NOBODYS { 404 } else { 200 };
        assert_eq!(lied_about.status, want, "{lie}: {}", lied_about.text());
        assert!(want == 404 || lied_about.received() == &other.manifest);
    }
}

#[tokio::test]
async fn an_upstream_that_trickles_for_one_image_is_503_in_time_and_another_of_its_images_is_served_meanwhile() {
    let (world, _) = signed().await;
    let (slow, other) = (sized(200_000, 3), sized(200_000, 2));
    world.push_signed(REPOSITORY, "slow", &slow);
    world.push_signed("chainguard/other", "latest", &other);
    let limits = "[limits]\ndecision_timeout = \"4s\"\nfill_timeout = \"6s\"\nupstream_stall_timeout = \"2s\"\n";
    let pratique = world.pratique(&Setup::default().sections(limits)).await;
    let base = format!("{}/v2/{REPOSITORY}", pratique.url());
    // A byte a second: no pause is too long, and neither ends within an hour.
    let a_byte_a_second = || Fault::Trickle { bytes: 1, pause: Duration::from_secs(1) };
    let layer = &slow.layers()[0].0;
    let trickling_blob = world.registry.fault(ends_with(layer), a_byte_a_second());
    let trickling = world.registry.fault(ends_with(&slow.digest), a_byte_a_second());
    for (url, trickling) in
        [(format!("{base}/manifests/{}", slow.digest), &trickling), (format!("{base}/blobs/{layer}"), &trickling_blob)]
    {
        let began = Instant::now();
        let client = Client::plain();
        let asked = client.get(&url, &[]);
        let others = async {
            trickling.hit(1).await.unwrap();
            let began = Instant::now();
            let pulled = pull(&Client::plain(), &pratique.url(), "chainguard/other", "latest").await.unwrap();
            assert_eq!(pulled.manifests[0].0, other.digest);
            began.elapsed()
        };
        let (answer, others) = tokio::join!(asked, others);
        let (answer, whole) = (answer.unwrap(), began.elapsed());
        // A manifest has no head before it is there; what has come of a blob is sent as it comes.
        let is_told = answer.status == 503 && answer.header("retry-after").is_some();
        let is_cut = answer.status == 200 && answer.is_broken();
        assert!(
            if url.contains("/manifests/") { is_told } else { is_cut },
            "{url}: {} {}",
            answer.status,
            answer.text()
        );
        assert!(whole < Duration::from_secs(30), "{url}: {whole:?}");
        assert!(others < whole, "{url}: another image took {others:?}, and the one that trickled {whole:?}");
        trickling.clear();
        // On a busy machine an upstream that is well again may be late as well.
        let recovered = async {
            loop {
                let answer = get(&url).await;
                if answer.status == 200 && !answer.is_broken() {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), recovered).await.expect("it is served when upstream is well");
    }
}

#[tokio::test]
async fn no_other_status_of_a_head_is_followed_by_a_get() {
    for (code, status) in [(400, 502), (403, 503), (404, 404), (406, 502), (500, 503), (502, 503)] {
        let (world, _) = signed().await;
        world.registry.fault(Call::is_head, Fault::status(code));
        let pratique = world.pratique(&Setup::default()).await;
        let answer = get(&format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url())).await;
        assert_eq!(answer.status, status, "{code}: {}", answer.text());
        assert_eq!(world.registry.count(|call| call.is_get() && call.is_manifest()), 0, "{code}");
    }
}

#[tokio::test]
async fn a_corrupt_blob_is_told_as_wrong_or_breaks_off() {
    let world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let pratique = world.pratique(&Setup::default()).await;
    assert_eq!(get(&format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url())).await.status, 200);
    let digest = image.layers()[0].0.clone();
    world.registry.fault(ends_with(&digest), Fault::Corrupt(3));
    let answer = get(&format!("{}/v2/{REPOSITORY}/blobs/{digest}", pratique.url())).await;
    // A digest is known at the end: the head of the answer may have left by then.
    let is_told = answer.status == 502 && answer.text().contains("\"DIGEST_INVALID\"");
    let is_broken = answer.status == 200 && answer.is_broken();
    assert!(is_told || is_broken, "{} {}", answer.status, answer.text());
}

/// The config of a signature's manifest is kept for who asks for the signature; nobody judges by it.
#[tokio::test]
async fn what_nobody_judges_by_holds_up_no_verdict() {
    let (world, signature) = signed().await;
    let document: serde_json::Value = serde_json::from_str(&signature).unwrap();
    let config = document["config"]["digest"].as_str().unwrap().to_owned();
    let hanging = world.registry.fault(move |call| call.path.ends_with(&config), Fault::Hang);
    // Longer than anything but the answer itself may take.
    let limits = "[limits]\nupstream_response_timeout = \"300s\"\n";
    let pratique = world.pratique(&Setup::default().sections(limits)).await;
    let answer = get(&format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(hanging.hits() > 0);
    hanging.clear();
}
