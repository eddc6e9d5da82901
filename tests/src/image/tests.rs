use std::collections::{BTreeMap, BTreeSet};

use oci::{ManifestKind, ManifestLimits, UntrustedManifest};
use serde_json::{Value, json};

use super::*;
use crate::sigstore::{
    COSIGN_SIGN, Flaw, Form, KeyKind, KeySigner, Layout, Options, Shape, Signer, VirtualSigstore, mint, predicate,
};

fn parsed(image: &Image) -> UntrustedManifest {
    let limits = ManifestLimits { layers_max: 100, manifests_max: 100, json_depth_max: 16 };
    UntrustedManifest::parse(image.addressed(), Some(image.media_type.as_str()), &limits).unwrap()
}

fn parts(image: &Image) -> (Descriptor, Vec<Descriptor>) {
    match parsed(image).kind().clone() {
        ManifestKind::Image { config, layers } => (config, layers),
        ManifestKind::Index { .. } => panic!("an image is not an index"),
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn manifests_point_at_their_blobs() {
    let oci = Builder::new("linux/arm64/v8").layer(filler(4096, 1)).layer(filler(8192, 2));
    for image in
        [oci.clone().build(), oci.clone().flavor(Flavor::Docker).build(), oci.algorithm(Algorithm::Sha512).build()]
    {
        let (config, layers) = parts(&image);
        let pointed: Vec<_> = std::iter::once(config).chain(layers).map(|one| (one.digest, one.size)).collect();
        let held: Vec<_> = image.blobs.iter().map(|(digest, bytes)| (digest.clone(), bytes.len() as u64)).collect();
        assert_eq!(pointed, held);
        for (digest, bytes) in &image.blobs {
            assert!(Addressed::check(digest, bytes.clone()).is_ok());
        }
        let config = json(&image.config().unwrap().1);
        assert_eq!(config["architecture"], "arm64");
        assert_eq!(config["variant"], "v8");
        let plain = image.layers().iter().map(|(_, bytes)| Digest::sha256(bytes).to_string());
        assert_eq!(config["rootfs"]["diff_ids"], json!(plain.collect::<Vec<_>>()));
        let names: Vec<_> = pointed.iter().map(|(digest, _)| digest.algorithm()).collect();
        assert_eq!(names, [image.digest.algorithm(); 3]);
    }
}

#[test]
fn images_differ_by_platform_alone_and_an_index_tells_them_apart() {
    let layer = filler(2048, 0);
    let [amd64, arm64] = ["linux/amd64", "linux/arm64"].map(|platform| single(platform, [layer.clone()]));
    assert_ne!(amd64.digest, arm64.digest);
    for flavor in [Flavor::Oci, Flavor::Docker] {
        let index = index_builder([amd64.clone(), arm64.clone()]).flavor(flavor).build();
        let ManifestKind::Index { manifests } = parsed(&index).kind().clone() else {
            panic!("an index is not an image")
        };
        assert_eq!(manifests, [amd64.descriptor(), arm64.descriptor()]);
        assert_eq!(manifests[1].platform.as_ref().unwrap().architecture, "arm64");
        assert_eq!(index.digests().len(), 3);
        assert!(index.blobs.is_empty());
    }
}

#[test]
fn layers_are_archives_in_whole_blocks_with_a_true_checksum() {
    let archive = tar(&[Entry::file("etc/motd", b"hello\n"), Entry::executable("run", &[7; 513])]);
    assert_eq!(archive.len(), 512 * (2 + 3 + 2));
    assert!(archive.starts_with(b"etc/motd\0"));
    assert_eq!(archive[100..108], *b"0000644\0");
    assert_eq!(archive[124..136], *b"00000000006\0");
    assert_eq!(archive[257..265], *b"ustar\x0000");
    assert_eq!(archive[512..518], *b"hello\n");
    assert!(archive[1024..].starts_with(b"run\0"));
    assert_eq!(archive[1024 + 100..1024 + 108], *b"0000755\0");
    for start in [0, 1024] {
        let mut header = archive[start..start + 512].to_vec();
        let told = u32::from_str_radix(str::from_utf8(&header[148..154]).unwrap(), 8).unwrap();
        header[148..156].fill(b' ');
        assert_eq!(header.iter().map(|byte| u32::from(*byte)).sum::<u32>(), told);
    }
    assert!(archive[archive.len() - 1024..].iter().all(|byte| *byte == 0));
}

#[test]
fn fillers_have_the_size_that_was_asked_for_and_differ_by_seed() {
    for size in [1536, 2048, 1 << 20] {
        assert_eq!(filler(size, 3).len(), size);
    }
    assert_eq!(filler(1 << 16, 3), filler(1 << 16, 3));
    assert_ne!(filler(1 << 16, 3), filler(1 << 16, 4));
}

#[test]
fn runnable_images_start_their_binary() {
    let image = runnable("linux/amd64", b"\x7fELF", &["--greet"]);
    let config = json(&image.config().unwrap().1);
    assert_eq!(config["config"]["Entrypoint"], json!(["/run", "--greet"]));
    assert_eq!(image.layers()[0].1[512..516], *b"\x7fELF");
}

#[test]
fn signature_manifests_are_written_as_cosign_writes_them() {
    let (sigstore, image) = (VirtualSigstore::new(), single("linux/amd64", []));
    let sign = |signer: &Signer| sigstore.sign_legacy(signer, "cgr.dev/a", &image.digest, &Options::default());
    let signatures = [sign(&Signer::chainguard()), sign(&Signer::person())];
    let manifest = signature_manifest(&signatures);

    let config = r#"{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"},{"created":"0001-01-01T00:00:00Z"}],"os":"","rootfs":{"type":"layers","diff_ids":["#;
    let written = &manifest.config().unwrap().1;
    assert!(written.starts_with(config.as_bytes()));
    assert!(written.ends_with(br#""]},"config":{}}"#));
    // Both payloads are the same bytes; each signature has its own layer all the same.
    assert_eq!(manifest.layers().len(), 2);
    let begin = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":"#;
    assert!(manifest.manifest.starts_with(begin.as_bytes()));
    let (config, layers) = parts(&manifest);
    assert_eq!(config.media_type.as_str(), MediaType::OCI_CONFIG);
    for (layer, signature) in layers.iter().zip(&signatures) {
        assert_eq!(layer.media_type.as_str(), MediaType::SIMPLE_SIGNING);
        assert_eq!(layer.annotations, signature.annotations);
        assert_eq!(layer.digest, Digest::sha256(&signature.payload));
    }
    assert_eq!(cosign_tag(&image.digest, "sig"), format!("sha256-{}.sig", image.digest.hex()));
}

#[test]
fn one_signature_has_a_config_of_as_many_bytes_as_the_real_ones() {
    let sigstore = VirtualSigstore::new();
    let digest = Digest::sha256(b"");
    let signature = sigstore.sign_legacy(&Signer::person(), "a", &digest, &Options::default());
    assert_eq!(signature_manifest(&[signature]).config().unwrap().1.len(), 233);
}

#[test]
fn bundles_refer_to_their_subject() {
    let (sigstore, image) = (VirtualSigstore::new(), single("linux/amd64", []));
    let bundle = sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    let referrer = bundle_referrer(&image.descriptor(), &bundle);
    let manifest = parsed(&referrer);
    let subject = manifest.subject().unwrap();
    assert_eq!((&subject.digest, subject.size), (&image.digest, image.manifest.len() as u64));
    assert_eq!(subject.platform, None);
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    assert_eq!(manifest.artifact_type().unwrap().as_str(), kind);
    assert_eq!(manifest.annotations()["dev.sigstore.bundle.predicateType"], COSIGN_SIGN);
    let (config, layers) = parts(&referrer);
    assert_eq!((config.media_type.as_str(), config.size), (MediaType::EMPTY_JSON, 2));
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0].media_type.as_str(), kind);
    assert_eq!(referrer.layers()[0].1, bundle);

    let spdx = "https://spdx.dev/Document";
    let signer = Signer::chainguard();
    let attestation = sigstore.attest_bundle(&signer, &image.digest, spdx, &json!({}), &Options::default());
    let referrer = bundle_referrer(&image.descriptor(), &attestation);
    assert_eq!(referrer.annotations["dev.sigstore.bundle.predicateType"], spdx);
}

#[test]
fn fallback_indexes_list_referrers_as_new_and_old_tools_do() {
    let (sigstore, image) = (VirtualSigstore::new(), single("linux/amd64", []));
    let bundle = sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
    let referrer = bundle_referrer(&image.descriptor(), &bundle);
    let [new, old] = [referrers_tag_index, referrers_tag_index_of_old].map(|write| {
        let index = write(std::slice::from_ref(&referrer));
        let ManifestKind::Index { manifests } = parsed(&index).kind().clone() else {
            panic!("an index is not an image")
        };
        manifests
    });
    assert_eq!(new, [referrer.descriptor()]);
    assert_eq!(old[0].digest, referrer.digest);
    assert_eq!(old[0].artifact_type.as_ref().unwrap().as_str(), MediaType::EMPTY_JSON);
    assert_eq!(old[0].annotations, BTreeMap::new());
}

#[test]
fn anything_can_be_dressed_up_as_evidence() {
    let subject = single("linux/amd64", []).descriptor();
    let payload = tar(&[Entry::executable("run", b"\x7fELF")]);
    let dressed = Builder::new("linux/amd64")
        .layer_as(MediaType::SIMPLE_SIGNING, payload.clone(), BTreeMap::new())
        .artifact_type("application/vnd.example")
        .subject(&subject)
        .build();
    assert_eq!(parsed(&dressed).subject(), Some(&Descriptor { platform: None, ..subject }));
    assert_eq!(parts(&dressed).1[0].media_type.as_str(), MediaType::SIMPLE_SIGNING);
    assert_eq!(dressed.layers()[0].1, payload);
}

#[tokio::test]
async fn everything_below_an_index_is_pushed() {
    let registry = Registry::builder().start().await.unwrap();
    let index = index([single("linux/amd64", [filler(2048, 1)]), single("linux/arm64", [filler(2048, 2)])]);
    index.push(&registry, "chainguard/nginx", Some("latest"));
    assert_eq!(registry.manifest("chainguard/nginx", "latest").unwrap(), index.manifest);
    for child in &index.children {
        assert_eq!(registry.manifest("chainguard/nginx", &child.digest.to_string()).unwrap(), child.manifest);
        for (digest, bytes) in &child.blobs {
            assert_eq!(&registry.blob("chainguard/nginx", digest).unwrap(), bytes);
        }
    }
}

#[tokio::test]
async fn what_chainguard_publishes_is_found_by_tag_or_by_subject() {
    let (sigstore, registry) = (VirtualSigstore::new(), Registry::builder().start().await.unwrap());
    let platforms = ["linux/amd64", "linux/arm64"].map(|platform| single(platform, [filler(100, 1)]));
    let index = index(platforms);
    let (signer, options) = (Signer::chainguard_private(&"a".repeat(40), &"b".repeat(16)), Options::default());
    for layout in [Layout::Legacy, Layout::Bundle] {
        let repository = format!("chainguard/{layout:?}").to_lowercase();
        let publisher = Publisher { sigstore: &sigstore, signer: &signer, options: &options, layout };
        publisher.publish(&registry, &repository, "latest", &index);
        assert_eq!(registry.manifest(&repository, "latest").unwrap(), index.manifest);
        for image in std::iter::once(&index).chain(&index.children) {
            for (evidence, tag) in publisher.evidence("cgr.dev/x", image) {
                let (reference, pieces) = match tag.as_deref() {
                    Some(tag) => (tag.to_owned(), if tag.rsplit('.').next() == Some("att") { 3 } else { 1 }),
                    None => (evidence.digest.to_string(), 1),
                };
                assert_eq!(evidence.layers().len(), pieces);
                let subject = parsed(&evidence).subject().map(|subject| subject.digest.clone());
                assert_eq!(subject.is_some(), layout == Layout::Bundle);
                // Keys are made anew with each signature, so that only what is under a tag is found again.
                assert_eq!(registry.manifest(&repository, &reference).is_ok(), layout == Layout::Legacy);
            }
            if layout == Layout::Bundle {
                registry.put_referrers_tag(&repository, &image.digest);
                let listed = json(&registry.manifest(&repository, &referrers_tag(&image.digest)).unwrap());
                let types = listed["manifests"].as_array().unwrap().iter().map(|entry| {
                    let text = entry["annotations"]["dev.sigstore.bundle.predicateType"].as_str();
                    text.unwrap().to_owned()
                });
                let want = [COSIGN_SIGN, predicate::PROVENANCE, predicate::IMAGE_CONFIGURATION, predicate::SPDX];
                assert_eq!(types.collect::<BTreeSet<_>>(), want.map(str::to_owned).into());
            }
        }
    }
    registry.shutdown().await;
}

#[test]
fn a_piece_of_the_corpus_is_carried_as_it_is() {
    let (sigstore, key) = (VirtualSigstore::new(), KeySigner::generate(KeyKind::P256));
    let image = single("linux/amd64", [filler(100, 1)]);
    for shape in Shape::ALL {
        let entry = mint(&sigstore, &key, &image.digest, shape, Some(Flaw::Utf16));
        let (manifest, tag) = corpus_manifest(&image, &entry);
        assert_eq!(manifest.layers()[0].1, entry.payload);
        assert_eq!(parts(&manifest).1[0].annotations, entry.annotations);
        let suffix = match entry.form {
            Form::CosignSignature => Some("sig"),
            Form::CosignAttestation => Some("att"),
            Form::Bundle => None,
        };
        assert_eq!(tag, suffix.map(|suffix| cosign_tag(&image.digest, suffix)));
    }
}
