//! What is attacked: plain functions of bytes from outside that panic where what must hold does not.
//!
//! Run by cargo-fuzz (beside this file), over the committed seeds and some mutations of them by `storage/oci/tests/fuzz_seeds.rs`, and
//! for long by `soak fuzz`.

use bytes::Bytes;
use oci::{
    Addressed, Algorithm, Digest, ManifestLimits, MediaType, Reference, Repository, RepositoryPath, Tag,
    UntrustedManifest, UpstreamName,
};

const LIMITS: ManifestLimits = ManifestLimits { layers_max: 64, manifests_max: 64, json_depth_max: 32 };

/// What was parsed keeps the bytes that came in, and the limits that it was parsed under.
pub fn manifest(data: &[u8]) {
    for content_type in
        [None, Some(MediaType::OCI_MANIFEST), Some(MediaType::OCI_INDEX), Some(MediaType::DOCKER_MANIFEST)]
    {
        let addressed = Addressed::hash(Algorithm::Sha256, Bytes::copy_from_slice(data));
        if let Ok(manifest) = UntrustedManifest::parse(addressed, content_type, &LIMITS) {
            assert_eq!(manifest.digest(), &Digest::sha256(data), "the digest of other bytes");
            assert_eq!(&manifest.addressed().bytes()[..], data, "other bytes are served than were parsed");
            assert!(manifest.points_at().count() <= 130, "more descriptors than the limits allow");
            let told = content_type.is_none_or(|told| told == manifest.media_type().as_str());
            assert!(told, "another type than was told");
        }
    }
}

/// What one reader takes for a document, every other reads alike.
pub fn json(data: &[u8]) {
    if oci::json::check(data, 32).is_ok() {
        let document: serde_json::Value = serde_json::from_slice(data).expect("what was checked is JSON");
        assert!(std::str::from_utf8(data).is_ok(), "JSON that is not UTF-8");
        oci::json::check(document.to_string().as_bytes(), 32).expect("and stays so when it is written again");
    }
}

/// A name that was accepted is printed as it was typed.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
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
