//! The side doors are closed, the front door is open: evidence is content, content is not evidence.

use oci::{Descriptor, Digest, MediaType};
use support::{
    client::Client,
    image::{self, Builder, Image},
    pull::pull,
    sigstore::{Options, Signer},
    upstream::{Referrers, Registry},
    world::{Setup, World},
};

use crate::{get, sized};

const REPOSITORY: &str = "chainguard/nginx";

async fn with_admitted(builder: support::upstream::Builder) -> (World, Image) {
    let world = World::with(builder).await;
    let image = sized(5000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    (world, image)
}

fn manifest(url: &str, reference: &impl std::fmt::Display) -> String {
    format!("{url}/v2/{REPOSITORY}/manifests/{reference}")
}

fn blob(url: &str, digest: &Digest) -> String {
    format!("{url}/v2/{REPOSITORY}/blobs/{digest}")
}

/// Neither the manifest, by any name, nor any of its blobs is served.
async fn closed(url: &str, image: &Image, references: &[String]) {
    for reference in references.iter().cloned().chain([image.digest.to_string()]) {
        let answer = get(&manifest(url, &reference)).await;
        assert!([403, 404, 502].contains(&answer.status.as_u16()), "{reference}: {} {}", answer.status, answer.text());
    }
    for (digest, _) in &image.blobs {
        let status = get(&blob(url, digest)).await.status.as_u16();
        assert!([403, 404].contains(&status), "blob {digest}: {status}");
    }
}

#[tokio::test]
async fn a_runnable_image_under_a_signature_tag_is_judged_like_any_image() {
    let (world, image) = with_admitted(Registry::builder()).await;
    // Tags are looked up every time: what lies under them changes here.
    let pratique = world.pratique(&Setup::default().sections("[tags]\nttl = \"1ms\"\n")).await;
    pull(&Client::plain(), &pratique.url(), REPOSITORY, "latest").await.unwrap();
    for suffix in ["sig", "att", "sbom"] {
        let runnable = image::runnable("linux/amd64", suffix.as_bytes(), &[]);
        let tag = image::cosign_tag(&image.digest, suffix);
        runnable.push(&world.registry, REPOSITORY, Some(&tag));
        closed(&pratique.url(), &runnable, &[tag]).await;
    }
    // The image itself stands by what was collected.
    assert_eq!(get(&manifest(&pratique.url(), &image.digest)).await.status, 200);
}

#[tokio::test]
async fn a_runnable_image_as_a_referrer_of_an_admitted_subject_is_not_served() {
    let (world, image) = with_admitted(Registry::builder()).await;
    let runnable = Builder::new("linux/amd64")
        .layer(image::tar(&[image::Entry::executable("run", b"evil")]))
        .subject(&image.descriptor())
        .artifact_type("application/vnd.dev.sigstore.bundle.v0.3+json")
        .build();
    runnable.push(&world.registry, REPOSITORY, None);
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    closed(&url, &runnable, &[]).await;
    pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    closed(&url, &runnable, &[]).await;
    let listed = get(&format!("{url}/v2/{REPOSITORY}/referrers/{}", image.digest)).await;
    assert_eq!(listed.status, 200);
    assert!(!listed.text().contains(&runnable.digest.to_string()), "{}", listed.text());
}

#[tokio::test]
async fn an_archive_under_an_evidence_media_type_is_no_evidence() {
    let (world, image) = with_admitted(Registry::builder()).await;
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    let archive = image::tar(&[image::Entry::executable("run", b"evil")]);
    for media_type in [
        MediaType::SIMPLE_SIGNING,
        MediaType::DSSE,
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/spdx+json",
    ] {
        let disguised = Builder::new("linux/amd64")
            .layer_as(media_type, archive.clone(), std::collections::BTreeMap::new())
            .subject(&image.descriptor())
            .build();
        let tag = image::cosign_tag(&image.digest, "att");
        disguised.push(&world.registry, REPOSITORY, Some(&tag));
        closed(&url, &disguised, &[]).await;
    }
}

#[tokio::test]
async fn a_runnable_image_as_a_child_of_the_fallback_tag_index_is_not_served() {
    let (world, image) = with_admitted(Registry::builder().referrers(Referrers::Missing)).await;
    let runnable = image::runnable("linux/amd64", b"evil", &[]);
    runnable.push(&world.registry, REPOSITORY, None);
    let index = image::referrers_tag_index(std::slice::from_ref(&runnable));
    index.push(&world.registry, REPOSITORY, Some(&image::referrers_tag(&image.digest)));
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    // The suffix-less tag is judged like any image: nobody signed that index.
    closed(&url, &index, &[image::referrers_tag(&image.digest)]).await;
    closed(&url, &runnable, &[]).await;
}

#[tokio::test]
async fn a_digest_of_another_repository_is_unknown_here() {
    let (world, _) = with_admitted(Registry::builder()).await;
    let other = sized(7000, 9);
    world.push_signed("chainguard/other", "latest", &other);
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    pull(&Client::plain(), &url, "chainguard/other", "latest").await.unwrap();
    pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    assert_eq!(get(&manifest(&url, &other.digest)).await.status, 404);
    for (digest, _) in &other.blobs {
        assert_eq!(get(&blob(&url, digest)).await.status, 404);
    }
}

#[tokio::test]
async fn an_index_of_somebody_else_does_not_open_an_unsigned_child() {
    let (world, image) = with_admitted(Registry::builder()).await;
    let unsigned = sized(6000, 7);
    let index = image::index([image.clone(), unsigned.clone()]);
    index.push(&world.registry, REPOSITORY, Some("evil"));
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
    closed(&url, &index, &["evil".to_owned()]).await;
    closed(&url, &unsigned, &[]).await;
}

#[tokio::test]
async fn what_upstream_swaps_for_a_signed_child_is_no_content() {
    let world = World::new().await;
    let child = sized(5, 1);
    let index = image::index([child.clone()]);
    world.push_signed(REPOSITORY, "latest", &index);
    let evil = sized(5, 2);
    world.registry.fault(
        support::upstream::ends_with(&child.digest),
        support::upstream::Fault::instead(MediaType::OCI_MANIFEST, evil.manifest.clone()),
    );
    let pratique = world.pratique(&Setup::default()).await;
    assert_eq!(get(&manifest(&pratique.url(), &"latest")).await.status, 200);
    assert_eq!(get(&manifest(&pratique.url(), &child.digest)).await.status, 502);
    for digest in [&child.digest, &evil.digest] {
        assert!(pratique.server.app.store.blobs().open(digest).await.unwrap().is_none(), "{digest} is stored");
    }
    world.registry.clear_faults();
    assert_eq!(get(&manifest(&pratique.url(), &child.digest)).await.received(), &child.manifest);
}

#[tokio::test]
async fn evidence_of_an_admitted_image_is_served_byte_for_byte() {
    let (world, image) = with_admitted(Registry::builder()).await;
    let (signer, options) = (Signer::chainguard(), Options::default());
    let predicate = serde_json::json!({"spdxVersion": "SPDX-2.3"});
    let attestation =
        world.sigstore.attest_legacy(&signer, &image.digest, "https://spdx.dev/Document", &predicate, &options);
    let attested = image::attestation_manifest(&[attestation]);
    attested.push(&world.registry, REPOSITORY, Some(&image::cosign_tag(&image.digest, "att")));
    let bundle = world.sigstore.sign_bundle(&signer, &image.digest, &options);
    let referrer = image::bundle_referrer(&image.descriptor(), &bundle);
    referrer.push(&world.registry, REPOSITORY, None);
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    // Asked for before the image itself: it is judged first.
    let tag = image::cosign_tag(&image.digest, "sig");
    let upstreams = world.registry.manifest(REPOSITORY, &tag).unwrap();
    assert_eq!(get(&manifest(&url, &tag)).await.received(), &upstreams);
    let listed = get(&format!("{url}/v2/{REPOSITORY}/referrers/{}", image.digest)).await;
    assert_eq!(listed.header("content-type"), Some(MediaType::OCI_INDEX));
    let listed: serde_json::Value = serde_json::from_str(&listed.text()).unwrap();
    let listed: Vec<Descriptor> = serde_json::from_value(listed["manifests"].clone()).unwrap();
    assert!(listed.iter().any(|descriptor| descriptor.digest == referrer.digest));
    let filter = "artifactType=application%2Fvnd.example%2Bjson";
    let filtered = get(&format!("{url}/v2/{REPOSITORY}/referrers/{}?{filter}", image.digest)).await;
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert!(filtered.text().contains("\"manifests\":[]"));
    let attested_tag = image::cosign_tag(&image.digest, "att");
    assert_eq!(get(&manifest(&url, &attested_tag)).await.received(), &attested.manifest);
    for evidence in [&attested, &referrer] {
        assert_eq!(get(&manifest(&url, &evidence.digest)).await.status, 200);
        for (digest, bytes) in &evidence.blobs {
            let answer = get(&blob(&url, digest)).await;
            assert_eq!((answer.status.as_u16(), answer.received()), (200, bytes));
        }
    }
}

#[tokio::test]
async fn evidence_of_a_refused_image_is_refused() {
    let world = World::new().await;
    let image = sized(5, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    world.sign(REPOSITORY, &image, &Signer::fork(), &Options::default());
    let pratique = world.pratique(&Setup::default()).await;
    let url = pratique.url();
    assert_eq!(get(&manifest(&url, &image::cosign_tag(&image.digest, "sig"))).await.status, 403);
    assert_eq!(get(&format!("{url}/v2/{REPOSITORY}/referrers/{}", image.digest)).await.status, 403);
    assert_eq!(get(&manifest(&url, &image::cosign_tag(&image.digest, "att"))).await.status, 404);
    let nothing = Digest::sha256(b"nothing");
    let empty = get(&format!("{url}/v2/{REPOSITORY}/referrers/{nothing}")).await;
    assert_eq!((empty.status.as_u16(), empty.text().contains("\"manifests\":[]")), (200, true));
}

#[tokio::test]
async fn our_list_of_referrers_says_what_is_true_where_upstreams_lies() {
    let (world, image) = with_admitted(Registry::builder()).await;
    let other = sized(5, 9);
    let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    let (true_one, elsewhere) =
        (image::bundle_referrer(&image.descriptor(), &bundle), image::bundle_referrer(&other.descriptor(), &bundle));
    let listed: Vec<_> = [&true_one, &elsewhere]
        .map(|referrer| {
            referrer.push(&world.registry, REPOSITORY, None);
            serde_json::json!({
                "mediaType": MediaType::OCI_MANIFEST,
                "digest": referrer.digest.to_string(),
                "size": referrer.manifest.len(),
                "artifactType": "application/vnd.example.false",
                "annotations": {"org.example": "false"},
            })
        })
        .into();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": listed});
    world.registry.fault(
        support::upstream::Call::is_referrers,
        support::upstream::Fault::instead(MediaType::OCI_INDEX, index.to_string()),
    );
    let pratique = world.pratique(&Setup::default()).await;
    let told = get(&format!("{}/v2/{REPOSITORY}/referrers/{}", pratique.url(), image.digest)).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let told = told.text();
    assert!(told.contains(&true_one.digest.to_string()) && !told.contains(&elsewhere.digest.to_string()), "{told}");
    assert!(told.contains("application/vnd.dev.sigstore.bundle.v0.3+json") && !told.contains("false"), "{told}");
}

#[tokio::test]
async fn our_list_of_referrers_is_true_where_upstreams_tells_another_size_or_type() {
    for (field, lie) in [
        ("size", serde_json::json!(1)),
        ("size", serde_json::json!(1_000_000)),
        ("size", serde_json::json!(-1)),
        ("mediaType", serde_json::json!(MediaType::OCI_INDEX)),
        ("mediaType", serde_json::json!("application/vnd.docker.distribution.manifest.v2+json")),
        ("artifactType", serde_json::json!("application/vnd.example.false")),
    ] {
        let (world, image) = with_admitted(Registry::builder()).await;
        let bundle = world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
        let referrer = image::bundle_referrer(&image.descriptor(), &bundle);
        referrer.push(&world.registry, REPOSITORY, None);
        let mut listed = serde_json::json!({
            "mediaType": MediaType::OCI_MANIFEST,
            "digest": referrer.digest.to_string(),
            "size": referrer.manifest.len(),
        });
        listed[field] = lie.clone();
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [listed]});
        world.registry.fault(
            support::upstream::Call::is_referrers,
            support::upstream::Fault::instead(MediaType::OCI_INDEX, index.to_string()),
        );
        let pratique = world.pratique(&Setup::default()).await;
        let told = get(&format!("{}/v2/{REPOSITORY}/referrers/{}", pratique.url(), image.digest)).await;
        assert_eq!(told.status, 200, "{field} {lie}: {}", told.text());
        let told: serde_json::Value = serde_json::from_str(&told.text()).unwrap();
        // What no descriptor can say names nothing.
        let listed = usize::from(lie != -1);
        assert_eq!(told["manifests"].as_array().unwrap().len(), listed, "{field} {lie}: {told}");
        for told in told["manifests"].as_array().unwrap() {
            assert_eq!(told["digest"], referrer.digest.to_string(), "{field} {lie}");
            assert_eq!(told["size"], referrer.manifest.len(), "{field} {lie}");
            assert_eq!(told["mediaType"], MediaType::OCI_MANIFEST, "{field} {lie}");
            assert_eq!(told["artifactType"], "application/vnd.dev.sigstore.bundle.v0.3+json", "{field} {lie}");
        }
    }
}
