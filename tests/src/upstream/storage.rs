//! The blob storage behind a registry: presigned URLs, and no other credentials.

use http::StatusCode;
use oci::Digest;
use url::form_urlencoded;

use super::calls::Call;
use super::draft::Draft;
use super::listen::Shared;

const PREFIX: &str = "/blob-store/";

/// Path and query under which a blob can be had without asking further.
pub(super) fn presigned(repository: &str, digest: &Digest) -> String {
    let path = format!("{PREFIX}{repository}/{digest}");
    let signature = signature(&path);
    format!("{path}?X-Signature={signature}")
}

/// Answers a call at [`Place::Storage`](super::Place::Storage).
pub(super) fn answer(shared: &Shared, call: &Call) -> Draft {
    if call.has_authorization() {
        // S3 refuses a request that is signed and carries a header besides
        return refused(StatusCode::BAD_REQUEST, "only one auth mechanism allowed");
    }
    let signed = form_urlencoded::parse(call.query.as_bytes())
        .any(|(name, value)| name == "X-Signature" && value == signature(&call.path));
    if !signed {
        return refused(StatusCode::FORBIDDEN, "signature does not match");
    }
    let blob = call
        .path
        .strip_prefix(PREFIX)
        .and_then(|path| path.rsplit_once('/'))
        .and_then(|(repository, digest)| shared.contents().blob(repository, &digest.parse().ok()?));
    match blob {
        Some(blob) => Draft::ranged(blob, shared.range(call)),
        None => refused(StatusCode::NOT_FOUND, "no such key"),
    }
}

/// Answers a call at [`Place::Foreign`](super::Place::Foreign): a blob to whoever asks for one, at any path that ends in a digest.
pub(super) fn answer_anybody(shared: &Shared, call: &Call) -> Draft {
    let blob = call
        .path
        .rsplit_once('/')
        .and_then(|(_, digest)| digest.parse().ok())
        .and_then(|digest| shared.contents().blob_anywhere(&digest));
    match blob {
        Some(blob) => Draft::ranged(blob, shared.range(call)),
        None => refused(StatusCode::NOT_FOUND, "nothing here"),
    }
}

fn refused(status: StatusCode, message: &str) -> Draft {
    Draft::new(status, "application/xml", format!("<Error>{message}</Error>"))
}

/// Stands for a signature: nobody guesses it who has not seen the redirect.
fn signature(path: &str) -> String {
    Digest::sha256(format!("storage key:{path}").as_bytes()).hex().to_owned()
}
