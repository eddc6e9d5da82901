//! Attestations, and the rules over them and over a policy.

use super::*;

const RULE: &str = "package sigstore\n\nisCompliant {\n  input.predicate.x == \"y\"\n}\n";

/// A text as a block scalar below `data: |`.
fn block(text: &str) -> String {
    text.lines().map(|line| format!("\n        {line}")).collect::<Vec<_>>().concat()
}

fn with_rule(rule: &str) -> String {
    let data = block(rule);
    with_authority(&format!(
        "{KEYLESS}\nattestations:\n  - name: built\n    predicateType: https://slsa.dev/provenance/v1\n    policy:\n      type: rego\n      data: |{data}\n"
    ))
}

#[test]
fn attestations_load_with_their_types_and_rules() {
    let text = with_rule(RULE) + "        - {name: bom, predicateType: spdxjson}\n";
    let loaded = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let [built, bom] = loaded.set.policies()[0].authorities()[0].attestations.as_slice() else { panic!("two") };
    assert_eq!((built.name.as_str(), built.predicate_type.uri()), ("built", "https://slsa.dev/provenance/v1"));
    assert_eq!(built.rule.as_ref().unwrap().text(), RULE);
    assert_eq!((bom.predicate_type.written(), bom.predicate_type.uri()), ("spdxjson", "https://spdx.dev/Document"));
    assert!(bom.rule.is_none());
    insta::assert_snapshot!(loaded.notes.join("\n"), @r#"own.yaml:22: spec.authorities[0].attestations[1].predicateType: "spdxjson" is a short name, which the controller deprecates; it stands for https://spdx.dev/Document"#);
}

#[test]
fn an_attestation_names_itself_and_its_type() {
    let said = flaws(&with_authority(&format!(
        "{KEYLESS}\nattestations:\n  - predicateType: https://spdx.dev/Document\n  - name: a\n  - {{}}\n  - {{name: b, predicateType: sbom, kind: x}}\n  - {{name: '', predicateType: ''}}"
    )));
    insta::assert_snapshot!(said, @r#"
own.yaml:12: spec.authorities[0].attestations[0].name: is missing
hint: write a name, as it shall appear in refusals
own.yaml:13: spec.authorities[0].attestations[1].predicateType: is missing
hint: write the URI that the statement gives, as https://spdx.dev/Document
own.yaml:14: spec.authorities[0].attestations[2]: is empty; expected a mapping with name, predicateType or policy
hint: write its fields below it, or leave it out where it may be
own.yaml:15: spec.authorities[0].attestations[3].kind: is no known field; expected name, predicateType or policy
hint: correct its name, or take it out: nothing is ignored in silence
own.yaml:15: spec.authorities[0].attestations[3].predicateType: is "sbom", expected a URI or a short name of cosign's
hint: write the URI that the statement gives as its predicateType, such as https://slsa.dev/provenance/v1
own.yaml:16: spec.authorities[0].attestations[4].name: is empty; expected text
hint: leave the field out, or give it a value in quotes
own.yaml:16: spec.authorities[0].attestations[4].predicateType: is empty; expected text
hint: leave the field out, or give it a value in quotes
"#);
    for list in ["[]", "{}", "text", "[text]", "~"] {
        let text = with_authority(&format!("{KEYLESS}\nattestations: {list}"));
        assert!(flaws(&text).contains("attestations"), "{list}: {}", flaws(&text));
    }
}

#[test]
fn names_of_attestations_are_unique_in_an_authority() {
    let one = "{name: a, predicateType: spdx}";
    let said = flaws(&with_authority(&format!("{KEYLESS}\nattestations: [{one}, {one}]")));
    insta::assert_snapshot!(said, @r#"
own.yaml:11: spec.authorities[0].attestations[1]: is named "a", as another of this authority
hint: give each attestation a name of its own: refusals and rules go by it
"#);
    let two = format!("{KEYLESS}\nattestations: [{one}]");
    let text = with_authority(&two) + with_authority(&two).split_once("authorities:\n").unwrap().1;
    assert!(load(&text).is_ok(), "two authorities may use one name");
}

#[test]
fn a_rule_that_does_not_compile_is_told_with_its_line_in_the_file() {
    insta::assert_snapshot!(flaws(&with_rule("package sigstore\n\n# why\nisCompliant {\n  http.send({}).body\n}\n")), @r"
own.yaml:21: spec.authorities[0].attestations[0].policy.data: calls http.send, which reaches out of the judgement
hint: decide on `input` alone; of the world outside only time.now_ns can be asked
");
    insta::assert_snapshot!(flaws(&with_rule("package sigstore\nisCompliant {\n  input.x ==\n}\n")), @r"
own.yaml:18: spec.authorities[0].attestations[0].policy.data: expecting }
hint: the text is read as Rego v0, as the controller does; `import rego.v1` makes it v1
");
    insta::assert_snapshot!(flaws(&with_rule("package signature\nisCompliant { true }\n")), @r#"
own.yaml:17: spec.authorities[0].attestations[0].policy.data: has the package "signature", expected "sigstore"
hint: begin it with `package sigstore`, with a rule isCompliant
"#);
    insta::assert_snapshot!(flaws(&with_rule("package sigstore\nallowed { true }\n")), @r"
own.yaml:16: spec.authorities[0].attestations[0].policy.data: has no rule isCompliant
hint: begin it with `package sigstore`, with a rule isCompliant
");
}

#[test]
fn a_rule_whose_lines_are_not_those_of_the_file_is_told_by_its_own() {
    let rule = "package sigstore\nisCompliant {\n  http.send({}).body\n}\n";
    let quoted =
        format!("{KEYLESS}\nattestations: [{{name: a, predicateType: spdx, policy: {{type: rego, data: {rule:?}}}}}]");
    insta::assert_snapshot!(flaws(&with_authority(&quoted)), @r"
own.yaml:11: spec.authorities[0].attestations[0].policy.data: in its line 3: calls http.send, which reaches out of the judgement
hint: decide on `input` alone; of the world outside only time.now_ns can be asked
");
    let folded = with_rule(&rule.replace('\n', "\n\n")).replace("data: |", "data: >");
    assert!(flaws(&folded).contains("http.send"), "{}", flaws(&folded));
    let one_line = quoted.replace(&format!("{rule:?}"), "'package sigstore isCompliant { http.send({}).body }'");
    insta::assert_snapshot!(flaws(&with_authority(&one_line)), @r"
own.yaml:11: spec.authorities[0].attestations[0].policy.data: calls http.send, which reaches out of the judgement
hint: decide on `input` alone; of the world outside only time.now_ns can be asked
");
}

fn with_policy(policy: &str) -> String {
    with_glob("cgr.dev/**").replace("spec:", &format!("spec:\n  policy: {policy}"))
}

#[test]
fn a_rule_over_the_policy_loads() {
    let text = with_policy(&format!(
        "{{type: rego, data: {RULE:?}, fetchConfigFile: true, includeSpec: false, includeObjectMeta: false, includeTypeMeta: false}}"
    ));
    let set = load(&text).unwrap_or_else(|errors| panic!("{errors}")).set;
    let rule = set.policies()[0].rule().unwrap();
    assert!(rule.fetch_config_file);
    assert_eq!(rule.rego.text(), RULE);
    let set = load(&with_policy(&format!("{{type: rego, data: {RULE:?}}}"))).unwrap().set;
    assert!(!set.policies()[0].rule().unwrap().fetch_config_file);
}

#[test]
fn a_rule_that_cannot_be_honoured_is_refused() {
    let flaws = |policy: &str| flaws(&with_policy(policy));
    insta::assert_snapshot!(flaws("{type: cue, data: 'a: 1'}"), @r"
own.yaml:6: spec.policy.type: is cue, which is not supported; expected rego
hint: write it as Rego: package sigstore, with a rule isCompliant; docs/policy.md shows each CUE form in Rego
");
    insta::assert_snapshot!(flaws("{type: Rego, data: package sigstore}"), @r#"
own.yaml:6: spec.policy.type: is "Rego"; expected rego
hint: write type: rego, with a text in data that begins with package sigstore
"#);
    insta::assert_snapshot!(flaws("{type: rego}"), @r"
own.yaml:6: spec.policy.data: is missing
hint: write the rule: package sigstore, with a rule isCompliant
");
    insta::assert_snapshot!(flaws("{data: 'package sigstore isCompliant { true }'}"), @r"
own.yaml:6: spec.policy.type: is missing
hint: write type: rego
");
    let said = flaws(
        "{type: rego, remote: {url: 'https://x.example'}, configMapRef: {name: a}, includeSpec: true, includeObjectMeta: true, includeTypeMeta: true, fetchConfigFile: 'yes'}",
    );
    insta::assert_snapshot!(said, @r#"
own.yaml:6: spec.policy.remote: is not supported: policies are not fetched
hint: write the policy's text into data
own.yaml:6: spec.policy.configMapRef: is not supported: there is no cluster to ask
hint: write the policy's text into data
own.yaml:6: spec.policy.includeSpec: is true, which is not supported; expected false
hint: a registry does not know the workload: leave this policy to the cluster's controller
own.yaml:6: spec.policy.includeObjectMeta: is true, which is not supported; expected false
hint: a registry does not know the workload: leave this policy to the cluster's controller
own.yaml:6: spec.policy.includeTypeMeta: is true, which is not supported; expected false
hint: a registry does not know the workload: leave this policy to the cluster's controller
own.yaml:6: spec.policy.fetchConfigFile: is "yes"; expected true or false
hint: write true or false without quotes, or leave the field out
"#);
    assert!(flaws("text").contains("spec.policy: is \"text\""));
    assert!(flaws("{}").contains("spec.policy: is empty"));
    assert!(flaws("{type: rego, data: ''}").contains("spec.policy.data: is empty"));
}

#[test]
fn what_only_a_spec_may_ask_for_is_refused_of_an_attestation() {
    let policy = format!(
        "{{type: rego, data: {RULE:?}, fetchConfigFile: false, includeSpec: false, includeObjectMeta: false, includeTypeMeta: false}}"
    );
    let text =
        with_authority(&format!("{KEYLESS}\nattestations: [{{name: a, predicateType: spdx, policy: {policy}}}]"));
    insta::assert_snapshot!(flaws(&text), @r"
own.yaml:11: spec.authorities[0].attestations[0].policy.fetchConfigFile: belongs to spec.policy only, false too
hint: take it out: the rule of an attestation is shown its statement and nothing else
own.yaml:11: spec.authorities[0].attestations[0].policy.includeSpec: belongs to spec.policy only, false too
hint: take it out: the rule of an attestation is shown its statement and nothing else
own.yaml:11: spec.authorities[0].attestations[0].policy.includeObjectMeta: belongs to spec.policy only, false too
hint: take it out: the rule of an attestation is shown its statement and nothing else
own.yaml:11: spec.authorities[0].attestations[0].policy.includeTypeMeta: belongs to spec.policy only, false too
hint: take it out: the rule of an attestation is shown its statement and nothing else
");
}
