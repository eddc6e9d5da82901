//! Forward proxies: the variables by which a machine tells all its programs how to get out, read as Go's HTTP client reads them, which
//! users of docker and skopeo know. `docs/configuration.md` has the rules.

use std::{fmt, net::IpAddr};

use percent_encoding::percent_decode_str;

use crate::{ConfigError, Scheme, Secret, environment::Environment, notes::Notes, upstream::without_user};

/// The variables, the one that counts first where both are set. `ALL_PROXY` is none of them.
pub(crate) const VARIABLES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const NO: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Through which forward proxy which host is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    https: Option<ForwardProxy>,
    http: Option<ForwardProxy>,
    past: Vec<Past>,
}

/// A forward proxy, spoken to over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardProxy {
    /// As in a URL: lower case, an IPv6 address in brackets.
    pub host: String,
    /// 80 where none is written.
    pub port: u16,
    /// `user:password`, decoded.
    pub credentials: Option<Secret<String>>,
}

impl fmt::Display for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Proxies {
    /// All but this machine through one proxy.
    #[must_use]
    pub fn through(proxy: ForwardProxy) -> Self {
        Self { https: Some(proxy.clone()), http: Some(proxy), past: Vec::new() }
    }

    /// The proxy for `host` (as in a URL) at `port`; `None` where it is asked directly. This machine always is.
    #[must_use]
    pub fn proxy_for(&self, scheme: Scheme, host: &str, port: u16) -> Option<&ForwardProxy> {
        let proxy = match scheme {
            Scheme::Https => self.https.as_ref(),
            Scheme::Http => self.http.as_ref(),
        }?;
        let host = Host::of(host);
        let is_past = host.is_loopback() || self.past.iter().any(|past| past.fits(&host, port));
        (!is_past).then_some(proxy)
    }
}

/// What the variables say, with one line about it for the log.
pub(crate) fn check(environment: &Environment, notes: &mut Notes) -> Result<Proxies, ConfigError> {
    let written = |names: [&str; 2]| {
        let set = |name: &str| environment.proxies.iter().find(|(set, _)| set == name);
        names.into_iter().find_map(set).map(|(name, text)| (name.as_str(), text.as_str()))
    };
    let proxy = |names| written(names).map(|(name, text)| parse(name, text)).transpose();
    let (https, http) = (proxy(HTTPS)?, proxy(HTTP)?);
    if https.is_none() && http.is_none() {
        return Ok(Proxies::default());
    }
    let (name, text) = written(NO).unwrap_or_default();
    let mut past = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match Past::of(&entry.to_ascii_lowercase()) {
            // Nothing is asked through a proxy then, and there is nothing to tell.
            Some(Past { host: Pattern::Any, .. }) => return Ok(Proxies::default()),
            Some(entry) => past.push(entry),
            None => notes.told(format!("{name}: {entry:?} is neither a host, an address nor a network: it fits none")),
        }
    }
    let ways: Vec<_> = [("https", HTTPS, &https), ("http", HTTP, &http)]
        .into_iter()
        .filter_map(|(scheme, names, proxy)| Some(format!("{} for {scheme} ({})", proxy.as_ref()?, written(names)?.0)))
        .collect();
    notes.weakened(format!(
        "upstreams are asked through forward proxy {}, where names are looked up: a redirect to a private place is refused where it names \
         an address, not where a name leads there",
        ways.join(", ")
    ));
    Ok(Proxies { https, http, past })
}

/// `[http://][user[:password]@]host[:port][/]`.
fn parse(variable: &str, text: &str) -> Result<ForwardProxy, ConfigError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let wrong = || ConfigError::Variable {
        name: variable.to_owned(),
        expected: "a forward proxy that is spoken to over plain HTTP, [http://][user:password@]host[:port]".to_owned(),
        written: if text.contains("://") {
            format!("{:?}", format!("{scheme}://{}", without_user(rest)))
        } else {
            format!("{:?}", without_user(rest))
        },
    };
    let is_plain_text = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let url = url::Url::parse(&format!("http://{rest}")).ok();
    // What follows the authority would be ignored, or is the rest of a password with a slash in it.
    let url = url.filter(|url| url.path() == "/" && !rest.contains(['?', '#']));
    let url = url.filter(|_| is_plain_text && scheme.eq_ignore_ascii_case("http")).ok_or_else(wrong)?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| wrong());
    let user = decoded(url.username())?;
    let credentials = match url.password() {
        None if user.is_empty() => None,
        password => Some(Secret::new(format!("{user}:{}", decoded(password.unwrap_or_default())?))),
    };
    // A user ends at the first colon.
    let host = url.host_str().filter(|host| !host.is_empty() && !user.contains(':')).ok_or_else(wrong)?.to_owned();
    let port = url.port_or_known_default().filter(|port| *port != 0).ok_or_else(wrong)?;
    Ok(ForwardProxy { host, port, credentials })
}

