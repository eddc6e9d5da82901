//! Evidence as content: what is let through for its subject, and what only looks like it.

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, UntrustedManifest};
use policy::{Admitted, EvidenceLink, EvidenceManifest, Judge, Manifest, NotEvidence};
use serde_json::{Value, json};

use super::{
    IMAGE, NOW, SIGSTORE, admitted, chainguard, evidence, good, image, index, judge, judged, keyless, parse, pointer,
    sigstore::{Options, Signer},
};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const SPDX: &str = "application/spdx+json";
const CYCLONE: &str = "application/vnd.cyclonedx+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

struct Scene {
    judge: Judge,
    subject: Admitted<Manifest>,
}

/// A manifest of evidence: its config, its layers by type, and the subject it names.
struct Draft {
    config: Vec<u8>,
    layers: Vec<(&'static str, Vec<u8>)>,
    subject: Option<Digest>,
}

impl Draft {
    fn of(media_type: &'static str, layer: impl Into<Vec<u8>>) -> Self {
        Self { config: b"{}".to_vec(), layers: vec![(media_type, layer.into())], subject: None }
    }

    fn document(&self) -> Value {
        let layers: Vec<_> = self.layers.iter().map(|(media_type, bytes)| pointer(media_type, bytes)).collect();
        let mut document = json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": pointer(CONFIG, &self.config), "layers": layers });
        if let Some(subject) = &self.subject {
            document["subject"] = json!({ "mediaType": IMAGE, "digest": subject.to_string(), "size": 1 });
        }
        document
    }

    fn blobs(&self) -> Vec<Addressed> {
        let bytes = std::iter::once(&self.config).chain(self.layers.iter().map(|(_, bytes)| bytes));
        bytes.map(|bytes| Addressed::hash(Algorithm::Sha256, Bytes::copy_from_slice(bytes))).collect()
    }
}

impl Scene {
    fn new() -> Self {
        let (judge, manifest) = (chainguard(), image("subject"));
        let subject = admitted(judged(&judge, &manifest, &evidence(vec![good(manifest.digest())])));
        Self { judge, subject }
    }

    fn tag(&self, suffix: &str) -> EvidenceLink {
        EvidenceLink::Tag(format!("sha256-{}{suffix}", self.subject.digest().hex()).parse().unwrap())
    }

    fn manifest(
        &self,
        manifest: UntrustedManifest,
        link: &EvidenceLink,
        blobs: &[Addressed],
    ) -> Result<Admitted<EvidenceManifest>, NotEvidence> {
        let types = [SIMPLE_SIGNING, DSSE, BUNDLE, IN_TOTO, SPDX, CYCLONE].map(str::to_owned);
        self.judge.evidence_of(&self.subject, manifest, link, blobs, &types, NOW)
    }

