//! `docs/configuration.md` shows every key with its default.

use super::*;

const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");

/// The annotated example: the first TOML block.
fn documented_example() -> &'static str {
    let (_, from) = DOCUMENTATION.split_once("```toml\n").unwrap();
    from.split_once("```").unwrap().0
}

#[test]
fn the_documented_example_is_the_defaults() {
    let case = Case::of(documented_example());
    assert_eq!(case.settings(), Case::new().settings());
}

#[test]
fn what_the_documented_example_leaves_commented_out_can_be_switched_on() {
    let mut text = String::new();
    for line in documented_example().lines() {
        let switched = line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = "));
        text.push_str(switched.unwrap_or(line));
        text.push('\n');
    }
    let case = ["tls.crt", "tls.key", "password", "ca.pem", "policies/a.yaml", "trusted_root.json", "root.json"]
        .into_iter()
        .fold(Case::of(&text), |case, name| case.file(name, "x"));
    let settings = case.settings();
    let upstream = &settings.upstreams[0];
    assert!(settings.tls.is_some() && settings.admin_listen.is_some() && settings.policy.trust_root_max_age.is_some());
    assert!(upstream.credentials.is_some() && upstream.ca_file.is_some());
    assert_ne!(settings.policy.files, PolicyFiles::BuiltIn);
    assert_ne!(settings.policy.trust_root, TrustRootSource::PublicGood);
    let refresh = settings.policy.trust_root_refresh.unwrap();
    assert!(refresh.initial.is_some() && refresh.ca_file.is_some());
}

#[test]
fn every_key_is_in_the_documented_example() {
    for (section, header) in [
        ("", ""),
        ("tls", "[tls]"),
        ("storage", "[storage]"),
        ("upstreams", "[[upstreams]]"),
        ("tags", "[tags]"),
        ("verdicts", "[verdicts]"),
        ("policy", "[policy]"),
        ("limits", "[limits]"),
        ("log", "[log]"),
        ("evidence", "[evidence]"),
    ] {
        for key in known_keys(section, header) {
            let is_section = documented_example().contains(&format!("[{key}]"));
            let is_key = documented_example()
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
            assert!(is_section || is_key, "{section}.{key} is not in docs/configuration.md");
        }
    }
}

/// The keys of a section, from the deserialiser itself: it lists them when it meets one that it does not know.
fn known_keys(section: &str, header: &str) -> &'static [&'static str] {
    use figment::{
        Figment,
        error::Kind,
        providers::{Format as _, Toml},
    };
    let text = format!("{header}\nzzz = 1");
    let error = Figment::from(Toml::string(&text)).extract::<Written>().err().unwrap();
    let Kind::UnknownField(field, known) = error.kind else {
        panic!("{section}: {error}");
    };
    assert_eq!(field, "zzz");
    known
}
