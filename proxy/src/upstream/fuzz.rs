//! Readers of what an upstream says that only this crate can reach, as targets of fuzzing: bytes from outside, and a panic where what must
//! hold does not.
//!
//! Whole answers are put before the whole client by `soak fuzz` (`tests/src/soak/fuzz/answers.rs`). Nothing of the product calls these.

use http::{HeaderMap, HeaderValue, header};
use oci::RepositoryPath;
use url::Url;

use super::{challenge::Challenge, error::Kind, links::next_page, origin::Origin, token::Token};

/// Longest a token may be kept, in seconds.
const KEPT_MAX: u64 = 3600;
const DEPTH_MAX: usize = 16;

/// Each line is a value of that header.
fn headers(name: &header::HeaderName, data: &[u8]) -> HeaderMap {
    let values = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name.clone(), value)).collect()
}

fn repository() -> RepositoryPath {
    "chainguard/nginx".parse().expect("a path as clients write it")
}

fn origin(url: &str) -> Origin {
    Origin::of(&url.parse().expect("a URL as operators write it")).expect("http or https")
}

/// `WWW-Authenticate`: a realm that may have credentials is the upstream's own or a listed one, and is asked for what we want.
pub fn challenge(data: &[u8]) {
    let listed = ["auth.example:8443".parse().expect("a host and a port")];
    let Ok(Some(Challenge::Bearer(source))) = Challenge::of(Kind::Manifest, &headers(&header::WWW_AUTHENTICATE, data))
    else {
        return;
    };
    let url = source.url(&repository());
    let scopes: Vec<_> = url.query_pairs().filter(|(name, _)| name == "scope").map(|(_, value)| value).collect();
    assert_eq!(scopes, ["repository:chainguard/nginx:pull"], "asked for something else: {url}");
    for own in ["https://cgr.dev", "http://127.0.0.1:5000", "http://plain.example"] {
        let own = origin(own);
        if source.check(&own, &listed).is_err() {
            continue;
        }
        let realm = Origin::of(&url).expect("a realm that may be asked is http or https");
        let is_listed = realm.host == "auth.example" && realm.port == 8443;
        assert!(realm == own || is_listed, "{url} may have the credentials of {own:?}");
        assert!(realm.is_https || (!own.is_https && realm.is_loopback()), "credentials in the clear for {url}");
        assert!(own.keeps_secrets(), "credentials of {own:?}, which has none that could be kept");
        assert!(url.username().is_empty() && url.password().is_none(), "user information in {url}");
    }
}

/// `Link`: the next page is one of the same list of the same upstream.
pub fn link(data: &[u8]) {
    let own = origin("https://cgr.dev");
    let page: Url = "https://cgr.dev/v2/chainguard/nginx/tags/list?n=5".parse().expect("a page of a list");
    let Ok(Some(next)) = next_page(Kind::Tags, &headers(&header::LINK, data), &page, &own, &repository()) else {
        return;
    };
    assert_eq!(Origin::of(&next), Some(own), "another host: {next}");
    assert!(next.username().is_empty() && next.password().is_none(), "user information in {next}");
    let rest = next.path().strip_prefix("/v2/chainguard/nginx/").expect("the same repository");
    let is_of_a_digest = |subject: &str| {
        let (algorithm, hex) = subject.split_once(':').unwrap_or_default();
        ["sha256", "sha512"].contains(&algorithm) && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(rest == "tags/list" || rest.strip_prefix("referrers/").is_some_and(is_of_a_digest), "no list: {next}");
}

/// A token endpoint's document: what is taken for a token stands in it, is one word, and ends.
pub fn token(data: &[u8]) {
    let Some(token) = Token::parse(data, DEPTH_MAX) else { return };
    let document: serde_json::Value = serde_json::from_slice(data).expect("a token's document is JSON to any reader");
    let sent = token.header.to_str().ok().and_then(|header| header.strip_prefix("Bearer ")).expect("a bearer token");
    assert!(!sent.is_empty() && sent.bytes().all(|byte| byte.is_ascii_graphic()), "a header of several words");
    let is_told =
        ["token", "access_token"].iter().any(|name| document.get(name).and_then(|it| it.as_str()) == Some(sent));
    assert!(is_told, "a token that nobody told");
    assert!(token.usable_for.as_secs() <= KEPT_MAX, "kept for {:?}", token.usable_for);
}