    fn tagged(&self, draft: &Draft) -> Result<Admitted<EvidenceManifest>, NotEvidence> {
        self.manifest(parse(&draft.document()), &self.tag(".sig"), &draft.blobs())
    }
}

fn payload() -> Vec<u8> {
    SIGSTORE.sign_legacy(&Signer::chainguard(), "x", image("subject").digest(), &Options::default()).payload.to_vec()
}

#[test]
fn signatures_attestations_and_bills_of_materials_are_let_through() {
    let scene = Scene::new();
    let digest = scene.subject.digest();
    let statement = r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"x","subject":[],"predicate":{}}"#;
    let provenance = "https://slsa.dev/provenance/v1";
    let envelope = SIGSTORE
        .attest_legacy(&Signer::chainguard(), digest, provenance, &json!({}), &Options::default())
        .payload
        .to_vec();
    let bundle = SIGSTORE.sign_bundle(&Signer::fork(), digest, &Options::default());
    for (media_type, layer) in [
        (SIMPLE_SIGNING, payload()),
        (DSSE, envelope.clone()),
        (IN_TOTO, envelope),
        (IN_TOTO, statement.into()),
        (BUNDLE, bundle.into_bytes()),
        (SPDX, br#"{"spdxVersion":"SPDX-2.3","packages":[{"a":[1,2]}]}"#.to_vec()),
        (CYCLONE, br#"{"bomFormat":"CycloneDX","components":[]}"#.to_vec()),
    ] {
        let mut draft = Draft::of(media_type, layer.clone());
        let let_through = scene.tagged(&draft).unwrap_or_else(|error| panic!("{media_type}: {error}"));
        assert!(scene.judge.in_force(&let_through, NOW));
        let permit = scene.judge.evidence_permit(&let_through, &Digest::sha256(&layer)).unwrap();
        assert!(scene.judge.holds(&permit, NOW));
        assert!(scene.judge.evidence_permit(&let_through, &Digest::sha256(b"layer of subject")).is_none());
        draft.subject = Some(digest.clone());
        scene.manifest(parse(&draft.document()), &EvidenceLink::Subject, &draft.blobs()).unwrap();
    }
}

#[test]
fn an_image_under_a_signature_tag_is_no_evidence() {
    let scene = Scene::new();
    let tar = [&b"bin/sh"[..], &[0; 506]].concat();
    for (media_type, layer) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip", b"\x1f\x8b\x08".to_vec()),
        ("application/vnd.oci.image.layer.v1.tar+gzip", payload()),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", payload()),
        ("application/octet-stream", payload()),
        ("text/spdx", b"SPDXVersion: SPDX-2.3".to_vec()),
    ] {
        let error = scene.tagged(&Draft::of(media_type, layer)).unwrap_err();
        assert!(matches!(error, NotEvidence::MediaType { .. }), "{error}");
    }
    for layer in [b"\x1f\x8b\x08".to_vec(), tar, b"\x28\xb5\x2f\xfd".to_vec(), b"#!/bin/sh\n".to_vec(), Vec::new()] {
        for media_type in [SIMPLE_SIGNING, DSSE, BUNDLE, IN_TOTO, SPDX, CYCLONE] {
            let error = scene.tagged(&Draft::of(media_type, layer.clone())).unwrap_err();
            assert!(matches!(error, NotEvidence::Disguised { .. }), "{error}");
        }
    }
}

#[test]
fn one_runnable_layer_among_signatures_is_no_evidence() {
    let scene = Scene::new();
    for at in 0..2 {
        let mut draft = Draft::of(SIMPLE_SIGNING, payload());
        draft.layers.insert(at, ("application/vnd.oci.image.layer.v1.tar", vec![0; 1024]));
        assert!(matches!(scene.tagged(&draft), Err(NotEvidence::MediaType { .. })));
        draft.layers[at].0 = SIMPLE_SIGNING;
        assert!(matches!(scene.tagged(&draft), Err(NotEvidence::Disguised { .. })));
    }
}

#[test]
fn json_of_another_kind_than_the_type_claims_is_no_evidence() {
    let scene = Scene::new();
    for media_type in [SIMPLE_SIGNING, DSSE, BUNDLE, IN_TOTO, SPDX, CYCLONE] {
        for layer in ["{}", "[]", "null", "\"x\"", r#"{"critical":{}}"#, r#"{"payloadType":"x"}"#, r#"{"a":1,"a":2}"#] {
            let error = scene.tagged(&Draft::of(media_type, layer)).unwrap_err();
            assert!(matches!(error, NotEvidence::Disguised { .. }), "{media_type} {layer}: {error}");
        }
    }
    let deep = format!(r#"{{"spdxVersion":"x","a":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    assert!(scene.tagged(&Draft::of(SPDX, deep)).is_err());
    assert!(scene.tagged(&Draft::of(CYCLONE, r#"{"bomFormat":"Other"}"#)).is_err());
}

/// A tar archive of the oldest kind needs no zero byte in its header, and so can begin a JSON document.
#[test]
fn json_that_is_an_archive_besides_is_no_evidence() {
    let mut header = vec![b' '; 512];
    let start = br#"{"spdxVersion":"SPDX-2.3","a":""#;
    header[..start.len()].copy_from_slice(start);
    for (at, field) in
        [(100, "0000755 "), (108, "0000000 "), (116, "0000000 "), (124, "00000000100 "), (136, "00000000000 ")]
    {
        header[at..at + field.len()].copy_from_slice(field.as_bytes());
    }
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let mut polyglot = header.clone();
    polyglot[148..156].copy_from_slice(format!("{sum:06o}  ").as_bytes());
    header.extend(b"#!/bin/sh\"}");
    polyglot.extend(b"#!/bin/sh\"}");
    let scene = Scene::new();
    assert!(scene.tagged(&Draft::of(SPDX, header)).is_ok(), "only the checksum makes the difference");
    assert!(matches!(scene.tagged(&Draft::of(SPDX, polyglot.clone())), Err(NotEvidence::Disguised { .. })));
    let config = Draft { config: polyglot, ..Draft::of(SIMPLE_SIGNING, payload()) };
    assert!(matches!(scene.tagged(&config), Err(NotEvidence::Disguised { .. })));
}

#[test]
fn a_config_that_is_not_a_small_json_object_is_no_evidence() {
    let scene = Scene::new();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000)).into_bytes();
    for config in [b"[]".to_vec(), b"\x1f\x8b".to_vec(), Vec::new(), b"{}{}".to_vec(), large] {
        let draft = Draft { config, ..Draft::of(SIMPLE_SIGNING, payload()) };
        assert!(matches!(scene.tagged(&draft), Err(NotEvidence::Disguised { .. })));
    }
    let cosigns = br#"{"architecture":"","created":"0001-01-01T00:00:00Z","os":"","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#;
    assert!(scene.tagged(&Draft { config: cosigns.to_vec(), ..Draft::of(SIMPLE_SIGNING, payload()) }).is_ok());
}

#[test]
fn an_index_and_a_manifest_without_layers_are_no_evidence() {
    let scene = Scene::new();
    let error = scene.manifest(index(&[&image("child")]), &scene.tag(".sig"), &[]).unwrap_err();
    assert_eq!(error, NotEvidence::Index);
    let none = Draft { layers: Vec::new(), ..Draft::of(SIMPLE_SIGNING, "") };
    assert_eq!(scene.tagged(&none).unwrap_err(), NotEvidence::NoLayer);
}

#[test]
fn evidence_belongs_to_its_subject_by_tag_or_by_its_own_word() {
    let scene = Scene::new();
    let other = image("other").digest().clone();
    let mut draft = Draft::of(SIMPLE_SIGNING, payload());
    let try_link = |draft: &Draft, link: &EvidenceLink| scene.manifest(parse(&draft.document()), link, &draft.blobs());
    assert!(try_link(&draft, &EvidenceLink::Subject).is_err());
    for suffix in ["", ".sigx", ".Sig", ".sig.att", "-sig"] {
        assert!(try_link(&draft, &scene.tag(suffix)).is_err(), "{suffix}");
    }
    let others = EvidenceLink::Tag(format!("sha256-{}.sig", other.hex()).parse().unwrap());
    assert!(try_link(&draft, &others).is_err());
    assert!(try_link(&draft, &EvidenceLink::Tag("latest".parse().unwrap())).is_err());
    draft.subject = Some(other);
    assert!(try_link(&draft, &EvidenceLink::Subject).is_err());
    assert!(try_link(&draft, &scene.tag(".sig")).is_err(), "it says itself that it belongs to another");
}

#[test]
fn a_blob_that_was_not_read_whole_is_no_evidence() {
    let scene = Scene::new();
    let draft = Draft::of(SIMPLE_SIGNING, payload());
    let blobs = draft.blobs();
    for some in [&blobs[..1], &blobs[1..], &[]] {
        let error = scene.manifest(parse(&draft.document()), &scene.tag(".sig"), some).unwrap_err();
        assert!(matches!(error, NotEvidence::Unread { .. }));
    }
    let mut document = draft.document();
    document["layers"][0]["size"] = json!(1);
    assert!(matches!(scene.manifest(parse(&document), &scene.tag(".sig"), &blobs), Err(NotEvidence::Unread { .. })));
}

#[test]
fn a_type_that_the_configuration_does_not_list_is_no_evidence() {
    let scene = Scene::new();
    let draft = Draft::of(SIMPLE_SIGNING, payload());
    let attempt = |types: &[String]| {
        let manifest = parse(&draft.document());
        scene.judge.evidence_of(&scene.subject, manifest, &scene.tag(".sig"), &draft.blobs(), types, NOW)
    };
    assert!(attempt(&[]).is_err());
    assert!(attempt(&[DSSE.to_owned()]).is_err());
    assert!(attempt(&[SIMPLE_SIGNING.to_owned()]).is_ok());
    let unknown = Draft::of("application/vnd.example+json", "{}");
    let types = ["application/vnd.example+json".to_owned()];
    let manifest = parse(&unknown.document());
    let link = scene.tag(".sig");
    assert!(scene.judge.evidence_of(&scene.subject, manifest, &link, &unknown.blobs(), &types, NOW).is_err());
}

#[test]
fn evidence_ends_with_the_admission_of_its_subject() {
    let scene = Scene::new();
    let draft = Draft::of(SIMPLE_SIGNING, payload());
    let let_through = scene.tagged(&draft).unwrap();
    let other = judge(&keyless(&Signer::person()));
    assert!(!other.in_force(&let_through, NOW));
    let types = [SIMPLE_SIGNING.to_owned()];
    let late =
        other.evidence_of(&scene.subject, parse(&draft.document()), &scene.tag(".sig"), &draft.blobs(), &types, NOW);
    assert_eq!(late.unwrap_err(), NotEvidence::SubjectEnded);
}
