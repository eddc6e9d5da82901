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
