//! Blobs: permit, content, respond.

use config::VerifyReads;
use oci::Digest;

use super::{Asked, range};
use crate::{
    error::ApiError,
    fill::FillKey,
    respond::{self, Answer},
    route::Named,
};

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub(super) async fn get(asked: &Asked<'_>, named: &Named, digest: &Digest) -> Result<Answer, ApiError> {
    let (guard, size) = asked.app.admission.permit(&named.repository, digest).await?;
    if asked.head {
        return Ok(respond::blob_head(named, &guard, size));
    }
    let wanted = range::wanted(asked.headers, size, &respond::etag(digest))?;
    let key = FillKey { upstream: named.repository.upstream().clone(), digest: digest.clone(), size };
    let upstream = asked.in_force.upstream(&key.upstream)?;
    let content = asked.app.fills.content(key, &upstream, named.repository.path()).await?;
    let check = match asked.in_force.settings.storage.verify_reads {
        VerifyReads::Always => Some(asked.app.store.blobs().clone()),
        VerifyReads::Scrub => None,
    };
    let partial = wanted.is_some().then_some(size);
    respond::blob(content, named, wanted.unwrap_or(0..size), partial, guard, check).await
}
