use config::Upstream;
use proptest::prelude::*;

use super::*;

fn routes() -> Routes {
    let upstream = |name: &str, prefix: &str| Upstream {
        name: name.parse().unwrap(),
        url: format!("https://{name}").parse().unwrap(),
        prefix: prefix.to_owned(),
        credentials: None,
        docker_config: None,
        password_expires: None,
        credentials_warn_age: std::time::Duration::ZERO,
        ca_file: None,
        realms: Vec::new(),
        redirects: Vec::new(),
    };
    Routes::new(&[
        upstream("cgr.dev", ""),
        upstream("docker.io", "hub"),
        upstream("ghcr.io", "gh"),
        upstream("quay.io", "gh/quay"),
    ])
}

fn parse(target: &str) -> Result<Call, ApiError> {
    Call::parse(&Method::GET, &target.parse().unwrap(), &routes())
}

fn repository(target: &str) -> String {
    match parse(target).unwrap() {
        Call::Manifest { named, .. }
        | Call::Blob { named, .. }
        | Call::Tags { named, .. }
        | Call::Referrers { named, .. } => named.repository.to_string(),
        Call::Base => "base".to_owned(),
    }
}

fn digest() -> String {
    Digest::sha256(b"x").to_string()
}

#[test]
fn prefixes_match_whole_segments_the_longest_first() {
    for (path, want) in [
        ("chainguard/nginx", "cgr.dev/chainguard/nginx"),
        ("hub/nginx", "docker.io/library/nginx"),
        ("hub/grafana/grafana", "docker.io/grafana/grafana"),
        ("hubx/nginx", "cgr.dev/hubx/nginx"),
        ("gh/a/b", "ghcr.io/a/b"),
        ("gh/quay/a", "quay.io/a"),
        ("gh/quayx/a", "ghcr.io/quayx/a"),
        ("hub", "cgr.dev/hub"),
        ("gh/quay", "ghcr.io/quay"),
        ("blobs/manifests", "cgr.dev/blobs/manifests"),
        ("x/manifests/y", "cgr.dev/x/manifests/y"),
    ] {
        assert_eq!(repository(&format!("/v2/{path}/manifests/latest")), want);
    }
}

#[test]
fn a_namespace_names_the_upstream_and_strips_nothing() {
    assert_eq!(repository("/v2/hub/nginx/manifests/latest?ns=ghcr.io"), "ghcr.io/hub/nginx");
    assert_eq!(repository("/v2/nginx/manifests/latest?ns=docker.io"), "docker.io/library/nginx");
    for bad in [
        "ns=evil.example",
        "ns=",
        "ns=CGR.dev",
        "ns=cgr.dev&ns=cgr.dev",
        "ns=cgr.dev&ns=ghcr.io",
        "ns=cgr.dev%2Fx",
        "ns=cgr.dev%00",
    ] {
        let error = parse(&format!("/v2/a/manifests/latest?{bad}")).unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (404, "NAME_UNKNOWN"), "{bad}");
    }
}

#[test]
fn malformed_names_tags_digests_and_numbers_are_400() {
    let digest = digest();
    for target in [
        "/v2/A/manifests/latest".to_owned(),
        "/v2//manifests/latest".to_owned(),
        "/v2/a//b/manifests/latest".to_owned(),
        "/v2/a/../b/manifests/latest".to_owned(),
        "/v2/a%2fb/manifests/latest".to_owned(),
        "/v2/a%2Fb/manifests/latest".to_owned(),
        "/v2/%2e%2e/manifests/latest".to_owned(),
        "/v2/a/manifests/".to_owned(),
        "/v2/a/manifests/.x".to_owned(),
        "/v2/a/manifests/sha256:short".to_owned(),
        "/v2/a/manifests/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        format!("/v2/a/blobs/{}", digest.to_uppercase()),
        format!("/v2/a/blobs/{digest}0"),
        "/v2/a/blobs/latest".to_owned(),
        "/v2/a/referrers/latest".to_owned(),
        "/v2/a/tags/list?n=-1".to_owned(),
        "/v2/a/tags/list?n=abc".to_owned(),
        "/v2/a/tags/list?n=".to_owned(),
        "/v2/a/tags/list?n=100000000000000000000".to_owned(),
        "/v2/a/tags/list?n=1&n=2".to_owned(),
        format!("/v2/{}/manifests/latest", "a".repeat(256)),
    ] {
        assert_eq!(parse(&target).unwrap_err().status().as_u16(), 400, "{target}");
    }
}

#[test]
fn what_is_no_endpoint_is_404_and_writes_are_405() {
    for target in
        ["/", "/v1/search", "/v2/_catalog", "/v2/a/blobs/uploads/", "/v2/a", "/v2/a/tags/other", "/v2x/", "/healthz"]
    {
        assert_eq!(parse(target).unwrap_err().status().as_u16(), 404, "{target}");
    }
    let digest = digest();
    let targets = [
        "/v2/".to_owned(),
        "/v2/a/manifests/latest".to_owned(),
        format!("/v2/a/manifests/{digest}"),
        format!("/v2/a/blobs/{digest}"),
        "/v2/a/blobs/uploads/".to_owned(),
        "/v2/a/tags/list".to_owned(),
        format!("/v2/a/referrers/{digest}"),
    ];
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        for target in &targets {
            let error = Call::parse(&method.parse().unwrap(), &target.parse().unwrap(), &routes()).unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (405, "UNSUPPORTED"), "{method} {target}");
        }
    }
}

