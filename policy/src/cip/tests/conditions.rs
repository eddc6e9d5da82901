//! Annotations under `pratique.dev/`.

use super::*;

fn conditions(annotations: &[&str]) -> crate::condition::Conditions {
    let loaded = load(&annotated(&with_identity("issuer: i\nsubject: s"), annotations));
    loaded.unwrap_or_else(|errors| panic!("{errors}")).set.policies()[0].conditions().clone()
}

#[test]
fn workflow_claims_and_annotations_are_asked_for() {
    let asked = conditions(&[
        "pratique.dev/workflow-trigger: push",
        "pratique.dev/workflow-sha: 0123abcd",
        "pratique.dev/workflow-name: Release it",
        "pratique.dev/workflow-repository: org/app",
        "pratique.dev/workflow-ref: refs/heads/main",
        "pratique.dev/annotations: sha=abc,team=a=b c",
        "example.com/anything: [1, 2]",
    ]);
    let claims: Vec<_> = asked.workflow.claims().map(|(_, value)| value.unwrap()).collect();
    assert_eq!(claims, ["push", "0123abcd", "Release it", "org/app", "refs/heads/main"]);
    let pairs: Vec<_> = asked.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("sha", "abc"), ("team", "a=b c")]);
    assert!(!asked.attestations_per_platform);
    assert_eq!(
        conditions(&["pratique.dev/attestations-per-platform: 'false'"]),
        crate::condition::Conditions::default()
    );
}

#[test]
fn attestations_are_asked_for_per_platform() {
    let text = with_authority(&format!("{KEYLESS}\nattestations: [{{name: a, predicateType: spdx}}]"))
        + "    - static: {action: fail}\n";
    let text = annotated(&text, &["pratique.dev/attestations-per-platform: \"true\""]);
    let set = load(&text).unwrap_or_else(|errors| panic!("{errors}")).set;
    assert!(set.policies()[0].conditions().attestations_per_platform);
}

