//! The canonical form: equal exactly where the meaning is.

use proptest::prelude::*;

use super::*;

fn form(text: &str) -> Vec<u8> {
    load(text).unwrap_or_else(|errors| panic!("{errors}")).set.policies()[0].canonical_form().to_vec()
}

fn attested(attestations: &str) -> String {
    with_authority(&format!("{KEYLESS}\nattestations: [{attestations}]"))
}

#[test]
fn the_canonical_form_is_that_of_the_meaning() {
    let plain = with_identity("issuer: i\nsubject: s");
    let reordered = "# said otherwise
kind: ClusterImagePolicy
apiVersion: policy.sigstore.dev/v1alpha1
spec:
  authorities:
    - signatureFormat: legacy
      keyless: {url: https://fulcio.sigstore.dev, insecureIgnoreSCT: false, identities: [{subject: \"s\", issuer: 'i'}]}
      name: authority-0 # the default
  mode: enforce
  images: [{glob: cgr.dev/chainguard/**}, {glob: cgr.dev/chainguard/**}]
metadata: {labels: {a: b}, name: own}
";
    assert_eq!(form(&plain), form(reordered));
    insta::assert_snapshot!(String::from_utf8(form(&plain)).unwrap(), @r#"{"version":2,"name":"own","mode":"enforce","globs":["cgr.dev/chainguard/**"],"authorities":[{"name":"authority-0","keyless":{"identities":[[{"exact":"i"},{"exact":"s"}]],"ignore_sct":false},"log":true,"timestamp":false,"trust":["configured","configured","configured"]}]}"#);
    let others = [
        plain.replace("issuer: i", "issuer: j"),
        plain.replace("subject: s", "subject: t"),
        plain.replace("subject: s", "subjectRegExp: s"),
        plain.replace("name: own", "name: other"),
        plain.replace("spec:", "spec:\n  mode: warn"),
        plain.replace("chainguard/**", "chainguard/*"),
        plain.replace("keyless:", "name: a\n      keyless:"),
        plain.replace("identities:", "insecureIgnoreSCT: true\n        identities:"),
        with_authority("static: {action: pass}"),
        with_authority("static: {action: fail}"),
        with_authority("static: {action: fail, message: no}"),
        with_authority(&format!("key: {{data: {PUBLIC_KEY:?}}}")),
        with_authority(&format!("key: {{data: {PUBLIC_KEY:?}, hashAlgorithm: sha384}}")),
        by_key("ctlog: {url: https://rekor.sigstore.dev}"),
        plain.replace("spec:", "spec:\n  policy: {type: rego, data: 'package sigstore isCompliant { true }'}"),
        plain.replace("spec:", "spec:\n  policy: {type: rego, data: 'package sigstore isCompliant { 1 == 1 }'}"),
        plain.replace(
            "spec:",
            "spec:\n  policy: {type: rego, data: 'package sigstore isCompliant { true }', fetchConfigFile: true}",
        ),
        attested("{name: a, predicateType: spdx}"),
        attested("{name: a, predicateType: spdxjson}"),
        attested("{name: a, predicateType: https://spdx.dev/Document}"),
        attested("{name: b, predicateType: https://spdx.dev/Document}"),
        attested("{name: a, predicateType: spdx}, {name: b, predicateType: vuln}"),
        attested("{name: a, predicateType: spdx, policy: {type: rego, data: 'package sigstore isCompliant { true }'}}"),
        attested(
            "{name: a, predicateType: spdx, policy: {type: rego, data: 'package sigstore isCompliant { 1 == 1 }'}}",
        ),
        with_authority(&format!("{KEYLESS}\nsource: [{{oci: ghcr.io/org/signatures}}]")),
        with_authority(&format!("{KEYLESS}\nsource: [{{oci: ghcr.io/org/other}}]")),
        with_authority(&format!("{KEYLESS}\nsource: [{{tagPrefix: x-}}]")),
        annotated(&plain, &["pratique.dev/workflow-trigger: x"]),
        annotated(&plain, &["pratique.dev/workflow-sha: x"]),
        annotated(&plain, &["pratique.dev/workflow-name: x"]),
        annotated(&plain, &["pratique.dev/workflow-repository: x"]),
        annotated(&plain, &["pratique.dev/workflow-ref: x"]),
        annotated(&plain, &["pratique.dev/annotations: a=b"]),
        annotated(&plain, &["pratique.dev/annotations: a=c"]),
        annotated(&attested("{name: a, predicateType: spdx}"), &["pratique.dev/attestations-per-platform: 'true'"]),
        annotated(&plain, &["pratique.dev/rollback: warn"]),
        annotated(&plain, &["pratique.dev/rollback: deny"]),
        annotated(&plain, &["pratique.dev/max-age: 30d"]),
        annotated(&plain, &["pratique.dev/max-age: 31d"]),
        annotated(&plain, &["pratique.dev/min-age: 30d"]),
        annotated(&plain, &["pratique.dev/bind-name: 'off'"]),
        annotated(&plain, &["pratique.dev/bind-name: deny"]),
        annotated(&plain, &["pratique.dev/bind-name-aliases: a=b"]),
        annotated(&plain, &["pratique.dev/on-refusal: last-good"]),
    ];
    let mut forms: Vec<_> = others.iter().map(|text| form(text)).chain([form(&plain)]).collect();
    forms.sort();
    forms.dedup();
    assert_eq!(forms.len(), others.len() + 1, "each difference of meaning shows");
}

#[test]
fn what_nobody_acts_on_is_not_in_the_form() {
    let plain = attested("{name: a, predicateType: spdx}");
    for same in [
        annotated(&plain, &["example.com/owner: me", "pratique.dev/attestations-per-platform: 'false'"]),
        annotated(&plain, &["pratique.dev/rollback: allow", "pratique.dev/bind-name: warn"]),
        plain.replace("spec:", "  labels: {a: b}\nspec:"),
        plain.replace("keyless:", "signatureFormat: legacy\n      keyless:\n        url: https://fulcio.sigstore.dev"),
    ] {
        assert_eq!(form(&plain), form(&same), "{same}");
    }
}

#[test]
fn another_content_of_a_named_trust_root_is_another_form() {
    let refers = "keyless:\n  trustRootRef: own\n  identities: [{issuer: i, subject: s}]\nctlog: {trustRootRef: own}";
    let policy = with_authority(refers);
    let form = |root: &str| form(&together(&[&policy, root]));
    let root = trust_root("own", &ALL_LISTS);
    let forms = [
        form(&root),
        form(&root.replace("https://authority.example", "https://other.example")),
        form(&trust_root("own", &ALL_LISTS[..3])),
        form(&together(&[&trust_root("other", &ALL_LISTS), &root]).replace("trustRootRef: own", "trustRootRef: other")),
    ];
    assert_eq!(forms[0], form(&format!("# said otherwise\n{root}")));
    assert_eq!(forms[0], forms[3], "what is not referred to makes no difference");
    assert_ne!(forms[0], forms[1]);
    assert_ne!(forms[0], forms[2]);
    let renamed = together(&[
        &policy.replace("own}", "other}").replace("Ref: own", "Ref: other"),
        &root.replace("name: own", "name: other"),
    ]);
    assert_ne!(forms[0], super::form::form(&renamed));
}

/// One choice of each kind; two policies ask the same exactly when all choices are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choices {
    mode: usize,
    key: usize,
    attestations: usize,
    source: usize,
    proof: usize,
    rule: usize,
    condition: usize,
}

impl Choices {
    fn text(&self) -> String {
        let key = [
            "keyless: {identities: [{issuer: i, subject: s}]}",
            "keyless: {identities: [{issuer: i, subjectRegExp: s}]}",
        ];
        let attestations =
            ["", "attestations: [{name: a, predicateType: spdx}]", "attestations: [{name: a, predicateType: vuln}]"];
        let source = ["", "source: [{oci: ghcr.io/a/b}]", "source: [{oci: ghcr.io/a/b, tagPrefix: p}]"];
        let proof = [
            "",
            "rfc3161timestamp: {trustRootRef: own}",
            "rfc3161timestamp: {trustRootRef: own}\nctlog: {trustRootRef: own}",
        ];
        let rule = [
            "",
            "\n  policy: {type: rego, data: 'package sigstore isCompliant { true }'}",
            "\n  policy: {type: rego, data: 'package sigstore isCompliant { true }', fetchConfigFile: true}",
        ];
        let condition: [&[&str]; 3] = [&[], &["pratique.dev/annotations: a=b"], &["pratique.dev/workflow-ref: a"]];
        let lines = [key[self.key], attestations[self.attestations], source[self.source], proof[self.proof]];
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        let mode = ["enforce", "warn"][self.mode];
        let spec = format!("spec:\n  mode: {mode}{}", rule[self.rule]);
        annotated(&with_authority(&lines.join("\n")).replace("spec:", &spec), condition[self.condition])
    }
}

fn choices() -> impl Strategy<Value = Choices> {
    (0_usize..2, 0_usize..2, 0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3).prop_map(
        |(mode, key, attestations, source, proof, rule, condition)| Choices {
            mode,
            key,
            attestations,
            source,
            proof,
            rule,
            condition,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn two_policies_have_one_form_exactly_when_they_ask_the_same(one in choices(), other in choices(), same: bool) {
        let other = if same { one.clone() } else { other };
        let root = trust_root("own", &ALL_LISTS);
        let form = |choices: &Choices| form(&together(&[&choices.text(), &root]));
        prop_assert_eq!(form(&one) == form(&other), one == other);
    }
}
