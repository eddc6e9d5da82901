//! The field's nouns.

use bytes::Bytes;
use oci::{
    Addressed, Algorithm, Digest, ManifestLimits, MediaType, Reference, Repository, RepositoryPath, Tag,
    UntrustedManifest, UpstreamName,
};

use crate::image;

const LIMITS: ManifestLimits = ManifestLimits { layers_max: 64, manifests_max: 64, json_depth_max: 32 };

/// What was parsed keeps the bytes and the limits that it was parsed under.
pub(super) fn manifest(input: &[u8]) {
    for content_type in
        [None, Some(MediaType::OCI_MANIFEST), Some(MediaType::OCI_INDEX), Some(MediaType::DOCKER_MANIFEST)]
    {
        let addressed = Addressed::hash(Algorithm::Sha256, Bytes::copy_from_slice(input));
        if let Ok(manifest) = UntrustedManifest::parse(addressed, content_type, &LIMITS) {
            assert_eq!(manifest.digest(), &Digest::sha256(input), "the digest of other bytes");
            assert!(manifest.points_at().count() <= 130, "more descriptors than the limits allow");
            assert!(
                content_type.is_none_or(|told| told == manifest.media_type().as_str()),
                "another type than was told"
            );
        }
    }
}

pub(super) fn manifests() -> Vec<Vec<u8>> {
    let single = image::single("linux/arm64/v8", [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
    let index = image::index([single.clone(), image::single("linux/amd64", [])]);
    let docker = image::Builder::new("linux/amd64").flavor(image::Flavor::Docker).layer("three").build();
    let referrer = image::bundle_referrer(&single.descriptor(), "{}");
    [single, index, docker, referrer].map(|image| image.manifest.to_vec()).to_vec()
}

/// What one reader takes for a document, every other reads alike.
pub(super) fn json(input: &[u8]) {
    if oci::json::check(input, 32).is_ok() {
        let document: serde_json::Value = serde_json::from_slice(input).expect("what was checked is JSON");
        assert!(std::str::from_utf8(input).is_ok(), "JSON that is not UTF-8");
        oci::json::check(document.to_string().as_bytes(), 32).expect("and stays so when it is written again");
    }
}

/// A name that was accepted is printed as it was typed.
pub(super) fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    same(text, text.parse::<Digest>().map(|digest| digest.to_string()));
    same(text, text.parse::<Tag>().map(|tag| tag.to_string()));
    same(text, text.parse::<Reference>().map(|reference| reference.to_string()));
    same(text, text.parse::<RepositoryPath>().map(|path| path.to_string()));
    same(text, text.parse::<UpstreamName>().map(|name| name.to_string()));
    same(text, text.parse::<Repository>().map(|repository| repository.to_string()));
    if let Ok(repository) = text.parse::<Repository>() {
        assert!(!repository.canonical().contains(".."), "a way up in {text}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert!(digest.hex().bytes().all(|byte| byte.is_ascii_hexdigit()), "a file name that is none: {text}");
    }
}

fn same<E>(typed: &str, printed: Result<String, E>) {
    if let Ok(printed) = printed {
        assert_eq!(typed, printed, "printed otherwise than typed");
    }
}

pub(super) fn some_names() -> Vec<Vec<u8>> {
    let (short, long) = (Digest::sha256(b""), Digest::of(Algorithm::Sha512, b""));
    [
        short.to_string(),
        long.to_string(),
        "latest".to_owned(),
        "1.2.3_-x".to_owned(),
        "chainguard/nginx".to_owned(),
        "a__b/c---d/e.f".to_owned(),
        "localhost:5000/a/b".to_owned(),
        "docker.io/library/alpine".to_owned(),
        "cgr.dev".to_owned(),
        "[::1]:5000".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}
