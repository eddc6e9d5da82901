//! Lists: the tags of a repository, and what speaks about a manifest.

use std::collections::BTreeMap;

use http::{HeaderName, header};
use oci::{Descriptor, Digest, MediaType};
use serde_json::json;

use super::Asked;
use crate::{
    error::ApiError,
    respond::{self, Answer, Told},
    route::Named,
};

/// How many tags are told at a time, at most.
const TAGS_MAX: usize = 10_000;

/// `GET /v2/<name>/tags/list`. Not judged: a tag's name is not content.
pub(super) async fn tags(
    asked: &Asked<'_>,
    named: &Named,
    n: Option<u64>,
    last: Option<&str>,
) -> Result<Answer, ApiError> {
    asked.may_serve(named)?;
    let n = n.map(|n| n.min(TAGS_MAX as u64));
    let mut tags = Vec::new();
    let mut more = false;
    if n != Some(0) {
        let upstream = asked.in_force.upstream(named.repository.upstream())?;
        let what = format!("tags of {}", named.repository);
        let page = upstream
            .tags(named.repository.path(), n, last)
            .await
            .map_err(|error| ApiError::from_upstream(&error, "NAME_UNKNOWN", &what))?;
        (tags, more) = (page.tags, page.more);
        // Upstream says how many there are where nobody does.
        more |= tags.len() > TAGS_MAX;
        tags.truncate(TAGS_MAX);
        // Upstream may have taken its time, and the policy be another.
        asked.may_serve(named)?;
    }
    let ns = named.ns.as_ref().map(|ns| format!("&ns={ns}")).unwrap_or_default();
    let next = tags.last().filter(|_| more).map(|last| {
        let n = n.unwrap_or(tags.len() as u64);
        (header::LINK, format!("</v2/{}/tags/list?n={n}&last={last}{ns}>; rel=\"next\"", named.typed))
    });
    let document = json!({ "name": named.typed, "tags": tags }).to_string().into_bytes();
    let told = Told { head: asked.head, ..Told::default() };
    Ok(respond::list(document, "application/json", named, &told, next.as_slice()))
}

/// `GET /v2/<name>/referrers/<digest>`: a list of our own, of what may be served about an admitted subject.
pub(super) async fn referrers(
    asked: &Asked<'_>,
    named: &Named,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Answer, ApiError> {
    asked.may_serve(named)?;
    let listed = match asked.app.admission.referrers(&named.repository, subject, asked.patience).await {
        Ok(listed) => listed,
        // The specification wants an empty list for what is not there.
        Err(ApiError::Unknown { .. }) => crate::admission::Referrers::default(),
        Err(error) => return Err(error),
    };
    let wanted = |descriptor: &&Descriptor| {
        artifact_type.is_none_or(|wanted| descriptor.artifact_type.as_ref().is_some_and(|t| t.as_str() == wanted))
    };
    let manifests: Vec<_> = listed.descriptors.iter().filter(wanted).collect();
    let index = BTreeMap::from([
        ("schemaVersion", json!(2)),
        ("mediaType", json!(MediaType::OCI_INDEX)),
        ("manifests", json!(manifests)),
    ]);
    let document = json!(index).to_string().into_bytes();
    let filtered = artifact_type.map(|_| (HeaderName::from_static("oci-filters-applied"), "artifactType".to_owned()));
    let told = Told { head: asked.head, warnings: listed.warning.into_iter().collect(), ..Told::default() };
    Ok(respond::list(document, MediaType::OCI_INDEX, named, &told, filtered.as_slice()))
}
