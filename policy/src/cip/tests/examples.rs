//! The documented examples: each loads, all together too, and rules say what their comments promise.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use oci::UnixTime;

use super::*;
use crate::rego::{
    AttestationMatch, AuthorityMatch, Compliance, PolicyInput, Rego, RegoBounds, RegoInput, SignatureMatch,
};

const BOUNDS: RegoBounds = RegoBounds { timeout: Duration::from_secs(10), input_bytes_max: 1024 * 1024 };

fn says_yes(rego: &Rego, input: &RegoInput) -> bool {
    rego.evaluate(input, &BOUNDS, UnixTime::from_millis(0)).unwrap().outcome == Compliance::Compliant
}

fn only_policy(text: &str) -> Policy {
    let set = load(text).unwrap_or_else(|errors| panic!("{errors}")).set;
    let [policy] = set.policies() else { panic!("one policy") };
    policy.clone()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "no example may be forgotten, so they are looked up where they are")]
fn every_documented_example_loads() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/policies");
    let files = std::fs::read_dir(folder).unwrap();
    let paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    let texts: Vec<_> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert!(texts.len() >= 10, "{paths:?}");
    for (path, text) in paths.iter().zip(&texts) {
        load(text).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
    }
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    load_as(&texts, false).unwrap_or_else(|errors| panic!("together: {errors}"));
}

#[test]
fn the_documented_public_policy_is_the_built_in_one() {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: false };
    let built_in = PolicySet::built_in(&context).unwrap().set;
    let documented = load(include_str!("../../../../docs/examples/policies/chainguard-public.yaml")).unwrap().set;
    assert_eq!(built_in.policies()[0].canonical_form(), documented.policies()[0].canonical_form());
}

#[test]
fn chainguards_three_attestations_are_asked_for_and_the_provenance_by_its_builder() {
    let policy = only_policy(include_str!("../../../../docs/examples/policies/chainguard-attestations.yaml"));
    let [provenance, configuration, materials] = policy.authorities()[0].attestations.as_slice() else {
        panic!("three")
    };
    assert_eq!(configuration.predicate_type.uri(), "https://apko.dev/image-configuration");
    assert_eq!(materials.predicate_type.uri(), "https://spdx.dev/Document");
    let by = |builder: &str| {
        let statement = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v1","subject":[],"predicate":{{"runDetails":{{"builder":{{"id":{builder:?}}}}}}}}}"#
        );
        let input = provenance.predicate_type.rego_input(statement.as_bytes(), &BOUNDS).unwrap();
        says_yes(provenance.rule.as_ref().unwrap(), &input)
    };
    assert!(by("https://github.com/chainguard-dev/terraform-provider-apko"));
    assert!(!by("https://github.com/chainguard-dev/terraform-provider-apko-fork"));
    assert!(!by(""));
}

