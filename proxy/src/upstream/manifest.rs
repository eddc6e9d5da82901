//! Manifests, whole or only by name.

use bytes::Bytes;
use http::{HeaderMap, Method};
use oci::{Digest, Reference, RepositoryPath};

use super::{
    Upstream,
    client::single,
    error::{Flaw, Kind, Outage, UpstreamError},
    exchange::Question,
};

/// `Accept` for everything we know as a manifest.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// What upstream says about a reference. A claim, until the bytes are here and hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `Docker-Content-Digest`, where upstream sends one.
    pub digest: Option<Digest>,
    /// `Content-Type` as sent.
    pub media_type: Option<String>,
}

/// A manifest as upstream sent it, unhashed and unparsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The body, `limits.manifest_bytes_max` at most.
    pub bytes: Bytes,
    /// `Content-Type` as sent.
    pub content_type: Option<String>,
    /// `Docker-Content-Digest`, where upstream sends one. A claim like the others.
    pub digest: Option<Digest>,
}

impl Upstream {
    /// Asks which digest `reference` has. An upstream that does not do HEAD, as it says by 405 or 501, names none.
    pub async fn head_manifest(
        &self,
        repository: &RepositoryPath,
        reference: &Reference,
    ) -> Result<Head, UpstreamError> {
        const WHAT: Kind = Kind::Head;
        let mut question =
            Question::get(WHAT, repository, self.url(repository, &format!("manifests/{reference}")), ACCEPT);
        question.method = Method::HEAD;
        let malformed = |why| UpstreamError::Malformed { what: WHAT, why };
        let answer = match self.exchange.ask(&question).await {
            Ok(answer) => answer,
            Err(
                UpstreamError::Malformed { why: Flaw::Status(405), .. }
                | UpstreamError::Unavailable { why: Outage::Status(501), .. },
            ) => return Ok(Head { digest: None, media_type: None }),
            Err(error) => return Err(error),
        };
        Ok(Head { digest: digest(answer.headers()), media_type: content_type(answer.headers()).map_err(malformed)? })
    }

    /// Fetches a manifest; once more where the connection is lost in the middle of it.
    pub async fn manifest(&self, repository: &RepositoryPath, reference: &Reference) -> Result<Fetched, UpstreamError> {
        let lost = UpstreamError::Unavailable { what: Kind::Manifest, why: Outage::ConnectionLost };
        self.manifest_where(repository, reference, &|_| true).await?.ok_or(lost)
    }

    /// The same, where `may` is asked about each number of bytes before there are so many in memory. `None` where it says no: the connection
    /// is let go of.
    pub async fn manifest_where(
        &self,
        repository: &RepositoryPath,
        reference: &Reference,
        may: &(impl Fn(u64) -> bool + Sync),
    ) -> Result<Option<Fetched>, UpstreamError> {
        const WHAT: Kind = Kind::Manifest;
        let url = self.url(repository, &format!("manifests/{reference}"));
        let question = Question::get(WHAT, repository, url, ACCEPT);
        let (headers, bytes) = self.whole_where(&question, self.limits.manifest_bytes_max, may).await?;
        let Some(bytes) = bytes else { return Ok(None) };
        let content_type = content_type(&headers).map_err(|why| UpstreamError::Malformed { what: WHAT, why })?;
        Ok(Some(Fetched { bytes, content_type, digest: digest(&headers) }))
    }
}

/// One that is malformed, or given twice and differs, is none: the bytes say what they are.
fn digest(headers: &HeaderMap) -> Option<Digest> {
    single(headers, "docker-content-digest").ok().flatten()?.parse().ok()
}

fn content_type(headers: &HeaderMap) -> Result<Option<String>, Flaw> {
    const NAME: &str = "content-type";
    match single(headers, NAME)? {
        Some(text) if text.len() > MEDIA_TYPE_BYTES_MAX => Err(Flaw::Header(NAME)),
        text => Ok(text.map(Into::into)),
    }
}