#[test]
fn every_call_is_read() {
    let digest = digest();
    assert_eq!(parse("/v2/").unwrap(), Call::Base);
    assert_eq!(parse("/v2").unwrap(), Call::Base);
    assert!(matches!(
        parse(&format!("/v2/a/manifests/{digest}")),
        Ok(Call::Manifest { reference: Reference::Digest(_), .. })
    ));
    assert!(matches!(parse(&format!("/v2/a/blobs/sha512:{}", "0".repeat(128))), Ok(Call::Blob { .. })));
    let Ok(Call::Tags { n, last, .. }) = parse("/v2/a/tags/list?n=5&last=x%2Cy&other=1") else { panic!("tags") };
    assert_eq!((n, last.as_deref()), (Some(5), Some("x,y")));
    let Ok(Call::Referrers { artifact_type, .. }) = parse(&format!("/v2/a/referrers/{digest}?artifactType=a%2Fb"))
    else {
        panic!("referrers")
    };
    assert_eq!(artifact_type.as_deref(), Some("a/b"));
}

/// A reading of a target that knows no tricks: upstream and path of the repository, and what is asked of it.
fn plainly(path: &str, endpoint: &str, last: &str) -> Option<(String, String)> {
    let is_segment = |segment: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [segment.bytes().next(), segment.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(is_inner))
            && segment.bytes().all(|byte| is_inner(byte) || b"._-".contains(&byte))
    };
    if !path.split('/').all(is_segment) {
        return None;
    }
    let prefixes = [("gh/quay/", "quay.io/"), ("gh/", "ghcr.io/"), ("hub/", "docker.io/")];
    let under = prefixes.iter().find_map(|(prefix, upstream)| Some((upstream, path.strip_prefix(prefix)?)));
    let repository = match under {
        Some((&"docker.io/", image)) if !image.contains('/') => format!("docker.io/library/{image}"),
        Some((upstream, rest)) => format!("{upstream}{rest}"),
        None => format!("cgr.dev/{path}"),
    };
    Some((repository, format!("{endpoint} {last}")))
}

/// What a call is about, as [`plainly`] has it.
fn read(call: &Call) -> (String, String) {
    let (named, asked) = match call {
        Call::Manifest { named, reference } => (named, format!("manifests {reference}")),
        Call::Blob { named, digest } => (named, format!("blobs {digest}")),
        Call::Referrers { named, digest, .. } => (named, format!("referrers {digest}")),
        Call::Tags { named, .. } => (named, "tags list".to_owned()),
        Call::Base => panic!("no repository"),
    };
    (named.repository.to_string(), asked)
}

/// Pieces of paths that somebody may read otherwise than we do.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b.c",
        "d--e",
        "hub",
        "gh",
        "quay",
        "manifests",
        "blobs",
        "referrers",
        "tags",
        "list",
        "latest",
        "library",
        "uploads",
        "",
        ".",
        "..",
        "%2e%2e",
        "%2E",
        "a%2fb",
        "%00",
        "%",
        "a%20b",
        "A",
        "_",
        "a_",
        "-a",
        "a:b",
        "a@b",
        "~",
        "a;b",
        "a\\b",
        "%c3%a9",
        "%ef%bc%8f",
        "cgr.dev",
        "ghcr.io",
    ])
}

fn last() -> impl Strategy<Value = (&'static str, String)> {
    let digest = || Just(digest());
    let tag = "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}";
    prop_oneof![
        prop_oneof![tag.boxed(), digest().boxed()].prop_map(|last| ("manifests", last)),
        digest().prop_map(|last| ("blobs", last)),
        digest().prop_map(|last| ("referrers", last)),
        Just(("tags", "list".to_owned())),
    ]
}

proptest! {
    #[test]
    fn no_path_makes_it_panic(path in "/v2/[a-zA-Z0-9._:/%~-]{0,60}", query in "[a-z0-9=&%.-]{0,30}") {
        if let Ok(uri) = format!("{path}?{query}").parse() {
            let _ = Call::parse(&Method::GET, &uri, &routes());
        }
    }

    #[test]
    fn a_name_is_read_as_it_stands(name in "[a-z0-9]{1,8}((\\.|_|__|-{1,3}|/)[a-z0-9]{1,8}){0,6}", (endpoint, last) in last()) {
        let call = parse(&format!("/v2/{name}/{endpoint}/{last}")).unwrap();
        prop_assert_eq!(Some(read(&call)), plainly(&name, endpoint, &last));
    }

    #[test]
    fn whatever_is_read_is_what_stands_there(pieces in prop::collection::vec(piece(), 1..6), (endpoint, last) in last()) {
        let path = pieces.join("/");
        let Ok(uri) = format!("/v2/{path}/{endpoint}/{last}").parse() else { return Ok(()) };
        if let Ok(call) = Call::parse(&Method::GET, &uri, &routes()) {
            prop_assert_eq!(Some(read(&call)), plainly(&path, endpoint, &last));
        }
    }

    #[test]
    fn nothing_that_is_no_digest_or_tag_is_read_as_one(name in "[a-z]{1,8}", endpoint in "manifests|blobs|referrers", last in "[a-zA-Z0-9._:%@~+-]{1,80}") {
        let Ok(uri) = format!("/v2/{name}/{endpoint}/{last}").parse() else { return Ok(()) };
        if let Ok(call) = Call::parse(&Method::GET, &uri, &routes()) {
            prop_assert_eq!(read(&call).1, format!("{endpoint} {last}"));
            prop_assert!(!last.contains(['%', '@', '~', '+']));
        }
    }
}
