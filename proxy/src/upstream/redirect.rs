//! Where a redirect may lead.

use config::HostPort;
use http::StatusCode;
use url::Url;

use super::{
    client::{Answer, single},
    error::{Flaw, Forbidden, Kind, Pointer, UpstreamError},
    origin::{Origin, shown_host},
};

/// Longer than any signed URL of a blob storage.
const LOCATION_BYTES_MAX: usize = 8 << 10;

/// The rules for one upstream. That a target has a public address is checked when it is dialled.
pub(super) struct Redirects {
    pub(super) own: Origin,
    pub(super) listed: Vec<HostPort>,
}

impl Redirects {
    /// The place that an answer to a request for `from` redirects to; None where it is no redirect.
    pub(super) fn target(&self, what: Kind, answer: &Answer, from: &Url) -> Result<Option<Url>, UpstreamError> {
        if !is_redirect(answer.status()) {
            return Ok(None);
        }
        let malformed = |why| UpstreamError::Malformed { what, why };
        let location = single(answer.headers(), "location").map_err(malformed)?;
        let mut target = location
            .filter(|location| location.len() <= LOCATION_BYTES_MAX)
            .and_then(|location| from.join(location).ok())
            .ok_or(malformed(Flaw::Header("location")))?;
        target.set_fragment(None);
        match self.forbidden(what, from, &target) {
            None => Ok(Some(target)),
            Some(why) => Err(UpstreamError::Misdirected { what: Pointer::Redirect, host: shown_host(&target), why }),
        }
    }

    fn forbidden(&self, what: Kind, from: &Url, target: &Url) -> Option<Forbidden> {
        if !matches!(what, Kind::Head | Kind::Manifest | Kind::Blob) {
            return Some(Forbidden::Unexpected);
        }
        if !target.username().is_empty() || target.password().is_some() {
            return Some(Forbidden::UserInformation);
        }
        let Some(origin) = Origin::of(target) else { return Some(Forbidden::NotHttps) };
        // Plain http is never new: only an upstream that is itself plain may lead there, to itself or to a host the operator listed.
        let is_plain_allowed = from.scheme() == "http" && (origin == self.own || origin.is_listed(&self.listed));
        (!origin.is_https && !is_plain_allowed).then_some(Forbidden::NotHttps)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}