#[test]
fn an_image_that_runs_as_root_on_any_platform_is_refused_by_its_config() {
    let policy = only_policy(include_str!("../../../../docs/examples/policies/image-config.yaml"));
    let rule = policy.rule().unwrap();
    assert!(rule.fetch_config_file);
    let yes = |configs: &[&str]| {
        let config =
            configs.iter().enumerate().map(|(at, json)| (format!("linux/{at}"), Bytes::from((*json).to_owned())));
        let input = PolicyInput { authority_matches: BTreeMap::new(), config: config.collect() };
        says_yes(&rule.rego, &input.input(&BOUNDS).unwrap())
    };
    let user = |user: &str| format!(r#"{{"os":"linux","config":{{"User":{user:?}}}}}"#);
    assert!(yes(&[&user("65532")]));
    assert!(yes(&[&user("65532"), &user("nonroot:root")]));
    for root in ["", "0", "root", "0:65532", "root:nonroot"] {
        assert!(!yes(&[&user("65532"), &user(root)]), "{root}");
    }
    assert!(!yes(&[r#"{"os":"linux"}"#]), "no user is root");
    assert!(!yes(&[]), "nothing shown is nothing known");
}

#[test]
fn two_signers_are_both_asked_for() {
    let policy = only_policy(include_str!("../../../../docs/examples/policies/two-signers.yaml"));
    let yes = |names: &[&str]| {
        let matched = |name: &&str| {
            let scan = BTreeMap::from([("scan".to_owned(), vec![AttestationMatch::default()])]);
            let by = match *name {
                "release" => AuthorityMatch::Signatures(vec![SignatureMatch::default()]),
                _ => AuthorityMatch::Attestations(scan),
            };
            ((*name).to_owned(), by)
        };
        let input = PolicyInput { authority_matches: names.iter().map(matched).collect(), config: BTreeMap::new() };
        says_yes(&policy.rule().unwrap().rego, &input.input(&BOUNDS).unwrap())
    };
    assert!(yes(&["release", "scanner"]));
    assert!(!yes(&["release"]) && !yes(&["scanner"]) && !yes(&[]));
}

/// `docs/policy.md` says how a CUE policy is written in Rego: by a form that passes over what is absent, and by one that does not.
#[test]
fn the_rego_that_stands_for_cue_says_what_the_table_says() {
    let documented = include_str!("../../../../docs/policy.md");
    let table = [
        (
            r#"object.get(input, ["predicate", "a"], "x") == "x""#,
            r#"input.predicate.a == "x""#,
            r#"{"a":"x"}"#,
            r#"{"a":"z"}"#,
        ),
        (
            r#"{"x", "y"}[object.get(input, ["predicate", "a"], "x")]"#,
            r#"{"x", "y"}[input.predicate.a]"#,
            r#"{"a":"y"}"#,
            r#"{"a":"z"}"#,
        ),
        (r#"object.get(input, ["predicate", "n"], 0) < 10"#, "input.predicate.n < 10", r#"{"n":9}"#, r#"{"n":10}"#),
        (
            r#"regex.match("^x", object.get(input, ["predicate", "a"], "x"))"#,
            r#"regex.match("^x", input.predicate.a)"#,
            r#"{"a":"xy"}"#,
            r#"{"a":"yx"}"#,
        ),
    ];
    for (open, closed, good, bad) in table {
        let says = |rule: &str| {
            assert!(documented.contains(&format!("`{rule}`")), "not documented: {rule}");
            let rego = Rego::compile(&format!("package sigstore\nisCompliant {{ {rule} }}")).unwrap();
            [good, bad, "{}"].map(|predicate| {
                let input = RegoInput::parse(format!(r#"{{"predicate":{predicate}}}"#).as_bytes(), &BOUNDS).unwrap();
                says_yes(&rego, &input)
            })
        };
        assert_eq!(says(open), [true, false, true], "{open}");
        assert_eq!(says(closed), [true, false, false], "{closed}");
    }
    let before = "time.parse_rfc3339_ns(input.predicate.before) > time.now_ns()";
    assert!(documented.contains(&format!("`{before}`")));
    let rego = Rego::compile(&format!("package sigstore\nisCompliant {{ {before} }}")).unwrap();
    for (time, expected) in [("1970-01-01T00:00:01Z", true), ("1969-12-31T23:59:59Z", false)] {
        let input = RegoInput::parse(format!(r#"{{"predicate":{{"before":{time:?}}}}}"#).as_bytes(), &BOUNDS).unwrap();
        assert_eq!(says_yes(&rego, &input), expected, "{time}");
    }
}

/// The rule that the documentation shows loads as it stands there.
#[test]
fn the_documented_rule_loads() {
    let documented = include_str!("../../../../docs/policy.md");
    let (_, rule) = documented.split_once("```yaml\npolicy:\n").unwrap();
    let rule = rule.split_once("```").unwrap().0.replace("\n  ", "\n    ");
    let text = with_glob("cgr.dev/**").replace("spec:\n", &format!("spec:\n  policy:\n  {rule}\n"));
    assert!(load(&text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).set.policies()[0].rule().is_some());
}
