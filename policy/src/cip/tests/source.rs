//! Where signatures are looked up.

use super::*;
use crate::evidence::Location;

fn location(source: &str) -> Location {
    let loaded = load(&with_authority(&format!("{KEYLESS}\nsource: [{source}]")));
    loaded.unwrap_or_else(|errors| panic!("{errors}")).set.policies()[0].authorities()[0].location.clone()
}

#[test]
fn a_source_names_a_repository_and_a_prefix() {
    let both = location("{oci: ghcr.io/org/signatures, tagPrefix: app-1.0_}");
    assert_eq!(both.repository.unwrap().to_string(), "ghcr.io/org/signatures");
    assert_eq!(both.tag_prefix, "app-1.0_");
    assert_eq!(location("{tagPrefix: x}"), Location { repository: None, tag_prefix: "x".to_owned() });
    assert!(location("{oci: cgr.dev/a}").tag_prefix.is_empty());
}

#[test]
fn docker_hub_is_known_by_each_of_its_names() {
    let upstreams = ["docker.io".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: false };
    for (written, expected) in [
        ("docker.io/org/a", "docker.io/org/a"),
        ("index.docker.io/org/a", "docker.io/org/a"),
        ("registry-1.docker.io/a", "docker.io/library/a"),
    ] {
        let text =
            with_authority(&format!("{KEYLESS}\nsource: [{{oci: {written}}}]")).replace("cgr.dev", "index.docker.io");
        let set = PolicySet::load(&sources(&[&text]), &context).unwrap_or_else(|errors| panic!("{errors}")).set;
        let location = &set.policies()[0].authorities()[0].location;
        assert_eq!(location.repository.as_ref().unwrap().to_string(), expected);
    }
}

#[test]
fn what_names_no_repository_of_an_upstream_is_refused() {
    let flaws = |source: &str| flaws(&with_authority(&format!("{KEYLESS}\nsource: {source}")));
    insta::assert_snapshot!(flaws("[{oci: ghcr.io}]"), @r#"
own.yaml:11: spec.authorities[0].source[0].oci: is "ghcr.io", which names no repository; expected <upstream>/<path>
hint: write it as cgr.dev/<path>
"#);
    insta::assert_snapshot!(flaws("[{oci: quay.io/org/signatures}]"), @r#"
own.yaml:11: spec.authorities[0].source[0].oci: is "quay.io/org/signatures", not of a configured upstream; expected one of cgr.dev or ghcr.io
hint: configure that registry as an upstream, or copy the signatures to one that is: nothing else is asked
"#);
    insta::assert_snapshot!(flaws("[{oci: 'ghcr.io/org/app:v1'}]"), @r#"
own.yaml:11: spec.authorities[0].source[0].oci: is "ghcr.io/org/app:v1"; expected <upstream>/<path> of a repository, without tag or digest
hint: write it as cgr.dev/<path>
"#);
    insta::assert_snapshot!(flaws("[{tagPrefix: -x}]"), @r#"
own.yaml:11: spec.authorities[0].source[0].tagPrefix: is "-x"; expected the beginning of a tag: letters, digits, _ . and -, not . or - first, 53 at most
hint: it stands before sha256-<hex>.sig as it is, a separator of its own included
"#);
    insta::assert_snapshot!(flaws("[{oci: ghcr.io/a/b}, {tagPrefix: x}]"), @r"
own.yaml:11: spec.authorities[0].source: lists 2 places; expected one
hint: write an authority for each place: any of them suffices
");
    insta::assert_snapshot!(flaws("[{oci: ghcr.io/a/b, signaturePullSecrets: [{name: pull}]}]"), @r"
own.yaml:11: spec.authorities[0].source[0].signaturePullSecrets: is not supported: there is no cluster to ask for secrets
hint: set username and password_file of the upstream in the configuration
");
    for bad in [
        "[{oci: org/app}]",
        "[{oci: 'https://ghcr.io/a/b'}]",
        "[{oci: GHCR.io/a/b}]",
        "[{oci: ghcr.io/A/b}]",
        "[{oci: ghcr.io/}]",
        "[{oci: 'ghcr.io:443/a/b'}]",
        "[{oci: ''}]",
        "[{tagPrefix: ''}]",
        "[{tagPrefix: a/b}]",
        "[{tagPrefix: 'a b'}]",
        "[{tagPrefix: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}]",
        "[]",
        "{}",
        "[{}]",
        "[text]",
        "{oci: ghcr.io/a/b}",
    ] {
        assert!(flaws(bad).contains("source"), "{bad}: {}", flaws(bad));
    }
}
