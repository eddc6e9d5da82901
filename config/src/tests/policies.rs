//! Which files `policy.files` names.

use super::*;

#[test]
fn policy_patterns_are_expanded_sorted_and_each_file_taken_once() {
    let case = Case::of("[policy]\nfiles = [\"policies/*.yaml\", \"policies/a.yaml\", \"own.yaml\"]")
        .file("policies/b.yaml", "")
        .file("policies/a.yaml", "")
        .file("policies/c.txt", "")
        .file("own.yaml", "");
    let files = ["own.yaml", "policies/a.yaml", "policies/b.yaml"].map(|name| case.path(name));
    assert_eq!(case.settings().policy.files, PolicyFiles::Files(files.into()));
}

#[test]
fn policy_files_that_name_or_match_nothing_are_refused() {
    let nothing = |shown: &str| {
        format!("policy.files[0]: want a file, or a pattern that matches one, got \"{shown}\", which matches no file")
    };
    refused(&[
        ("[policy]\nfiles = [\"none.yaml\"]", &nothing("none.yaml")),
        ("[policy]\nfiles = [\"none/*.yaml\"]", &nothing("none/*.yaml")),
        (
            "[policy]\nfiles = []",
            "policy.files: want at least one file or pattern, got an empty list\nhint: without the key, the built-in policy is in force",
        ),
        (
            "[policy]\nfiles = [\"a[.yaml\"]",
            "policy.files[0]: want a file or a pattern with * ? [ ] (invalid range pattern), got \"a[.yaml\"",
        ),
    ]);
    let one_of_two = Case::of("[policy]\nfiles = [\"p.yaml\", \"q*.yaml\"]").file("p.yaml", "");
    assert!(one_of_two.error().contains("policy.files[1]"), "{}", one_of_two.error());
    let directory = Case::of("[policy]\nfiles = [\"policies\"]").file("policies/a.yaml", "");
    assert!(
        directory.error().ends_with("\nhint: for all policies of a directory, write \"policies/*.yaml\""),
        "{}",
        directory.error()
    );
    let many = Case::of("[policy]\nfiles = [\"*.yaml\"]\n[limits]\npolicy_files_max = 1")
        .file("a.yaml", "")
        .file("b.yaml", "");
    assert!(many.error().starts_with("pratique.toml: policy.files: want at most 1 files, got 2"), "{}", many.error());
}

#[test]
fn a_directory_with_special_characters_is_not_a_pattern() {
    let mut case = Case::new()
        .file("a[b]*/pratique.toml", "[policy]\nfiles = [\"*.yaml\"]")
        .file("a[b]*/p.yaml", "")
        .file("ab/q.yaml", "");
    case.overrides.config = Some(case.path("a[b]*/pratique.toml"));
    assert_eq!(case.settings().policy.files, PolicyFiles::Files(vec![case.path("a[b]*/p.yaml")]));
}

#[test]
fn the_policy_flag_names_files_and_replaces_the_list() {
    let mut case = Case::of("[policy]\nfiles = [\"none.yaml\"]").file("[x].yaml", "").file("x.yaml", "");
    case.overrides.policy = vec![case.path("[x].yaml")];
    assert_eq!(case.settings().policy.files, PolicyFiles::Files(vec![case.path("[x].yaml")]));
}

#[test]
fn public_good_sigstore_is_refreshed_daily_from_its_own_mirror() {
    let refresh = Case::new().settings().policy.trust_root_refresh.unwrap();
    assert_eq!(refresh.mirror.to_string(), "https://tuf-repo-cdn.sigstore.dev");
    assert_eq!((refresh.every, refresh.initial), (Some(Duration::from_secs(86_400)), None));
    let never = Case::of("[policy]\ntrust_root_refresh = \"never\"").settings().policy.trust_root_refresh.unwrap();
    assert_eq!(never.every, None);
    let mirrored = Case::of("[policy]\ntrust_root_mirror = \"https://tuf.example.com/sigstore\"").settings();
    assert_eq!(mirrored.policy.trust_root_refresh.unwrap().mirror.path, "/sigstore/");
}

#[test]
fn a_trust_root_of_ones_own_is_refreshed_only_from_a_mirror_of_ones_own() {
    let case = Case::of("[policy]\ntrust_root = \"t.json\"").file("t.json", "{}");
    assert_eq!(case.settings().policy.trust_root_refresh, None);
    assert!(case.notes().iter().any(|line| line.ends_with("the trust root is not refreshed")), "{:?}", case.notes());
    let whole = "[policy]\ntrust_root = \"t.json\"\ntrust_root_mirror = \"http://127.0.0.1:8080\"\n\
                 trust_root_initial = \"root.json\"\ntrust_root_refresh = \"1h\"";
    let refresh = Case::of(whole).file("t.json", "{}").file("root.json", "{}").settings().policy.trust_root_refresh;
    assert_eq!(refresh.unwrap().every, Some(Duration::from_secs(3600)));
}

#[test]
fn refreshes_that_cannot_be_meant_are_refused() {
    let t = |text: &str| Case::of(&format!("[policy]\n{text}")).file("t.json", "{}").file("r.json", "{}").error();
    for (text, wanted) in [
        ("trust_root_initial = \"r.json\"", "trust_root_initial: a TUF root is of no use without a TUF repository"),
        (
            "trust_root = \"t.json\"\ntrust_root_mirror = \"https://a.b\"",
            "hint: set policy.trust_root_initial to the root.json of that TUF repository",
        ),
        (
            "trust_root_mirror = \"https://a.b\"\ntrust_root_initial = \"r.json\"",
            "nothing says whom to trust until the first refresh",
        ),
        ("trust_root_mirror_ca = \"r.json\"", "no mirror of your own is configured"),
        ("trust_root_mirror = \"http://a.b\"", "want an https:// URL; plain http:// is for this machine only"),
        ("trust_root_mirror = \"https://u:hunter2@a.b\"", "want an https:// URL without user"),
        ("trust_root_refresh = \"0s\"", "a duration above zero such as \"24h\", or \"never\""),
        ("trust_root_refresh = \"daily\"", "a duration above zero such as \"24h\", or \"never\""),
        ("trust_root_refresh = 24", "a duration above zero such as \"24h\", or \"never\""),
    ] {
        let error = t(text);
        assert!(error.contains(wanted) && !error.contains("hunter2"), "{text}: {error}");
    }
}
