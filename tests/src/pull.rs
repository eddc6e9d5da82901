//! A pull as clients do it: tag by HEAD, manifests by digest, blobs, everything hashed.

use std::fmt;

use bytes::Bytes;
use oci::{Addressed, Descriptor, Digest, ManifestKind, ManifestLimits, MediaType, UntrustedManifest};

use crate::client::{Answer, Client};

/// What a pull brought.
#[derive(Debug, Clone, Default)]
pub struct Pulled {
    /// Every manifest, the outermost first.
    pub manifests: Vec<(Digest, Bytes)>,
    /// Every config and layer.
    pub blobs: Vec<(Digest, Bytes)>,
    /// Values of `Warning` headers.
    pub warnings: Vec<String>,
}

/// Why a pull ended.
#[derive(Debug, Clone)]
pub enum PullFailure {
    /// The registry said no, with this status and error message.
    Answered {
        /// Of the answer.
        status: u16,
        /// Of the answer's error document.
        message: String,
    },
    /// A body broke, or was not what its digest says.
    Broken(String),
}

impl fmt::Display for PullFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, message } => write!(f, "{status}: {message}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl PullFailure {
    /// The status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::Broken(_) => None,
        }
    }
}

/// The message of an OCI error document.
#[must_use]
pub fn message(answer: &Answer) -> String {
    let document: serde_json::Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    document["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
}

const LIMITS: ManifestLimits = ManifestLimits { layers_max: 1000, manifests_max: 1000, json_depth_max: 64 };

/// Pulls `reference` of `repository`, with all children, from the registry at `url`.
///
/// # Errors
/// At the first answer that is not 200, and at the first body that is not what its digest says.
pub async fn pull(client: &Client, url: &str, repository: &str, reference: &str) -> Result<Pulled, PullFailure> {
    let mut pulled = Pulled::default();
    let mut waiting = vec![reference.to_owned()];
    while let Some(reference) = waiting.pop() {
        let address = format!("{url}/v2/{repository}/manifests/{reference}");
        let head = client.head(&address, &[("accept", MediaType::OCI_INDEX)]).await.map_err(broken)?;
        if head.status != 200 {
            // HEAD has no body: the reason is asked for as docker and containerd do.
            let answer = client.get(&address, &[]).await.map_err(broken)?;
            return Err(PullFailure::Answered { status: head.status.as_u16(), message: message(&answer) });
        }
        let digest: Digest = header(&head, "docker-content-digest")?.parse().map_err(broken)?;
        pulled
            .warnings
            .extend(head.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok()).map(str::to_owned));
        let body = get(client, &format!("{url}/v2/{repository}/manifests/{digest}")).await?;
        if header(&head, "content-length")? != body.len().to_string() {
            return Err(PullFailure::Broken("HEAD and GET do not tell the same length".to_owned()));
        }
        let media_type = header(&head, "content-type")?;
        let addressed = Addressed::check(&digest, body).map_err(broken)?;
        pulled.manifests.push((digest, addressed.bytes().clone()));
        let manifest = UntrustedManifest::parse(addressed, Some(media_type), &LIMITS).map_err(broken)?;
        match manifest.kind() {
            ManifestKind::Index { manifests } => waiting.extend(manifests.iter().map(|child| child.digest.to_string())),
            ManifestKind::Image { config, layers } => {
                for blob in [config].into_iter().chain(layers) {
                    pulled.blobs.push(fetch(client, url, repository, blob).await?);
                }
            }
        }
    }
    Ok(pulled)
}

async fn fetch(
    client: &Client,
    url: &str,
    repository: &str,
    blob: &Descriptor,
) -> Result<(Digest, Bytes), PullFailure> {
    let body = get(client, &format!("{url}/v2/{repository}/blobs/{}", blob.digest)).await?;
    let addressed = Addressed::check(&blob.digest, body).map_err(broken)?;
    Ok((blob.digest.clone(), addressed.into_bytes()))
}

async fn get(client: &Client, url: &str) -> Result<Bytes, PullFailure> {
    let answer = client.get(url, &[]).await.map_err(broken)?;
    if answer.status != 200 {
        return Err(PullFailure::Answered { status: answer.status.as_u16(), message: message(&answer) });
    }
    answer.body.map_err(|body| PullFailure::Broken(format!("the body broke off after {} bytes", body.received.len())))
}

fn header<'a>(answer: &'a Answer, name: &str) -> Result<&'a str, PullFailure> {
    answer.header(name).ok_or_else(|| PullFailure::Broken(format!("the answer has no {name}")))
}

fn broken(error: impl fmt::Display) -> PullFailure {
    PullFailure::Broken(error.to_string())
}
