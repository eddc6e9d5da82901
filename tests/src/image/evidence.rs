//! Manifests that carry signatures and attestations, as cosign writes them.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use oci::{Descriptor, Digest, MediaType};
use serde_json::{Value, json};

use super::{
    Image,
    build::{Builder, index_builder},
};
use crate::sigstore::{COSIGN_SIGN, LegacySignature};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const CREATED: &str = "2025-10-09T08:53:20Z";

/// The tag under which cosign looks for what speaks about `subject`: `sha256-<hex>.sig`; `suffix` is `sig`, `att` or `sbom`.
#[must_use]
pub fn cosign_tag(subject: &Digest, suffix: &str) -> String {
    format!("{}-{}.{suffix}", subject.algorithm(), subject.hex())
}

/// The tag of the referrers tag schema: `sha256-<hex>`.
#[must_use]
pub fn referrers_tag(subject: &Digest) -> String {
    format!("{}-{}", subject.algorithm(), subject.hex())
}

/// What lies under the tag `.sig`: one layer per signature.
#[must_use]
pub fn signature_manifest(signatures: &[LegacySignature]) -> Image {
    let builder = Builder::new("").config_as(MediaType::OCI_CONFIG, config(signatures));
    let add = |builder: Builder, signature: &LegacySignature| {
        let LegacySignature { media_type, payload, annotations } = signature.clone();
        builder.layer_as(media_type, payload, annotations)
    };
    signatures.iter().fold(builder, add).build()
}

/// What lies under the tag `.att`: one layer per attestation.
#[must_use]
pub fn attestation_manifest(attestations: &[LegacySignature]) -> Image {
    signature_manifest(attestations)
}

/// A bundle as a referrer of `subject`, as cosign v3 writes it.
#[must_use]
pub fn bundle_referrer(subject: &Descriptor, bundle: &str) -> Image {
    let predicate_type = predicate_type(bundle).unwrap_or_else(|| COSIGN_SIGN.to_owned());
    bundle_referrer_as_seen(subject, bundle, &predicate_type)
}

/// The same with any `dev.sigstore.bundle.predicateType`, true or not.
#[must_use]
pub fn bundle_referrer_as_seen(subject: &Descriptor, bundle: &str, predicate_type: &str) -> Image {
    bundle_referrer_of(subject, bundle.to_owned(), predicate_type)
}

/// The same with any bytes where the bundle should be. Whatever its version, cosign writes the media type of version 0.3.
pub(super) fn bundle_referrer_of(subject: &Descriptor, bundle: impl Into<Bytes>, predicate_type: &str) -> Image {
    Builder::new("")
        .config_as(MediaType::EMPTY_JSON, "{}")
        .layer_as(BUNDLE, bundle, BTreeMap::new())
        .annotation("org.opencontainers.image.created", CREATED)
        .annotation("dev.sigstore.bundle.content", "dsse-envelope")
        .annotation("dev.sigstore.bundle.predicateType", predicate_type)
        .subject(subject)
        .artifact_type(BUNDLE)
        .build()
}

/// What lies under the referrers tag where the registry has no referrers API.
#[must_use]
pub fn referrers_tag_index(referrers: &[Image]) -> Image {
    index_builder(referrers.to_vec()).build()
}

/// The same as go-containerregistry wrote it before September 2026: descriptors name the config's type as the artifact's, and have no
/// annotations.
#[must_use]
pub fn referrers_tag_index_of_old(referrers: &[Image]) -> Image {
    let listed = referrers.iter().map(|referrer| Descriptor {
        artifact_type: Some(MediaType::new(MediaType::EMPTY_JSON)),
        annotations: BTreeMap::new(),
        ..referrer.descriptor()
    });
    index_builder(referrers.to_vec()).listing(listed.collect()).build()
}

/// Cosign's signatures are images to everybody who looks at their config alone.
fn config(layers: &[LegacySignature]) -> String {
    let beginning = "0001-01-01T00:00:00Z";
    let history = layers.iter().map(|_| format!(r#"{{"created":"{beginning}"}}"#));
    let history = history.collect::<Vec<_>>().join(",");
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::sha256(&layer.payload)).collect();
    let diff_ids = json!(diff_ids);
    format!(
        r#"{{"architecture":"","created":"{beginning}","history":[{history}],"os":"","rootfs":{{"type":"layers","diff_ids":{diff_ids}}},"config":{{}}}}"#
    )
}

/// What the statement in a bundle calls itself.
fn predicate_type(bundle: &str) -> Option<String> {
    let bundle: Value = serde_json::from_str(bundle).ok()?;
    let payload = STANDARD.decode(bundle.pointer("/dsseEnvelope/payload")?.as_str()?).ok()?;
    let statement: Value = serde_json::from_slice(&payload).ok()?;
    statement.get("predicateType")?.as_str().map(str::to_owned)
}
