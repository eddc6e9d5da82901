//! The upstream behaves, and misbehaves, as ordered.

mod content;
mod faults;
mod secrets;
mod transport;

use super::Registry;
use crate::client::{Answer, Client};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

/// A plain registry that holds [`MANIFEST`] as `team/app:one`.
async fn plain() -> Registry {
    let registry = Registry::builder().start().await.unwrap();
    registry.put_manifest("team/app", Some("one"), IMAGE, MANIFEST);
    registry
}

/// GET below `/v2/` without further headers.
async fn get(registry: &Registry, path: &str) -> Answer {
    let url = format!("{}/v2/{path}", registry.url());
    Client::plain().get(&url, &[]).await.unwrap()
}
