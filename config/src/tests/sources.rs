//! Defaults < file < environment < flags.

use super::*;

#[test]
fn no_configuration_serves_cgr_dev_on_loopback_under_the_built_in_policy_and_says_so() {
    let case = Case::new();
    let settings = case.settings();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:5000");
    assert_eq!((settings.insecure, settings.admin_listen, settings.tls), (false, None, None));
    let [upstream] = settings.upstreams.as_slice() else { panic!("one upstream") };
    assert_eq!((upstream.name.as_str(), upstream.url.to_string().as_str()), ("cgr.dev", "https://cgr.dev"));
    assert_eq!((upstream.prefix.as_str(), &upstream.credentials), ("", &None));
    assert_eq!(settings.policy.files, PolicyFiles::BuiltIn);
    assert_eq!(settings.policy.no_match, NoMatch::Deny);
    assert_eq!(
        case.notes(),
        [
            "no configuration: the defaults are in force (docs/configuration.md)",
            "upstreams is not set: serving cgr.dev",
            "policy.files is not set: the built-in policy is in force (Chainguard's public images, signed by Chainguard; nothing else)",
            "storage.path is not set: storing in /var/lib/pratique",
        ]
    );
}

#[test]
fn a_configuration_that_sets_everything_is_quiet() {
    let case =
        Case::of("[storage]\npath = \"store\"\n[policy]\nfiles = [\"p.yaml\"]\n[[upstreams]]\nname = \"cgr.dev\"")
            .file("p.yaml", "");
    assert_eq!(case.notes(), Vec::<String>::new());
}

#[test]
fn flags_win_over_environment_and_environment_over_the_file() {
    let text = "listen = \"127.0.0.1:1\"\n[tags]\nttl = \"1s\"\nmax_stale = \"1h\"\n[storage]\nverify_reads = \"always\"\npath = \"f\"";
    let mut case = Case::of(text);
    assert_eq!((case.settings().listen.port(), case.settings().tags.ttl), (1, Duration::from_secs(1)));
    case = case
        .variable("PRATIQUE_LISTEN", "127.0.0.1:2")
        .variable("PRATIQUE_TAGS__TTL", "2s")
        .variable("PRATIQUE_STORAGE__PATH", "/e");
    case.overrides.listen = Some("127.0.0.1:3".into());
    case.overrides.storage = Some("/flag".into());
    let settings = case.settings();
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.storage.path, Path::new("/flag"));
    assert_eq!(
        settings.tags,
        Tags { ttl: Duration::from_secs(2), max_stale: Duration::from_secs(3600), ..Tags::default() }
    );
    assert_eq!(settings.storage.verify_reads, VerifyReads::Always, "its neighbours in the section stay");
}

#[test]
fn relative_paths_are_relative_to_the_configuration_file_and_only_there() {
    let case = Case::of("[storage]\npath = \"store\"\n[policy]\ntrust_root = \"root.json\"").file("root.json", "{}");
    assert_eq!(case.settings().storage.path, case.path("store"));
    assert_eq!(case.settings().policy.trust_root, TrustRootSource::File(case.path("root.json")));
    let case = case.variable("PRATIQUE_STORAGE__PATH", "store");
    assert_eq!(case.settings().storage.path, Path::new("store"));
}

#[test]
fn lists_and_numbers_can_come_from_the_environment() {
    let case = Case::new()
        .variable("PRATIQUE_UPSTREAMS", r#"[{name="docker.io", prefix="hub"}]"#)
        .variable("PRATIQUE_LIMITS__FILLS_MAX", "7")
        .variable("PRATIQUE_LIMITS__MANIFEST_BYTES_MAX", "2MiB")
        .variable("PRATIQUE_INSECURE", "true");
    let settings = case.settings();
    assert_eq!(settings.upstreams[0].prefix, "hub");
    assert_eq!((settings.limits.fills_max, settings.limits.manifest_bytes_max), (7, 2 << 20));
    assert!(settings.insecure);
}

#[test]
fn both_halves_of_tls_may_come_from_different_sources_and_neither_may_be_missing() {
    let half = Case::of("[tls]\ncertificate = \"c\"").file("c", "x").file("k", "x");
    assert_eq!(half.error(), "pratique.toml: tls.key: want a PEM file, got nothing");
    let key = half.path("k");
    let both = half.variable("PRATIQUE_TLS__KEY", key.to_str().unwrap());
    assert_eq!(both.settings().tls, Some(Tls { certificate: both.path("c"), key }));
}
