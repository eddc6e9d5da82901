//! Files, documents and metadata that are refused.

use super::*;

#[test]
fn files_without_a_policy_are_refused() {
    for text in ["", "\n", "# only a comment\n", "---\n", "---\n---\n", "null\n", "~"] {
        assert!(flaws(text).contains("holds no policy"), "{text:?}: {}", flaws(text));
    }
    insta::assert_snapshot!(flaws(""), @r"
own.yaml: holds no policy; expected at least one ClusterImagePolicy document
hint: take the file out of policy.files, or write a policy into it
");
    insta::assert_snapshot!(load_as(&[], false).unwrap_err(), @r"
policy.files: names no file; expected at least one
hint: leave it out for the built-in policy
");
}

#[test]
fn one_empty_file_among_good_ones_refuses_all() {
    let good = with_glob("cgr.dev/**");
    insta::assert_snapshot!(load_as(&[&good, ""], false).unwrap_err(), @r"
own-2.yaml: holds no policy; expected at least one ClusterImagePolicy document
hint: take the file out of policy.files, or write a policy into it
");
}

#[test]
fn what_is_no_policy_document_is_refused() {
    for text in [
        "hello\n",
        "- a\n",
        "{}\n",
        "kind: TrustRoot\napiVersion: policy.sigstore.dev/v1alpha1\n",
        "kind: Secret\n",
        "kind: List\n",
        "kind: Pod\n",
        "kind: [a]\n",
        "kind: ClusterImagePolicy\n",
        "kind: ClusterImagePolicy\napiVersion: cosigned.sigstore.dev/v1alpha1\nmetadata: {name: a}\n",
        "apiVersion: policy.sigstore.dev/v1beta1\n",
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n",
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {}\nspec: {}\n",
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: a}\nspec: {mode: enforce}\n",
    ] {
        assert!(load(text).is_err(), "{text:?}");
    }
    insta::assert_snapshot!(
        flaws("kind: TrustRoot\n---\nkind: Secret\n---\nkind: List\n---\nkind: Pod\n---\nhello\n---\n[a]\n---\nkind: ClusterImagePolicy\n"),
        @r#"
own.yaml:1: apiVersion: is missing
hint: write apiVersion: policy.sigstore.dev/v1beta1
own.yaml:3: kind: is "Secret"; expected ClusterImagePolicy or TrustRoot
hint: write the public key itself into key.data of the authority
own.yaml:5: kind: is "List"; expected ClusterImagePolicy or TrustRoot
hint: write its items as documents, with a line --- between them
own.yaml:7: kind: is "Pod"; expected ClusterImagePolicy or TrustRoot
hint: a policy file holds ClusterImagePolicy and TrustRoot documents only
own.yaml:9: is "hello"; expected a mapping with apiVersion, kind, metadata or spec
hint: write its fields below it, or leave it out where it may be
own.yaml:11: is a list; expected a mapping with apiVersion, kind, metadata or spec
hint: write its fields below it, or leave it out where it may be
own.yaml:13: apiVersion: is missing
hint: write apiVersion: policy.sigstore.dev/v1beta1
"#
    );
    let said = flaws(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {labels: {}}\nspec: {mode: enforce}\n",
    );
    insta::assert_snapshot!(said, @r"
own.yaml:3: metadata.name: is missing
hint: write a name, as it shall appear in refusals
own.yaml:4: spec.images: is missing
hint: list at least one glob, as - glob: cgr.dev/chainguard/**
own.yaml:4: spec.authorities: is missing
hint: list at least one authority: key, keyless or static
");
}

#[test]
fn another_api_version_is_refused() {
    insta::assert_snapshot!(flaws(&with_glob("cgr.dev/**").replace("v1beta1", "v1")), @r#"
own.yaml:1: apiVersion: is "policy.sigstore.dev/v1"; expected policy.sigstore.dev/v1alpha1 or policy.sigstore.dev/v1beta1
hint: both versions have the same fields
"#);
}

#[test]
fn malformed_yaml_is_refused_with_its_line() {
    insta::assert_snapshot!(flaws("kind: ClusterImagePolicy\nspec: [\n"), @r"
own.yaml:2: is not YAML that can be read: unclosed bracket '['
hint: look at indentation, quotes and brackets there
");
    insta::assert_snapshot!(flaws("kind: ClusterImagePolicy\nspec: !custom x\n"), @r"
own.yaml:2: is not YAML that can be read: unsupported tag `!custom`
hint: look at indentation, quotes and brackets there
");
    insta::assert_snapshot!(flaws("a: 1\n b: 2\n"), @r"
own.yaml:2: is not YAML that can be read: mapping values are not allowed in this context
hint: look at indentation, quotes and brackets there
");
}

#[test]
fn a_key_written_twice_is_refused() {
    insta::assert_snapshot!(flaws(&with_glob("cgr.dev/**").replace("  authorities", "  mode: warn\n  mode: enforce\n  authorities")), @r#"
own.yaml:9: the key "mode" is there twice
hint: keep one of the two
"#);
}

#[test]
fn merge_keys_are_refused() {
    insta::assert_snapshot!(flaws("base: &base {a: b}\nspec:\n  <<: *base\n"), @r"
own.yaml:3: merge keys (<<) are not read
hint: write the fields out
");
}

#[test]
fn yaml_that_is_too_deep_or_expands_without_end_is_refused() {
    insta::assert_snapshot!(flaws(&format!("{}x{}", "[".repeat(40), "]".repeat(40))), @r"
own.yaml:1: is larger or deeper than a policy file may be: budget breached: Depth { depth: 25 }
hint: spread the policies over several files, and write aliases out
");
    let deep = (0..40).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "a:\n");
    assert!(flaws(&deep).contains("larger or deeper"), "{}", flaws(&deep));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let inner = format!("*a{},", level - 1).repeat(10);
        bomb = format!("{bomb}a{level}: &a{level} [{inner}]\n");
    }
    assert!(flaws(&bomb).contains("larger or deeper"), "{}", flaws(&bomb));
}

#[test]
fn a_name_used_twice_is_refused_wherever_the_other_is() {
    let text = with_glob("cgr.dev/**");
    insta::assert_snapshot!(load_as(&[&text, &text], false).unwrap_err(), @r#"
own-2.yaml:1: metadata.name: "own" is the name of the policy at own.yaml:1 already
hint: give each policy a name of its own
"#);
    let both = format!("{text}---\n{text}");
    assert!(flaws(&both).starts_with("own.yaml:11: metadata.name:"), "{}", flaws(&both));
}

#[test]
fn flaws_of_metadata_are_told() {
    let text = with_glob("cgr.dev/**").replace(
        "  name: own",
        "  Name: own
  namespace: default
  labels: {pratique.dev/minimum-age: 1d}
  annotations:
    pratique.dev/maximum-age: 30d
    Pratique.dev/x: y
    example.com/pratique.dev: fine
  owner: me",
    );
    insta::assert_snapshot!(flaws(&text), @r#"
own.yaml:3: metadata.name: is missing
hint: write a name, as it shall appear in refusals
own.yaml:4: metadata.Name: is not spelled as the field is; expected "name"
hint: upper and lower case matter here, although the controller looks past them
own.yaml:5: metadata.namespace: is there; such a document has no namespace
hint: take it out
own.yaml:6: metadata.labels["pratique.dev/minimum-age"]: is a label, which asks for nothing
hint: write it as an annotation of a ClusterImagePolicy, or take it out
own.yaml:8: metadata.annotations["pratique.dev/maximum-age"]: is nothing that this build acts on; expected pratique.dev/workflow-trigger, pratique.dev/workflow-sha, pratique.dev/workflow-name, pratique.dev/workflow-repository, pratique.dev/workflow-ref, pratique.dev/annotations, pratique.dev/attestations-per-platform, pratique.dev/rollback, pratique.dev/max-age, pratique.dev/min-age, pratique.dev/bind-name, pratique.dev/bind-name-aliases or pratique.dev/on-refusal
hint: correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored
own.yaml:9: metadata.annotations["Pratique.dev/x"]: is nothing that this build acts on; expected pratique.dev/workflow-trigger, pratique.dev/workflow-sha, pratique.dev/workflow-name, pratique.dev/workflow-repository, pratique.dev/workflow-ref, pratique.dev/annotations, pratique.dev/attestations-per-platform, pratique.dev/rollback, pratique.dev/max-age, pratique.dev/min-age, pratique.dev/bind-name, pratique.dev/bind-name-aliases or pratique.dev/on-refusal
hint: correct its name, or take it out: an annotation under pratique.dev/ is a demand, and is not ignored
own.yaml:11: metadata.owner: is no known field; expected name, annotations or labels
hint: correct its name, or take it out: nothing is ignored in silence
"#);
}

#[test]
fn names_that_no_cluster_takes_are_refused() {
    for name in ["Own", "-own", "own-", "own_policy", "own/policy", "'own policy'", "\"own\\npolicy\"", "12", "''", "~"]
    {
        let text = with_glob("cgr.dev/**").replace("name: own", &format!("name: {name}"));
        assert!(flaws(&text).starts_with("own.yaml:4: metadata.name: is "), "{name}: {}", flaws(&text));
    }
    insta::assert_snapshot!(flaws(&with_glob("cgr.dev/**").replace("name: own", "name: Own")), @r#"
own.yaml:4: metadata.name: is "Own"; expected lower-case letters, digits, - and .
hint: a cluster takes no other name: letter or digit at both ends, 253 characters at most
"#);
}
