//! From where, and how often, the trust root is refreshed.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use figment::value::magic::RelativePathBuf;
use serde::{
    Deserialize,
    de::{Deserializer, Error, Unexpected, Visitor},
};

use crate::{
    ConfigError, Scheme, UpstreamUrl, listen::existing_file, notes::Notes, sources::Sources, units,
    upstream::without_user,
};

/// Where public-good Sigstore publishes its trust root.
const PUBLIC_GOOD_MIRROR: &str = "https://tuf-repo-cdn.sigstore.dev";

/// `policy.trust_root_refresh`, and the keys that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRootRefresh {
    /// The TUF repository. Default for public-good Sigstore: its own.
    pub mirror: MirrorUrl,
    /// PEM: trusted for the mirror besides the CA roots compiled in.
    pub ca_file: Option<PathBuf>,
    /// The TUF root that verification begins with. Default: the one of public-good Sigstore that is compiled in.
    pub initial: Option<PathBuf>,
    /// How often the mirror is asked; `None`: only on request. Default 24h.
    pub every: Option<Duration>,
}

/// The URL of a TUF repository: an origin, and a path with a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorUrl {
    /// Scheme, host and port.
    pub origin: UpstreamUrl,
    /// `/`, or more.
    pub path: String,
}

impl fmt::Display for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path.trim_end_matches('/'))
    }
}

impl FromStr for MirrorUrl {
    type Err = &'static str;

    /// What belongs there is the error; the text is not repeated, it may hold a password.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "an https:// URL without user, query or fragment, such as \"https://tuf-repo-cdn.sigstore.dev\"";
        let after_scheme = text.find("://").ok_or(EXPECTED)? + 3;
        let path_at = text.get(after_scheme..).and_then(|rest| rest.find('/')).map(|at| at + after_scheme);
        let (origin, path) = path_at.and_then(|at| text.split_at_checked(at)).unwrap_or((text, "/"));
        let origin: UpstreamUrl = origin.parse().map_err(|_| EXPECTED)?;
        let is_plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        let inner = path.trim_matches('/');
        if !inner.is_empty() && !inner.split('/').all(is_plain) {
            return Err(EXPECTED);
        }
        if origin.scheme == Scheme::Http && !origin.is_loopback() {
            return Err("an https:// URL; plain http:// is for this machine only");
        }
        let path = if inner.is_empty() { "/".to_owned() } else { format!("/{inner}/") };
        Ok(Self { origin, path })
    }
}

/// `policy.trust_root_refresh` as written: a duration, or `"never"`.
#[derive(Clone, Copy)]
pub(crate) struct Interval(Option<Duration>);

impl Default for Interval {
    fn default() -> Self {
        Self(Some(Duration::from_secs(86_400)))
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(IntervalVisitor)
    }
}

struct IntervalVisitor;

impl Visitor<'_> for IntervalVisitor {
    type Value = Interval;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration above zero such as \"24h\", or \"never\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Interval, E> {
        if text == "never" {
            return Ok(Interval(None));
        }
        units::parse_duration(text)
            .filter(|duration| !duration.is_zero())
            .map(|duration| Interval(Some(duration)))
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// The keys of `[policy]` that are about refreshing, as written.
pub(crate) struct WrittenRefresh {
    pub(crate) every: Interval,
    pub(crate) mirror: Option<String>,
    pub(crate) ca: Option<RelativePathBuf>,
    pub(crate) initial: Option<RelativePathBuf>,
}

impl WrittenRefresh {
    /// `is_private` where the operator trusts a root of their own: it has no mirror that we could know.
    pub(crate) fn check(
        self,
        is_private: bool,
        sources: &Sources,
        notes: &mut Notes,
    ) -> Result<Option<TrustRootRefresh>, ConfigError> {
        self.check_complete(is_private, sources)?;
        let mirror = match (&self.mirror, is_private) {
            (Some(written), _) => written.as_str(),
            (None, false) => PUBLIC_GOOD_MIRROR,
            (None, true) => {
                notes.told("policy.trust_root_mirror is not set: the trust root is not refreshed");
                return Ok(None);
            }
        };
        let mirror: MirrorUrl = mirror.parse().map_err(|expected: &str| {
            sources.unexpected("policy.trust_root_mirror", expected, &without_user(mirror))
        })?;
        let file = |key: &str, path: Option<RelativePathBuf>| {
            path.map(|path| existing_file(key, path.relative(), sources)).transpose()
        };
        let ca_file = file("policy.trust_root_mirror_ca", self.ca)?;
        let initial = file("policy.trust_root_initial", self.initial)?;
        Ok(Some(TrustRootRefresh { mirror, ca_file, initial, every: self.every.0 }))
    }

    fn check_complete(&self, is_private: bool, sources: &Sources) -> Result<(), ConfigError> {
        let conflict = |key: &str, problem: &str, hint: &str| Err(sources.conflict(key, problem.to_owned(), hint));
        match (is_private, self.mirror.is_some(), self.initial.is_some()) {
            (_, false, true) => conflict(
                "policy.trust_root_initial",
                "a TUF root is of no use without a TUF repository",
                "set policy.trust_root_mirror",
            ),
            (true, true, false) => conflict(
                "policy.trust_root_mirror",
                "policy.trust_root replaces public-good Sigstore, whose TUF root is the only one compiled in",
                "set policy.trust_root_initial to the root.json of that TUF repository",
            ),
            (false, true, true) => conflict(
                "policy.trust_root_initial",
                "nothing says whom to trust until the first refresh",
                "set policy.trust_root to the trusted_root.json of that TUF repository; for a mirror of public-good Sigstore, leave \
                 policy.trust_root_initial out",
            ),
            (_, false, false) if self.ca.is_some() => conflict(
                "policy.trust_root_mirror_ca",
                "no mirror of your own is configured",
                "set policy.trust_root_mirror, or leave policy.trust_root_mirror_ca out",
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_an_origin_and_a_path() {
        for (text, shown, path) in [
            ("https://tuf-repo-cdn.sigstore.dev", "https://tuf-repo-cdn.sigstore.dev", "/"),
            ("https://tuf.example.com/", "https://tuf.example.com", "/"),
            (
                "https://tuf.example.com:8443/root-signing",
                "https://tuf.example.com:8443/root-signing",
                "/root-signing/",
            ),
            ("http://127.0.0.1:8080/a/b/", "http://127.0.0.1:8080/a/b", "/a/b/"),
        ] {
            let url: MirrorUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.path.as_str()), (shown, path));
        }
    }

    #[test]
    fn what_is_no_mirror_is_refused() {
        for text in [
            "",
            "tuf.example.com",
            "ftp://tuf.example.com",
            "http://tuf.example.com",
            "https://u:p@tuf.example.com",
            "https://tuf.example.com/?a=b",
            "https://tuf.example.com/a#b",
            "https://tuf.example.com/../a",
            "https://tuf.example.com/a//b",
            "https://tuf.example.com/%2e%2e/",
            "https://tuf.example.com/a b",
        ] {
            assert!(text.parse::<MirrorUrl>().is_err(), "{text:?}");
        }
    }
}
