//! Blobs: permit, content, respond.

use config::VerifyReads;
use oci::Digest;

use super::{Asked, condition, range};
use crate::{
    error::ApiError,
    fill::{Content, FillKey},
    respond::{self, Answer},
    route::Named,
};

/// `GET` and `HEAD /v2/<name>/blobs/<digest>`.
pub(super) async fn get(asked: &Asked<'_>, named: &Named, digest: &Digest) -> Result<Answer, ApiError> {
    let (guard, size) = asked.in_time(asked.app.admission.permit(&named.repository, digest, asked.patience)).await?;
    if condition::is_held(asked.headers, digest) {
        return Ok(respond::blob_held(named, &guard));
    }
    if asked.head {
        return Ok(respond::blob_head(named, &guard, size));
    }
    let ranges_max = asked.in_force.settings.limits.ranges_max;
    let wanted = range::wanted(asked.headers, size, &respond::etag(digest), ranges_max)?;
    let class = guard.class();
    let key = FillKey { upstream: named.repository.upstream().clone(), digest: digest.clone(), size, class };
    let upstream = asked.in_force.upstream(&key.upstream)?;
    let content = asked.app.fills.readable(key, &upstream, named.repository.path(), asked.patience);
    let content = asked.in_time(content).await?;
    // What clients parse is small, and is hashed at every read; all is where nobody has waited for the disk.
    let is_checked = match asked.in_force.settings.storage.verify_reads {
        VerifyReads::Always => true,
        VerifyReads::Scrub => !guard.is_layer() || asked.app.store.blobs().may_be_half(),
    };
    let check = is_checked.then(|| asked.app.store.blobs().clone());
    let is_stored = matches!(content, Content::Stored(_));
    let answer = respond::blob(content, named, wanted, size, guard, check);
    // A disk is waited for as long as it takes to hash what is asked for.
    if is_stored { answer.await } else { asked.in_time(answer).await }
}
