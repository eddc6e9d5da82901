use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Algorithm;

const LIMITS: ManifestLimits = ManifestLimits { layers_max: 3, manifests_max: 3, json_depth_max: 16 };

fn parse(text: &str, content_type: Option<&str>) -> Result<UntrustedManifest, ManifestError> {
    let addressed = Addressed::hash(Algorithm::Sha256, Bytes::copy_from_slice(text.as_bytes()));
    UntrustedManifest::parse(addressed, content_type, &LIMITS)
}

fn pointer(extra: &str) -> String {
    format!(r#"{{"mediaType":"application/octet-stream","digest":"{}","size":2{extra}}}"#, Digest::sha256(b"{}"))
}

fn image(extra: &str) -> String {
    let p = pointer("");
    format!(r#"{{"schemaVersion":2,"config":{p},"layers":[{p}]{extra}}}"#)
}

fn index(extra: &str) -> String {
    format!(r#"{{"schemaVersion":2,"manifests":[{}]{extra}}}"#, pointer(""))
}

#[test]
fn both_shapes_are_read_under_each_of_their_types() {
    for media_type in [MediaType::OCI_MANIFEST, MediaType::DOCKER_MANIFEST] {
        let manifest = parse(&image(""), Some(media_type)).unwrap();
        assert_eq!(manifest.points_at().count(), 2);
        assert_eq!(manifest.media_type().as_str(), media_type);
    }
    for media_type in [MediaType::OCI_INDEX, MediaType::DOCKER_LIST] {
        let manifest = parse(&index(""), Some(&format!("{media_type}; charset=utf-8"))).unwrap();
        assert_eq!(manifest.media_type().as_str(), media_type);
    }
    assert!(parse(&index(""), None).unwrap().media_type().is_index());
    assert!(parse(&image(""), None).unwrap().media_type().is_image());
    assert!(parse(r#"{"schemaVersion":2,"manifests":[]}"#, Some(MediaType::OCI_INDEX)).is_ok());
}

#[test]
fn what_two_clients_could_read_differently_is_refused() {
    let p = pointer("");
    let said = format!(r#","mediaType":"{}""#, MediaType::OCI_MANIFEST);
    let refused = [
        (image(&format!(r#","manifests":[{p}]"#)), Some(MediaType::OCI_MANIFEST)),
        (index(&format!(r#","layers":[{p}]"#)), Some(MediaType::OCI_INDEX)),
        (index(&format!(r#","config":{p}"#)), Some(MediaType::OCI_INDEX)),
        (image(&said), Some(MediaType::OCI_INDEX)),
        (image(&said), Some(MediaType::DOCKER_MANIFEST)),
        (index(""), Some(MediaType::OCI_MANIFEST)),
        (image(""), Some(MediaType::OCI_INDEX)),
        (image(&format!(r#","layers":[{p}]"#)), None),
        (image(&format!(r#","Layers":[{p}]"#)), None),
        (image(r#","mediatype":"application/vnd.oci.image.index.v1+json""#), None),
        (image(&format!(r#","manifeſts":[{p}]"#)), None),
        (image(r#","mediaType":7"#), None),
        (format!(r#"{{"schemaVersion":2,"config":{p},"layers":[{}]}}"#, pointer(r#","Digest":"x""#)), None),
        (image("") + "x", None),
        (format!("\u{feff}{}", image("")), None),
        ("[]".into(), None),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), None),
    ];
    for (text, content_type) in refused {
        assert!(parse(&text, content_type).is_err(), "{content_type:?} {text} was taken");
    }
}

#[test]
fn pointers_must_be_checkable() {
    let good = pointer("");
    for bad in ["sha256:short", "md5:d41d8cd98f00b204e9800998ecf8427e", "", "sha256"] {
        let bad = format!(r#"{{"mediaType":"x/y","digest":"{bad}","size":2}}"#);
        assert!(parse(&format!(r#"{{"schemaVersion":2,"config":{good},"layers":[{bad}]}}"#), None).is_err());
    }
    let negative = good.replace("\"size\":2", "\"size\":-1");
    assert!(parse(&format!(r#"{{"schemaVersion":2,"config":{good},"layers":[{negative}]}}"#), None).is_err());
}

#[test]
fn counts_are_bounded() {
    let p = pointer("");
    let error = parse(&format!(r#"{{"schemaVersion":2,"config":{p},"layers":[{p},{p},{p},{p}]}}"#), None).unwrap_err();
    assert!(matches!(error, ManifestError::TooMany { got: 4, max: 3, .. }));
    assert!(parse(&format!(r#"{{"schemaVersion":2,"manifests":[{p},{p},{p},{p}]}}"#), None).is_err());
}

#[test]
fn unknown_types_are_named() {
    let error = parse(&image(""), Some("text/html")).unwrap_err();
    assert_eq!(error.to_string().split(": ").last(), Some("\"text/html\""), "{error}");
}

/// An error with its causes, as a person would be shown it.
fn told(error: &ManifestError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn an_error_repeats_little_of_the_document() {
    let long = r"\u001b[31m\u202e\n".repeat(100_000);
    let (p, raw) = (pointer(""), "x\u{202e}".repeat(100_000));
    let documents = [
        (format!(r#"{{"schemaVersion":"{long}","config":{p},"layers":[]}}"#), None),
        (format!(r#"{{"schemaVersion":"{long}","manifests":[]}}"#), None),
        (image(&format!(r#","mediaType":"{long}""#)), None),
        (image(&format!(r#","mediaType":"{long}""#)), Some(MediaType::OCI_MANIFEST)),
        (image(""), Some(raw.as_str())),
        (image(&format!(r#","{long}":1,"{long}":2"#)), None),
        (image("").replace("octet-stream", &long).replace(":2}", ":\"2\"}"), None),
        (image("").replace("sha256:", &format!("sha256:{long}")), None),
        (image("").replace("sha256:", &long), None),
        (image(&format!(r#","annotations":"{long}""#)), None),
    ];
    for (number, (document, content_type)) in documents.iter().enumerate() {
        let error = parse(document, *content_type).unwrap_err();
        let told = told(&error);
        assert!(told.len() < 6000 && format!("{error:?}").len() < 6000, "{number}: {} bytes", told.len());
        assert!(told.chars().all(|c| matches!(c, ' '..='~' | '…')), "{number}: {told}");
    }
}

#[test]
fn subject_and_artifact_type_are_read() {
    let text =
        image(&format!(r#","subject":{},"artifactType":"a/b","annotations":{{"Size":"free text"}}"#, pointer("")));
    let manifest = parse(&text, None).unwrap();
    assert_eq!(manifest.subject().unwrap().digest, Digest::sha256(b"{}"));
    assert_eq!(manifest.artifact_type().unwrap().as_str(), "a/b");
    assert_eq!(manifest.annotations()["Size"], "free text");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, content_type: Option<String>) {
        let addressed = Addressed::hash(Algorithm::Sha256, bytes.into());
        let _ = UntrustedManifest::parse(addressed, content_type.as_deref(), &LIMITS);
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0usize..400, bit in 0u8..8) {
        let mut bytes = image("").into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let addressed = Addressed::hash(Algorithm::Sha256, bytes.into());
        let _ = UntrustedManifest::parse(addressed, None, &LIMITS);
    }
}
