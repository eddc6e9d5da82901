//! What a 401 asks for, and whether it may have it.

use config::HostPort;
use http::{HeaderMap, header};
use http_auth::{ChallengeRef, parse_challenges};
use url::Url;

use super::{
    error::{Flaw, Forbidden, Kind, Pointer, UpstreamError},
    origin::{Origin, shown_host},
};

const SERVICE_BYTES_MAX: usize = 256;

/// What a 401 asks for.
#[derive(Clone)]
pub(super) enum Challenge {
    /// A token from a realm.
    Bearer(TokenSource),
    /// User and password.
    Basic,
}

/// Where a token comes from. `scope` is left out on purpose: we ask for what we want, not for what a challenge says.
#[derive(Clone)]
pub(super) struct TokenSource {
    realm: Url,
    service: Option<String>,
}

impl Challenge {
    /// The first Bearer challenge, else Basic; None where neither is there.
    pub(super) fn of(what: Kind, headers: &HeaderMap) -> Result<Option<Self>, UpstreamError> {
        let malformed = UpstreamError::Malformed { what, why: Flaw::Header("www-authenticate") };
        let mut is_basic = false;
        for value in headers.get_all(header::WWW_AUTHENTICATE) {
            let text = value.to_str().map_err(|_| malformed.clone())?;
            for challenge in parse_challenges(text).map_err(|_| malformed.clone())? {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    return TokenSource::of(&challenge).map(|source| Some(Self::Bearer(source))).ok_or(malformed);
                }
                is_basic |= challenge.scheme.eq_ignore_ascii_case("basic");
            }
        }
        Ok(is_basic.then_some(Self::Basic))
    }
}

impl TokenSource {
    fn of(challenge: &ChallengeRef<'_>) -> Option<Self> {
        let realm = Url::parse(&single(challenge, "realm").ok()??).ok()?;
        let service = single(challenge, "service").ok()?.filter(|service| !service.is_empty());
        let is_short = service.as_ref().is_none_or(|service| service.len() <= SERVICE_BYTES_MAX);
        (realm.has_host() && is_short).then_some(Self { realm, service })
    }

    /// The URL to ask for a token that may pull from `repository` and nothing else.
    pub(super) fn url(&self, repository: &oci::RepositoryPath) -> Url {
        let mut url = self.realm.clone();
        url.set_fragment(None);
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(key, _)| key != "scope" && key != "service")
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        let mut query = url.query_pairs_mut();
        query.clear().extend_pairs(kept);
        if let Some(service) = &self.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", &format!("repository:{}:pull", repository.as_str()));
        drop(query);
        url
    }

    /// Refuses realms that credentials and tokens must not meet: the upstream's own origin and https on a listed host may, nothing else.
    /// Plain http is for an upstream that is itself plain on loopback, and stays on loopback.
    pub(super) fn check(&self, own: &Origin, realms: &[HostPort]) -> Result<(), UpstreamError> {
        let forbidden =
            |why| Err(UpstreamError::Misdirected { what: Pointer::Realm, host: shown_host(&self.realm), why });
        if !self.realm.username().is_empty() || self.realm.password().is_some() {
            return forbidden(Forbidden::UserInformation);
        }
        let Some(realm) = Origin::of(&self.realm) else { return forbidden(Forbidden::NotHttps) };
        if !own.keeps_secrets() {
            return forbidden(Forbidden::PlainUpstream);
        }
        let is_plain_allowed = !own.is_https && realm.is_loopback();
        if !realm.is_https && !is_plain_allowed {
            return forbidden(Forbidden::NotHttps);
        }
        if realm != *own && !realm.is_listed(realms) {
            return forbidden(Forbidden::OtherHost);
        }
        Ok(())
    }
}

/// The one parameter of that name; an error where it stands there twice.
fn single(challenge: &ChallengeRef<'_>, name: &str) -> Result<Option<String>, ()> {
    let mut values = challenge.params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => Ok(Some(value.to_unescaped())),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(realm: &str, own: &str) -> Result<(), Forbidden> {
        let own = Origin::of(&own.parse().unwrap()).unwrap();
        let source = TokenSource { realm: realm.parse().unwrap(), service: None };
        let listed = ["auth.docker.io".parse().unwrap(), "auth.example:8443".parse().unwrap()];
        source.check(&own, &listed).map_err(|error| {
            let UpstreamError::Misdirected { what: Pointer::Realm, why, .. } = error else { panic!("{error}") };
            why
        })
    }

    #[test]
    fn only_the_upstream_and_listed_hosts_are_realms() {
        for realm in [
            "https://cgr.dev/token",
            "https://CGR.dev:443/token?a=b",
            "https://auth.docker.io/token",
            "https://auth.docker.io:443/",
            "https://auth.example:8443/",
        ] {
            assert_eq!(check(realm, "https://cgr.dev"), Ok(()), "{realm}");
        }
        for (realm, why) in [
            ("https://cgr.dev.evil/token", Forbidden::OtherHost),
            ("https://evil/cgr.dev", Forbidden::OtherHost),
            ("https://evil/?cgr.dev#cgr.dev", Forbidden::OtherHost),
            ("https://x.cgr.dev/", Forbidden::OtherHost),
            ("https://cgr.dev./", Forbidden::OtherHost),
            ("https://cgr.dev:8443/", Forbidden::OtherHost),
            ("https://xn--cgr-5na.dev/", Forbidden::OtherHost),
            ("https://auth.docker.io:8443/", Forbidden::OtherHost),
            ("https://auth.example/", Forbidden::OtherHost),
            ("https://127.0.0.1/", Forbidden::OtherHost),
            ("https://[::1]/", Forbidden::OtherHost),
            ("https://cgr.dev@evil/", Forbidden::UserInformation),
            ("https://evil:x@cgr.dev/", Forbidden::UserInformation),
            ("http://cgr.dev/token", Forbidden::NotHttps),
            ("http://cgr.dev:443/token", Forbidden::NotHttps),
            ("http://auth.docker.io/", Forbidden::NotHttps),
            ("http://127.0.0.1/", Forbidden::NotHttps),
            ("ws://cgr.dev/", Forbidden::NotHttps),
        ] {
            assert_eq!(check(realm, "https://cgr.dev"), Err(why), "{realm}");
        }
    }

    #[test]
    fn a_plain_realm_is_for_loopback_only() {
        assert_eq!(check("http://127.0.0.1:5000/token", "http://127.0.0.1:5000"), Ok(()));
        assert_eq!(check("http://localhost:5000/token", "http://localhost:5000"), Ok(()));
        for (realm, own) in [
            ("http://10.0.0.1:5000/token", "http://10.0.0.1:5000"),
            ("http://registry.example/token", "http://registry.example"),
            ("https://auth.docker.io/token", "http://registry.example"),
        ] {
            assert_eq!(check(realm, own), Err(Forbidden::PlainUpstream), "{realm} for {own}");
        }
        for (realm, own) in [
            ("http://auth.example:8443/token", "http://127.0.0.1:5000"),
            ("http://127.0.0.1:5000/token", "https://127.0.0.1:5000"),
        ] {
            assert_eq!(check(realm, own), Err(Forbidden::NotHttps), "{realm} for {own}");
        }
    }
}
