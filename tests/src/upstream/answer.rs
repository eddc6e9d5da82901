//! What is answered to which call.

use std::sync::Arc;

use http::header::ACCEPT;
use http::request::Parts;
use http::{Response, StatusCode};
use oci::Digest;
use tokio::sync::watch;
use url::form_urlencoded;

use super::body::{Body, Broken};
use super::builder::Referrers;
use super::calls::Call;
use super::contents::Stored;
use super::draft::Draft;
use super::fault::Fault;
use super::listen::Shared;
use super::{Place, referrers, storage, token};

/// Logs the call, and answers it as well as the faults let it.
pub(super) async fn answer(
    shared: &Shared,
    place: Place,
    connection: u64,
    flushed: watch::Receiver<u64>,
    request: Parts,
) -> Result<Response<Body>, Broken> {
    let mut call = Call::new(place, connection, request);
    let number = shared.calls.record(&call);
    let faults = shared.faults.meet(&call);
    let mut instead = None;
    for met in &faults {
        if let Fault::Late(by) = met.fault {
            tokio::time::sleep(by).await;
        }
        if matches!(met.fault, Fault::Hang) {
            // an error means that the fault is gone: released as well
            let _ = met.released.clone().wait_for(|released| *released).await;
        }
        if matches!(met.fault, Fault::Disconnect) {
            return Err(Broken);
        }
        if matches!(met.fault, Fault::IgnoreRange) {
            call.headers.remove(http::header::RANGE);
        }
        instead = instead.or_else(|| Draft::instead(&met.fault));
    }
    let truth = instead.unwrap_or_else(|| route(shared, &call));
    let draft = faults.into_iter().fold(truth, Draft::spoil);
    shared.calls.answered(number, draft.status);
    Ok(draft.into_response(&call, flushed, Arc::clone(&shared.sent)))
}

fn route(shared: &Shared, call: &Call) -> Draft {
    match call.place {
        Place::Registry if call.is_token() && shared.tokens_at(Place::Registry) => token::answer(shared, call),
        Place::Registry => registry(shared, call),
        Place::Auth if call.is_token() && shared.tokens_at(Place::Auth) => token::answer(shared, call),
        Place::Auth => Draft::error(StatusCode::NOT_FOUND, "NOT_FOUND", "nothing here"),
        Place::Storage => storage::answer(shared, call),
        Place::Foreign if call.is_token() => token::answer_anybody(),
        Place::Foreign => storage::answer_anybody(shared, call),
    }
}

/// `/v2/` and what is below it.
fn registry(shared: &Shared, call: &Call) -> Draft {
    if !call.is_get() && !call.is_head() {
        return Draft::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is filled in memory");
    }
    let Some(path) = call.path.strip_prefix("/v2/") else {
        return Draft::error(StatusCode::NOT_FOUND, "NOT_FOUND", "not part of the API");
    };
    if path.is_empty() {
        return token::challenge(shared, call, None)
            .unwrap_or_else(|| Draft::new(StatusCode::OK, "application/json", "{}"));
    }
    let Some((repository, what)) = split(path) else {
        return Draft::error(StatusCode::NOT_FOUND, "NOT_FOUND", "not part of the API");
    };
    if let Some(challenge) = token::challenge(shared, call, Some(repository)) {
        return challenge;
    }
    match what {
        What::Manifest(reference) => manifest(shared, call, repository, reference),
        What::Blob(digest) => blob(shared, call, repository, digest),
        What::Referrers(digest) => list_referrers(shared, call, repository, digest),
        What::Tags => list_tags(shared, call, repository),
    }
}

enum What<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Referrers(&'a str),
    Tags,
}

/// `a/b/manifests/x` is the manifest x of a/b; the last keyword counts.
fn split(path: &str) -> Option<(&str, What<'_>)> {
    if let Some(repository) = path.strip_suffix("/tags/list") {
        return Some((repository, What::Tags));
    }
    let (rest, reference) = path.rsplit_once('/')?;
    let (repository, keyword) = rest.rsplit_once('/')?;
    let what = match keyword {
        "manifests" => What::Manifest(reference),
        "blobs" => What::Blob(reference),
        "referrers" => What::Referrers(reference),
        _ => return None,
    };
    Some((repository, what))
}

