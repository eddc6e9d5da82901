//! Which manifests speak about a digest.

use oci::Digest;
use serde_json::{Value, json};

use super::contents::{Contents, Stored};

/// The media type of an OCI index.
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The descriptors of all manifests whose subject this is, in the order of their digests.
pub(super) fn of(contents: &Contents, repository: &str, subject: &Digest) -> Vec<Value> {
    contents.manifests(repository).filter_map(|(digest, stored)| descriptor(digest, stored, subject)).collect()
}

/// An index of these descriptors.
pub(super) fn index(descriptors: &[Value]) -> String {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}).to_string()
}

/// The `artifactType` of a descriptor; empty where there is none.
pub(super) fn artifact_type(descriptor: &Value) -> &str {
    descriptor.get("artifactType").and_then(Value::as_str).unwrap_or_default()
}

fn descriptor(digest: &Digest, stored: &Stored, subject: &Digest) -> Option<Value> {
    let manifest: Value = serde_json::from_slice(&stored.bytes).ok()?;
    let named = manifest.pointer("/subject/digest")?.as_str()?;
    if named != subject.to_string() {
        return None;
    }
    let mut descriptor = json!({
        "mediaType": stored.media_type,
        "digest": digest.to_string(),
        "size": stored.bytes.len(),
    });
    // the specification's rule: the manifest's artifactType, else its config's media type
    let kind = manifest.get("artifactType").or_else(|| manifest.pointer("/config/mediaType"));
    let fields = descriptor.as_object_mut()?;
    if let Some(kind) = kind {
        fields.insert("artifactType".to_owned(), kind.clone());
    }
    if let Some(annotations) = manifest.get("annotations") {
        fields.insert("annotations".to_owned(), annotations.clone());
    }
    Some(descriptor)
}
