//! Policies that a cluster takes and that cannot be honoured here: refused by name, with the way out.

use super::*;

fn keyless(more: &str) -> String {
    with_authority(&format!("{KEYLESS}\n{more}"))
}

fn with_policy(policy: &str) -> String {
    with_glob("cgr.dev/**").replace("spec:", &format!("spec:\n  policy: {policy}"))
}

fn with_root(root: &str, authority: &str) -> String {
    together(&[&with_authority(authority), root])
}

/// What a registry does not have: workloads, secrets, services to ask.
fn of_the_cluster() -> Vec<(&'static str, String)> {
    let rego = "type: rego, data: 'package sigstore isCompliant { true }'";
    vec![
        (
            "a workload to match",
            with_glob("cgr.dev/**")
                .replace("spec:", "spec:\n  match: [{group: apps, version: v1, resource: deployments}]"),
        ),
        ("a workload's spec", with_policy(&format!("{{{rego}, includeSpec: true}}"))),
        ("a workload's metadata", with_policy(&format!("{{{rego}, includeObjectMeta: true}}"))),
        ("a workload's kind", with_policy(&format!("{{{rego}, includeTypeMeta: true}}"))),
        ("a key in a secret", with_authority("key: {secretRef: {name: cosign-key}}")),
        (
            "a key in a key service",
            with_authority("key: {kms: 'gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k'}"),
        ),
        ("a rule in a ConfigMap", with_policy("{type: rego, configMapRef: {name: rules, key: rule}}")),
        ("a rule to be fetched", with_policy("{type: rego, remote: {url: 'https://x.example/rule', sha256sum: abc}}")),
        ("credentials in secrets", keyless("source: [{oci: ghcr.io/a/b, signaturePullSecrets: [{name: pull}]}]")),
        (
            "a secret in the file",
            with_glob("cgr.dev/**")
                + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: cosign-system}\n",
        ),
        ("a CA of its own", with_authority("keyless: {ca-cert: {data: x}, identities: [{issuer: i, subject: s}]}")),
        (
            "a trust root to be fetched",
            with_root(
                "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: own}\nspec: {remote: {root: x, mirror: 'https://tuf.example'}}\n",
                "static: {action: fail}",
            ),
        ),
        (
            "a trust root in an archive",
            with_root(
                "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: own}\nspec: {repository: {root: x, mirrorFS: x}}\n",
                "static: {action: fail}",
            ),
        ),
    ]
}

/// What means nothing there, or less than it says.
fn of_the_language() -> Vec<(&'static str, String)> {
    let rooted = "keyless: {trustRootRef: own, identities: [{issuer: i, subject: s}]}";
    let without_ct = trust_root("own", &["certificateAuthorities", "tLogs"]);
    vec![
        ("a glob of a tag", with_glob("ghcr.io/org/app:v1")),
        ("a glob of a repository", with_glob("ghcr.io/org/app")),
        ("a glob of Docker Hub's other name", with_glob("docker.io/**")),
        ("a glob without host", with_glob("nginx")),
        ("a glob of a host in upper case", with_glob("GHCR.io/**")),
        ("a rule in CUE over a policy", with_policy("{type: cue, data: 'authorityMatches: a: {}'}")),
        (
            "a rule in CUE over an attestation",
            keyless("attestations: [{name: a, predicateType: spdx, policy: {type: cue, data: 'predicate: x: 1'}}]"),
        ),
        ("a rule that does not compile", with_policy("{type: rego, data: 'package sigstore isCompliant {'}")),
        (
            "a rule that goes out",
            with_policy("{type: rego, data: 'package sigstore isCompliant { http.send({}).body }'}"),
        ),
        (
            "a certificate service of its own",
            with_authority("keyless: {url: 'https://fulcio.example', identities: [{issuer: i, subject: s}]}"),
        ),
        ("a log of its own", keyless("ctlog: {url: 'https://rekor.example'}")),
        ("a log that would be skipped", keyless("ctlog: {}").replace("v1beta1", "v1alpha1")),
        ("a timestamp that would be skipped", keyless("rfc3161timestamp: {}")),
        ("a certificate without a signed time", with_root(&trust_root("own", &ALL_LISTS), rooted)),
        ("a trust root that is not there", keyless("ctlog: {trustRootRef: nowhere}")),
        (
            "a trust root without certificate logs",
            with_root(&without_ct, &format!("{rooted}\nctlog: {{trustRootRef: own}}")),
        ),
        ("a signature's format that is none", keyless("signatureFormat: bundel")),
        ("several keys in one text", with_authority(&format!("key: {{data: {:?}}}", PUBLIC_KEY.repeat(2)))),
        ("a hash that nobody uses", with_authority(&format!("key: {{data: {PUBLIC_KEY:?}, hashAlgorithm: sha224}}"))),
        (
            "two authorities of one name",
            with_authority("name: a\nstatic: {action: fail}") + "    - {name: a, static: {action: fail}}\n",
        ),
        (
            "two attestations of one name",
            keyless("attestations: [{name: a, predicateType: spdx}, {name: a, predicateType: vuln}]"),
        ),
        ("two policies of one name", together(&[&with_glob("cgr.dev/**"), &with_glob("ghcr.io/**")])),
        ("a type that is neither URI nor short name", keyless("attestations: [{name: a, predicateType: sbom}]")),
        ("a registry for a source", keyless("source: [{oci: ghcr.io}]")),
        ("a source that is no upstream", keyless("source: [{oci: quay.io/org/signatures}]")),
        ("a field in another case", with_glob("cgr.dev/**").replace("images:", "Images:")),
        ("a field that a cluster prunes", keyless("rekor: {url: 'https://rekor.sigstore.dev'}")),
        ("a pattern that other engines read otherwise", with_identity("issuer: i\nsubjectRegExp: '^\\pL+$'")),
        ("a guard of time over a key without log", annotated(&by_key(""), &["pratique.dev/rollback: deny"])),
        ("a condition that is none", annotated(&with_authority(KEYLESS), &["pratique.dev/workflow: x"])),
        ("a claim of a key", annotated(&by_key(""), &["pratique.dev/workflow-ref: refs/heads/main"])),
        (
            "a list of authorities that is empty by leave",
            with_glob("cgr.dev/**").replace("\n    - static: {action: fail}", " []"),
        ),
    ]
}

#[test]
fn what_cannot_be_honoured_is_refused_with_file_line_field_and_way_out() {
    let table = [of_the_cluster(), of_the_language()].concat();
    assert!(table.len() >= 20, "{} ways", table.len());
    insta::assert_snapshot!("unhonoured", super::told(&table));
}
