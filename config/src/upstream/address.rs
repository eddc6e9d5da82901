//! Where an upstream is asked, and where it may point.

use std::{fmt, net::IpAddr, str::FromStr};

/// A scheme, a host and a port: all of a registry's address, as `/v2/` always follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// With TLS or without.
    pub scheme: Scheme,
    /// Lower-case name or address; an IPv6 address in brackets.
    pub host: String,
    /// The scheme's own where none is written.
    pub port: u16,
}

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl UpstreamUrl {
    /// Whether the host is this machine, by address or as `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.default_port() {
            return Ok(());
        }
        write!(f, ":{}", self.port)
    }
}

impl FromStr for UpstreamUrl {
    type Err = &'static str;

    /// What belongs there is the error; the text is not repeated, it may hold a password.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "http:// or https://, a host and optionally a port, such as \"https://cgr.dev\"";
        let scheme = match text.split_once("://") {
            Some(("http", _)) => Scheme::Http,
            Some(("https", _)) => Scheme::Https,
            _ => return Err(EXPECTED),
        };
        if text.contains('@') {
            return Err("a URL without user or password (they belong into username and password_file)");
        }
        if text.bytes().any(|b| b <= b' ' || b == b'\\' || b == 0x7f) {
            return Err(EXPECTED);
        }
        let url = url::Url::parse(text).map_err(|_| EXPECTED)?;
        if url.path() != "/" || text.contains(['?', '#']) {
            return Err("a URL without path, query or fragment (paths belong into prefix or the pull)");
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(EXPECTED)?.to_owned();
        let port = url.port().unwrap_or(scheme.default_port());
        if port == 0 {
            return Err(EXPECTED);
        }
        Ok(Self { scheme, host, port })
    }
}

/// A host that an upstream may point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Lower-case name or address; an IPv6 address in brackets.
    pub host: String,
    /// The one port meant; none means 443.
    pub port: Option<u16>,
}

impl HostPort {
    /// Whether `host` (as in a URL) at `port` is meant.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && port == self.port.unwrap_or(Scheme::Https.default_port())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "a host and optionally a port, such as \"auth.example.com\" or \"10.0.0.7:8443\"";
        if text.contains(['/', '@', '?', '#', '*']) {
            return Err(EXPECTED);
        }
        let url: UpstreamUrl = format!("https://{text}").parse().map_err(|_| EXPECTED)?;
        let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
        Ok(Self { host: url.host, port: has_port.then_some(url.port) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_and_port() {
        for (text, shown, port) in [
            ("https://cgr.dev", "https://cgr.dev", 443),
            ("https://cgr.dev/", "https://cgr.dev", 443),
            ("https://CGR.dev:443", "https://cgr.dev", 443),
            ("http://127.0.0.1:5005", "http://127.0.0.1:5005", 5005),
            ("http://[::1]", "http://[::1]", 80),
        ] {
            let url: UpstreamUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.port), (shown, port));
        }
    }

    #[test]
    fn a_url_with_anything_else_is_refused() {
        for text in [
            "cgr.dev",
            "https:cgr.dev",
            "https://",
            "https:///",
            "HTTPS//x",
            "ftp://cgr.dev",
            "file:///etc",
            "https://cgr.dev/v2",
            "https://cgr.dev/?a",
            "https://cgr.dev#f",
            "https://cgr.dev?",
            "https://u@cgr.dev",
            "https://u:p@cgr.dev",
            "https://cgr.dev:0",
            "https://cgr.dev:70000",
            "https://cgr .dev",
            "https://cgr.dev\\x",
            "https://cgr.dev\n",
            "",
        ] {
            assert!(text.parse::<UpstreamUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let is_loopback = |text: &str| text.parse::<UpstreamUrl>().unwrap().is_loopback();
        assert!(["http://localhost:1", "http://127.8.9.1", "http://[::1]:5"].into_iter().all(is_loopback));
        assert!(
            !["http://10.0.0.1", "http://localhost.evil.com", "http://127.0.0.1.evil.com", "http://[::2]"]
                .into_iter()
                .any(is_loopback)
        );
    }

    #[test]
    fn a_host_without_port_means_443_only() {
        let host: HostPort = "Auth.example.com".parse().unwrap();
        assert!(host.matches("auth.example.com", 443));
        assert!(!host.matches("auth.example.com", 80) && !host.matches("x.auth.example.com", 443));
        let host: HostPort = "[::1]:8443".parse().unwrap();
        assert!(host.matches("[::1]", 8443) && !host.matches("[::1]", 443));
        let host: HostPort = "10.0.0.7:443".parse().unwrap();
        assert_eq!((host.port, host.to_string().as_str()), (Some(443), "10.0.0.7:443"));
        let host: HostPort = "[fd00::7]".parse().unwrap();
        assert_eq!((host.port, host.to_string().as_str()), (None, "[fd00::7]"));
    }

    #[test]
    fn what_is_more_than_a_host_is_refused() {
        for text in ["", "https://a", "a/b", "*.a", "u@a", "a:0", "a:x", "a b", "a?b", ":443"] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
    }
}
