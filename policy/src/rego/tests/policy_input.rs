//! What a policy's own rule is shown.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

fn given(input: &PolicyInput) -> String {
    serde_json::to_string(&input.input(&bounds()).unwrap().value()).unwrap()
}

fn attestation(kind: &str) -> AttestationMatch {
    let signature =
        SignatureMatch { id: "e3".to_owned(), issuer: "https://issuer.example".to_owned(), ..Default::default() };
    AttestationMatch { signature, predicate_type: kind.to_owned(), digest: "sha256:aa".to_owned() }
}

#[test]
fn it_has_the_controllers_shape_and_leaves_out_what_is_empty() {
    let signatures = vec![SignatureMatch {
        id: "ab".to_owned(),
        subject: "https://github.com/a".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        github_workflow_trigger: "push".to_owned(),
        github_workflow_sha: "c0".to_owned(),
        github_workflow_name: "release".to_owned(),
        github_workflow_repo: "a/b".to_owned(),
        github_workflow_ref: "refs/heads/main".to_owned(),
    }];
    let attestations = BTreeMap::from([("sbom".to_owned(), vec![attestation("spdx")])]);
    let input = PolicyInput {
        authority_matches: BTreeMap::from([
            ("a".to_owned(), AuthorityMatch::Signatures(signatures)),
            ("b".to_owned(), AuthorityMatch::Attestations(attestations)),
            ("c".to_owned(), AuthorityMatch::Static),
        ]),
        config: BTreeMap::from([("linux/arm64/v8".to_owned(), Bytes::from_static(br#"{"config":{"User":"65532"}}"#))]),
    };
    let wanted = [
        r#"{"authorityMatches":{"a":{"signatures":[{"githubWorkflowName":"release","githubWorkflowRef":"refs/heads/main","#,
        r#""githubWorkflowRepo":"a/b","githubWorkflowSha":"c0","githubWorkflowTrigger":"push","id":"ab","#,
        r#""issuer":"https://issuer.example","subject":"https://github.com/a"}]},"#,
        r#""b":{"attestations":{"sbom":[{"digest":"sha256:aa","id":"e3","issuer":"https://issuer.example","#,
        r#""predicateType":"spdx"}]}},"c":{"static":true}},"#,
        r#""config":{"linux/arm64/v8":{"config":{"User":"65532"}}}}"#,
    ];
    assert_eq!(given(&input), wanted.concat());
    assert_eq!(given(&PolicyInput::default()), "{}");
}

#[test]
fn a_policy_can_ask_for_two_authorities() {
    let text = r#"package sigstore
default isCompliant = false
isCompliant {
  count(input.authorityMatches["keyless"].signatures) >= 1
  count(input.authorityMatches["keyless-att"].attestations["sbom"]) >= 1
  input.config["linux/amd64"].config.User == "65532"
}
"#;
    let rule = Rego::compile(text).unwrap();
    let says =
        |input: &PolicyInput| rule.evaluate(&input.input(&bounds()).unwrap(), &bounds(), LONG_AGO).unwrap().outcome;
    let mut input = PolicyInput::default();
    assert_ne!(says(&input), Compliance::Compliant);
    let one = AuthorityMatch::Signatures(vec![SignatureMatch { id: "ab".to_owned(), ..Default::default() }]);
    input.authority_matches.insert("keyless".to_owned(), one);
    let config = Bytes::from_static(br#"{"config":{"User":"65532"}}"#);
    input.config.insert("linux/amd64".to_owned(), config);
    assert_ne!(says(&input), Compliance::Compliant);
    let other = BTreeMap::from([("sbom".to_owned(), vec![attestation("https://spdx.dev/Document")])]);
    input.authority_matches.insert("keyless-att".to_owned(), AuthorityMatch::Attestations(other));
    assert_eq!(says(&input), Compliance::Compliant);
    input.config.clear();
    assert_ne!(says(&input), Compliance::Compliant);
}

#[test]
fn an_image_config_that_means_two_things_or_is_too_large_is_not_shown() {
    let config = |json: &'static str| PolicyInput {
        config: BTreeMap::from([("linux/amd64".to_owned(), Bytes::from_static(json.as_bytes()))]),
        ..Default::default()
    };
    let two = config(r#"{"config":{"User":"0","User":"65532"}}"#).input(&bounds());
    assert!(matches!(two, Err(RegoFault::InputUnreadable { .. })), "{two:?}");
    let small = RegoBounds { input_bytes_max: 10, ..bounds() };
    let large = config(r#"{"config":{}}"#).input(&small);
    assert_eq!(large, Err(RegoFault::InputTooLarge { bytes: 13, max: 10 }));
}