#[test]
fn what_is_not_known_under_the_prefix_is_refused() {
    let text = annotated(
        &with_identity("issuer: i\nsubject: s"),
        &[
            "pratique.dev/workflow-issuer: x",
            "Pratique.dev/workflow-ref: x",
            "\" pratique.dev/workflow-ref\": x",
            "\"pratique.dev /workflow-ref\": x",
            "pratique.dev/: x",
        ],
    );
    insta::assert_snapshot!(flaws(&text), @r#"
own.yaml:6: metadata.annotations["pratique.dev/workflow-issuer"]: is nothing that this build acts on; expected pratique.dev/workflow-trigger, pratique.dev/workflow-sha, pratique.dev/workflow-name, pratique.dev/workflow-repository, pratique.dev/workflow-ref, pratique.dev/annotations, pratique.dev/attestations-per-platform, pratique.dev/rollback, pratique.dev/max-age, pratique.dev/min-age, pratique.dev/bind-name, pratique.dev/bind-name-aliases or pratique.dev/on-refusal
hint: correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored
own.yaml:7: metadata.annotations["Pratique.dev/workflow-ref"]: is nothing that this build acts on; expected pratique.dev/workflow-trigger, pratique.dev/workflow-sha, pratique.dev/workflow-name, pratique.dev/workflow-repository, pratique.dev/workflow-ref, pratique.dev/annotations, pratique.dev/attestations-per-platform, pratique.dev/rollback, pratique.dev/max-age, pratique.dev/min-age, pratique.dev/bind-name, pratique.dev/bind-name-aliases or pratique.dev/on-refusal
hint: correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored
own.yaml:8: metadata.annotations[" pratique.dev/workflow-ref"]: is nothing that this build acts on; expected pratique.dev/workflow-trigger, pratique.dev/workflow-sha, pratique.dev/workflow-name, pratique.dev/workflow-repository, pratique.dev/workflow-ref, pratique.dev/annotations, pratique.dev/attestations-per-platform, pratique.dev/rollback, pratique.dev/max-age, pratique.dev/min-age, pratique.dev/bind-name, pratique.dev/bind-name-aliases or pratique.dev/on-refusal
hint: correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored
own.yaml:9: metadata.annotations["pratique.dev /workflow-ref"]: is nothing that this build acts on; expected pratique.dev/workflow-trigger, pratique.dev/workflow-sha, pratique.dev/workflow-name, pratique.dev/workflow-repository, pratique.dev/workflow-ref, pratique.dev/annotations, pratique.dev/attestations-per-platform, pratique.dev/rollback, pratique.dev/max-age, pratique.dev/min-age, pratique.dev/bind-name, pratique.dev/bind-name-aliases or pratique.dev/on-refusal
hint: correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored
own.yaml:10: metadata.annotations["pratique.dev/"]: is nothing that this build acts on; expected pratique.dev/workflow-trigger, pratique.dev/workflow-sha, pratique.dev/workflow-name, pratique.dev/workflow-repository, pratique.dev/workflow-ref, pratique.dev/annotations, pratique.dev/attestations-per-platform, pratique.dev/rollback, pratique.dev/max-age, pratique.dev/min-age, pratique.dev/bind-name, pratique.dev/bind-name-aliases or pratique.dev/on-refusal
hint: correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored
"#);
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    let flaws = |annotation: &str| flaws(&annotated(&with_identity("issuer: i\nsubject: s"), &[annotation]));
    insta::assert_snapshot!(flaws("pratique.dev/annotations: sha"), @r#"
own.yaml:6: metadata.annotations["pratique.dev/annotations"]: holds "sha"; expected key=value, with commas between several
hint: write it as sha=abc,team=x: no spaces, nothing empty, no comma in a value
"#);
    insta::assert_snapshot!(flaws("pratique.dev/annotations: a=b,a=c"), @r#"
own.yaml:6: metadata.annotations["pratique.dev/annotations"]: names "a" twice
hint: keep one of the two: both can never hold
"#);
    insta::assert_snapshot!(flaws("pratique.dev/attestations-per-platform: true"), @r#"
own.yaml:6: metadata.annotations["pratique.dev/attestations-per-platform"]: is no text; expected "true" or "false"
hint: write it in quotes: the values of annotations are texts
"#);
    insta::assert_snapshot!(flaws("pratique.dev/workflow-ref: ''"), @r#"
own.yaml:6: metadata.annotations["pratique.dev/workflow-ref"]: is empty; expected text
hint: leave the field out, or give it a value in quotes
"#);
    for bad in ["a=", "'=b'", "a=b,", "',a=b'", "a=b, c=d", "a =b", "' '", "7", "[a=b]", "{a: b}", "~"] {
        let said = flaws(&format!("pratique.dev/annotations: {bad}"));
        assert!(said.contains("pratique.dev/annotations\"]: "), "{bad}: {said}");
    }
    for bad in ["'True'", "'yes'", "'1'", "''", "~", "[true]"] {
        let said = flaws(&format!("pratique.dev/attestations-per-platform: {bad}"));
        assert!(said.contains("expected \"true\" or \"false\""), "{bad}: {said}");
    }
}

#[test]
fn what_an_authority_cannot_give_is_not_asked_of_its_policy() {
    let claim = "pratique.dev/workflow-ref: refs/heads/main";
    insta::assert_snapshot!(flaws(&annotated(&by_key(""), &[claim])), @r#"
own.yaml:6: metadata.annotations["pratique.dev/workflow-ref"]: cannot be asked of authority "authority-0", a key, which claims nothing about a workflow
hint: put that authority into a policy of its own, without the annotation
"#);
    let beside = with_authority(KEYLESS) + "    - static: {action: fail}\n";
    insta::assert_snapshot!(flaws(&annotated(&beside, &[claim, "pratique.dev/annotations: a=b"])), @r#"
own.yaml:6: metadata.annotations["pratique.dev/workflow-ref"]: cannot be asked of authority "authority-1", which is static and looks at nothing
hint: put that authority into a policy of its own, without the annotation
own.yaml:7: metadata.annotations["pratique.dev/annotations"]: cannot be asked of authority "authority-1", which is static and looks at nothing
hint: put that authority into a policy of its own, without the annotation
"#);
    assert!(load(&annotated(&by_key(""), &["pratique.dev/annotations: a=b"])).is_ok(), "a key signs annotations");
    let per_platform = "pratique.dev/attestations-per-platform: 'true'";
    insta::assert_snapshot!(flaws(&annotated(&with_authority(KEYLESS), &[per_platform])), @r#"
own.yaml:6: metadata.annotations["pratique.dev/attestations-per-platform"]: cannot be asked of authority "authority-0", which wants nothing attested
hint: put that authority into a policy of its own, without the annotation
"#);
    insta::assert_snapshot!(flaws(&annotated(&with_glob("cgr.dev/**"), &[per_platform])), @r#"
own.yaml:6: metadata.annotations["pratique.dev/attestations-per-platform"]: is asked of a policy that wants nothing attested
hint: list attestations in its authorities, or take the annotation out
"#);
}

#[test]
fn annotations_and_labels_are_mappings() {
    let text = with_glob("cgr.dev/**").replace("  name: own", "  name: own\n  annotations: text\n  labels: [a]");
    insta::assert_snapshot!(flaws(&text), @r"
own.yaml:5: metadata.annotations: is no mapping; expected names with their values
hint: write a name and a value on each line below it
own.yaml:6: metadata.labels: is no mapping; expected names with their values
hint: write a name and a value on each line below it
");
    let text = with_glob("cgr.dev/**").replace("  name: own", "  name: own\n  annotations:\n  labels: {}");
    assert!(load(&text).is_ok(), "empty ones ask for nothing");
}
