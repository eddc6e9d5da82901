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

proptest! {
    #[test]
    fn no_path_makes_it_panic_or_name_another_upstream(path in "/v2/[a-zA-Z0-9._:/%~-]{0,60}", query in "[a-z0-9=&%.-]{0,30}") {
        if let Ok(uri) = format!("{path}?{query}").parse()
            && let Ok(Call::Manifest { named, .. }) = Call::parse(&Method::GET, &uri, &routes())
        {
            prop_assert!(path.contains(named.typed.as_str()));
        }
    }
}