fn manifest(shared: &Shared, call: &Call, repository: &str, reference: &str) -> Draft {
    let unknown = |message| Draft::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message);
    let Some((digest, stored)) = shared.contents().manifest(repository, reference) else {
        return unknown("manifest unknown");
    };
    if !accepted(call, &stored) {
        // what distribution answers to those who do not know indexes
        return unknown("manifest found, but accept header does not support its type");
    }
    Draft::new(StatusCode::OK, &stored.media_type, stored.bytes).digest(&digest)
}

/// Whether the type is among those accepted, if any are named.
fn accepted(call: &Call, stored: &Stored) -> bool {
    let mut types = call
        .headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|entry| entry.split(';').next().unwrap_or_default().trim())
        .peekable();
    types.peek().is_none()
        || types.any(|entry| entry == stored.media_type || entry == "*/*" || entry == "application/*")
}

fn blob(shared: &Shared, call: &Call, repository: &str, digest: &str) -> Draft {
    let Ok(digest) = digest.parse::<Digest>() else {
        return Draft::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest");
    };
    let Some(bytes) = shared.contents().blob(repository, &digest) else {
        return Draft::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown");
    };
    if shared.options.redirect_blobs {
        let target = storage::presigned(repository, &digest);
        return Draft::redirect(&format!("{}{target}", shared.url_of(Place::Storage)));
    }
    Draft::ranged(bytes, shared.range(call)).digest(&digest)
}

fn list_referrers(shared: &Shared, call: &Call, repository: &str, subject: &str) -> Draft {
    let page_max = match shared.options.referrers {
        Referrers::Missing => {
            return Draft::new(StatusCode::NOT_FOUND, "text/plain", "404 page not found");
        }
        Referrers::Api => usize::MAX,
        Referrers::Paged(most) => most.max(1),
    };
    let Ok(subject) = subject.parse::<Digest>() else {
        return Draft::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a digest");
    };
    let mut found = referrers::of(&shared.contents(), repository, &subject);
    let filter = query(call, "artifactType");
    if let Some(filter) = &filter {
        found.retain(|descriptor| referrers::artifact_type(descriptor) == filter);
    }
    let start = query(call, "page").and_then(|page| page.parse().ok()).unwrap_or(0_usize);
    let rest = found.len().saturating_sub(start);
    let page: Vec<_> = found.into_iter().skip(start).take(page_max).collect();
    let mut draft = Draft::new(StatusCode::OK, referrers::INDEX, referrers::index(&page));
    if filter.is_some() {
        draft = draft.with("oci-filters-applied", "artifactType");
    }
    if rest > page_max {
        let mut next = form_urlencoded::Serializer::new(String::new());
        if let Some(filter) = &filter {
            next.append_pair("artifactType", filter);
        }
        next.append_pair("page", &(start + page_max).to_string());
        let link = format!("<{}?{}>; rel=\"next\"", call.path, next.finish());
        draft = draft.with("link", &link);
    }
    draft
}

fn list_tags(shared: &Shared, call: &Call, repository: &str) -> Draft {
    let Some(tags) = shared.contents().tags(repository) else {
        return Draft::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository unknown");
    };
    let asked = match query(call, "n").map(|n| n.parse::<usize>()) {
        None => usize::MAX,
        Some(Ok(n)) => n,
        Some(Err(_)) => {
            return Draft::error(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number");
        }
    };
    let last = query(call, "last").unwrap_or_default();
    let following: Vec<String> = tags.into_iter().filter(|tag| *tag > last).collect();
    let most = asked.min(shared.options.tags_page_max);
    let page: Vec<&String> = following.iter().take(most).collect();
    let document = serde_json::json!({"name": repository, "tags": page}).to_string();
    let draft = Draft::new(StatusCode::OK, "application/json", document);
    match page.last() {
        Some(end) if following.len() > page.len() => {
            let mut next = form_urlencoded::Serializer::new(String::new());
            next.append_pair("n", &most.to_string());
            next.append_pair("last", end);
            let link = format!("<{}?{}>; rel=\"next\"", call.path, next.finish());
            draft.with("link", &link)
        }
        Some(_) | None => draft,
    }
}

fn query(call: &Call, wanted: &str) -> Option<String> {
    form_urlencoded::parse(call.query.as_bytes()).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}