/// The host of a request.
struct Host<'a> {
    /// Without brackets and without the dot of the root.
    name: &'a str,
    /// What it is where it is no name; of IPv4, however it is written.
    address: Option<IpAddr>,
}

impl<'a> Host<'a> {
    fn of(host: &'a str) -> Self {
        let name = bare(host).trim_end_matches('.');
        Self { name, address: name.parse().ok().map(|address: IpAddr| address.to_canonical()) }
    }

    /// Whether it can only mean this machine (RFC 6761 §6.3).
    fn is_loopback(&self) -> bool {
        let is_local = || self.name == "localhost" || self.name.ends_with(".localhost");
        self.address.map_or_else(is_local, |address| address.is_loopback())
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// An entry of `NO_PROXY`: who is asked past the proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Past {
    host: Pattern,
    /// The one port meant, where one is written.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// `*`.
    Any,
    Address(IpAddr),
    Network(IpAddr, u8),
    /// All below a domain, which is written with its dot in front; and itself.
    Domain {
        dotted: String,
        is_itself: bool,
    },
}

impl Past {
    /// An entry in lower case; None where it fits nobody.
    fn of(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { host: Pattern::Any, port: None });
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
            let is_network = bits <= if address.is_ipv4() { 32 } else { 128 };
            return is_network.then_some(Self { host: Pattern::Network(address, bits), port: None });
        }
        if let Ok(address) = bare(entry).parse::<IpAddr>() {
            return Some(Self { host: Pattern::Address(address.to_canonical()), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        if let Ok(address) = bare(host).parse::<IpAddr>() {
            return Some(Self { host: Pattern::Address(address.to_canonical()), port });
        }
        let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host).trim_end_matches('.');
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.trim_start_matches('.').is_empty() || !name.bytes().all(is_name) {
            return None;
        }
        let is_itself = !name.starts_with('.');
        let dotted = if is_itself { format!(".{name}") } else { name.to_owned() };
        Some(Self { host: Pattern::Domain { dotted, is_itself }, port })
    }

    fn fits(&self, host: &Host<'_>, port: u16) -> bool {
        if self.port.is_some_and(|meant| meant != port) {
            return false;
        }
        match (&self.host, host.address) {
            (Pattern::Any, _) => true,
            (Pattern::Address(meant), Some(address)) => *meant == address,
            (Pattern::Network(network, bits), Some(address)) => is_within(address, *network, *bits),
            (Pattern::Domain { dotted, is_itself }, None) => {
                host.name.ends_with(dotted) || *is_itself && dotted.strip_prefix('.') == Some(host.name)
            }
            (Pattern::Address(_) | Pattern::Network(..), None) | (Pattern::Domain { .. }, Some(_)) => false,
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (address.to_bits().into(), network.to_bits().into(), 32),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let differing: u128 = address ^ network;
    differing.checked_shr(width - u32::from(bits)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Result<(Proxies, Vec<String>), ConfigError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let mut notes = Notes::default();
        let proxies = check(&Environment::of(variables, false)?, &mut notes)?;
        Ok((proxies, notes.into_lines()))
    }

    fn of(variables: &[(&str, &str)]) -> Proxies {
        told(variables).unwrap().0
    }

    fn shown(proxies: &Proxies, scheme: Scheme) -> Option<String> {
        proxies.proxy_for(scheme, "registry.example", 443).map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_own_variable_and_capitals_count_first() {
        let some = |text: &str| Some(text.to_owned());
        for (variables, wanted) in [
            (&[][..], (None, None)),
            (&[("HTTPS_PROXY", "http://a:1"), ("http_proxy", "http://b:2/")], (some("a:1"), some("b:2"))),
            (&[("https_proxy", "http://a:1")], (some("a:1"), None)),
            (&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:2")], (some("b:2"), None)),
            (&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "")], (some("a:1"), None)),
            (&[("HTTPS_PROXY", "")], (None, None)),
            (&[("ALL_PROXY", "http://a:1"), ("all_proxy", "http://a:1"), ("Https_Proxy", "http://a:1")], (None, None)),
            (&[("HTTP_PROXY", "PROXY.example:3128"), ("REQUEST_METHOD", "GET")], (None, some("proxy.example:3128"))),
            (&[("HTTPS_PROXY", "http://proxy.example")], (some("proxy.example:80"), None)),
            (&[("HTTPS_PROXY", "HTTP://[fd00::1]:3128")], (some("[fd00::1]:3128"), None)),
        ] {
            let proxies = of(variables);
            assert_eq!((shown(&proxies, Scheme::Https), shown(&proxies, Scheme::Http)), wanted, "{variables:?}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        for (text, wanted) in [
            ("http://user:hunter2@p:3128", Some("user:hunter2")),
            ("user:h%40%2Funter2@p:3128", Some("user:h@/unter2")),
            ("http://user:hun@ter2@p:3128", Some("user:hun@ter2")),
            ("http://hunter2@p:3128", Some("hunter2:")),
            ("http://:hunter2@p:3128", Some(":hunter2")),
            ("http://@p:3128", None),
        ] {
            let (proxies, notes) = told(&[("HTTPS_PROXY", text)]).unwrap();
            let proxy = proxies.proxy_for(Scheme::Https, "registry.example", 443).unwrap();
            assert_eq!(proxy.credentials.as_ref().map(|credentials| credentials.expose().as_str()), wanted, "{text}");
            let told = format!("{proxies:?} {proxies:#?} {proxy} {notes:?}");
            assert!(told.contains("p:3128") && !told.contains("unter2") && !told.contains("ter2"), "{told}");
        }
    }

    #[test]
    fn what_is_no_plain_http_proxy_is_an_error_without_its_password() {
        let want = "HTTPS_PROXY: want a forward proxy that is spoken to over plain HTTP, [http://][user:password@]host[:port], got ";
        for (text, shown) in [
            ("socks5://127.0.0.1:1080", "\"socks5://127.0.0.1:1080\""),
            ("socks5h://user:hunter2@p:1080", "\"socks5h://[secret]@p:1080\""),
            ("https://user:hunter2@p:3128", "\"https://[secret]@p:3128\""),
            ("http://user:hun/ter2@p:3128", "\"http://[secret]@p:3128\""),
            ("http://user:12#hunter2@p:3128", "\"http://[secret]@p:3128\""),
            ("http://user:12?hunter2@p:3128", "\"http://[secret]@p:3128\""),
            ("http://user:12/hunter2@p:3128", "\"http://[secret]@p:3128\""),
            ("http://user:12\\hunter2@p:3128", "\"http://[secret]@p:3128\""),
            ("http://user:%ffhunter2@p:3128", "\"http://[secret]@p:3128\""),
            ("http://us%3Aer:hunter2@p:3128", "\"http://[secret]@p:3128\""),
            ("http://p:3128/somewhere", "\"http://p:3128/somewhere\""),
            ("http://p:0", "\"http://p:0\""),
            ("http://p:99999", "\"http://p:99999\""),
            ("http://", "\"http://\""),
            ("://", "\"://\""),
            ("p q", "\"p q\""),
            ("direct://", "\"direct://\""),
        ] {
            assert_eq!(told(&[("HTTPS_PROXY", text)]).unwrap_err().to_string(), format!("{want}{shown}"), "{text}");
        }
        assert!(told(&[("http_proxy", "socks5://p")]).unwrap_err().to_string().starts_with("http_proxy: "));
    }

    /// Whether `host` at 8443 is asked past the proxy where `NO_PROXY` is `no`.
    fn is_past(no: &str, host: &str) -> bool {
        let proxies = of(&[("HTTPS_PROXY", "http://p:3128"), ("no_proxy", no)]);
        proxies.proxy_for(Scheme::Https, host, 8443).is_none()
    }

    #[test]
    fn who_is_excluded_is_asked_past_the_proxy() {
        for (no, host) in [
            ("*", "registry.example"),
            ("registry.example", "registry.example"),
            ("registry.example", "registry.example."),
            ("a, Registry.Example ,b", "registry.example"),
            ("example", "registry.example"),
            ("registry.example", "a.registry.example"),
            (".example", "registry.example"),
            ("*.example", "a.registry.example"),
            ("registry.example:8443", "registry.example"),
            (".example:8443", "registry.example"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7", "[::ffff:c000:207]"),
            ("192.0.2.7:8443", "192.0.2.7"),
            ("192.0.2.0/24", "192.0.2.7"),
            ("192.0.2.99/24", "192.0.2.7"),
            ("0.0.0.0/0", "192.0.2.7"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]", "[fd00::1]"),
            ("[fd00::1]:8443", "[fd00::1]"),
            ("fd00::/8", "[fd12::1]"),
            ("::/0", "[fd12::1]"),
        ] {
            assert!(is_past(no, host), "{host} is not excluded by {no:?}");
        }
    }

    #[test]
    fn who_is_not_excluded_is_asked_through_it() {
        for (no, host) in [
            ("", "registry.example"),
            (",, ,", "registry.example"),
            ("registry.example", "registry.example.org"),
            ("registry.example", "notregistry.example"),
            (".registry.example", "registry.example"),
            ("*.registry.example", "registry.example"),
            ("*registry.example", "registry.example"),
            ("reg*", "registry.example"),
            ("registry.example:443", "registry.example"),
            ("registry.example:", "registry.example"),
            (":8443", "registry.example"),
            ("registry.example other.example", "registry.example"),
            (".", "registry.example"),
            ("https://registry.example", "registry.example"),
            ("192.0.2.0/33", "192.0.2.7"),
            ("192.0.2.0/-1", "192.0.2.7"),
            ("192.0.2.0/25", "192.0.2.200"),
            ("192.0.2.", "192.0.2.7"),
            ("192.0.2.7:443", "192.0.2.7"),
            ("2.7", "192.0.2.7"),
            ("::/0", "192.0.2.7"),
            ("0.0.0.0/0", "[fd00::1]"),
            ("0.0.0.0/0", "registry.example"),
            ("fd00::/9", "[fdff::1]"),
        ] {
            assert!(!is_past(no, host), "{host} is excluded by {no:?}");
        }
    }

    #[test]
    fn this_machine_is_never_asked_through_a_proxy() {
        for host in ["localhost", "localhost.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(is_past("", host), "{host}");
        }
        for host in ["localhost.example", "notlocalhost", "10.0.0.1", "0.0.0.0", "[fe80::1]"] {
            assert!(!is_past("", host), "{host}");
        }
    }

    #[test]
    fn the_log_is_told_once_through_whom_and_what_that_weakens() {
        let weakens = "where names are looked up: a redirect to a private place is refused where it names an address, not where a name leads there";
        let (_, notes) = told(&[("HTTPS_PROXY", "http://user:hunter2@p:3128"), ("http_proxy", "q:1")]).unwrap();
        let who = "p:3128 for https (HTTPS_PROXY), q:1 for http (http_proxy)";
        assert_eq!(notes, [format!("weakened: upstreams are asked through forward proxy {who}, {weakens}")]);
        let (_, notes) = told(&[("https_proxy", "p:3128"), ("NO_PROXY", "10.0.0.0/33,a.example")]).unwrap();
        assert_eq!(
            notes,
            [
                "NO_PROXY: \"10.0.0.0/33\" is neither a host, an address nor a network: it fits none".to_owned(),
                format!(
                    "weakened: upstreams are asked through forward proxy p:3128 for https (https_proxy), {weakens}"
                )
            ]
        );
        for variables in [&[("NO_PROXY", "/")][..], &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", "a, *")]] {
            let (proxies, notes) = told(variables).unwrap();
            assert_eq!((proxies, notes), (Proxies::default(), Vec::new()), "{variables:?}");
        }
    }
}
