//! Policies that are invalid in a cluster too.

use super::*;

/// A second document with this in place of `key: {…}`, beside a sound authority in the first.
fn attested(attestation: &str) -> String {
    with_authority(&format!("{KEYLESS}\nattestations: [{attestation}]"))
}

fn with_policy(policy: &str) -> String {
    with_glob("cgr.dev/**").replace("spec:", &format!("spec:\n  policy: {policy}"))
}

fn with_spec(line: &str) -> String {
    with_glob("cgr.dev/**").replace("spec:", &format!("spec:\n  {line}"))
}

fn with_root(old: &str, new: &str) -> String {
    let root = trust_root("own", &ALL_LISTS);
    assert!(root.contains(old), "{old}");
    together(&[&with_glob("cgr.dev/**"), &root.replacen(old, new, 1)])
}

/// The controller's own invalid fixtures, told anew.
fn fixtures() -> Vec<(&'static str, String)> {
    let keyless = "identities: [{issuer: i, subject: s}]";
    let warned = |text: String| text.replace("spec:", "spec:\n  mode: warn");
    let pattern = |pattern: &str| with_identity(&pattern.replace(", ", "\n"));
    vec![
        ("an authority with a timestamp and nothing else", with_authority("rfc3161timestamp: {trustRootRef: own}")),
        (
            "a hash algorithm that is none",
            with_authority(&format!("key: {{data: {PUBLIC_KEY:?}, hashAlgorithm: shaINVALID}}")),
        ),
        ("a match on a resource that is none", with_spec("match: [{group: apps, version: v1, resource: apple}]")),
        ("an empty key", with_authority("key: {}")),
        ("an empty key and an empty keyless", with_authority("key: {}\nkeyless: {}")),
        ("a key and a keyless", with_authority(&format!("key: {{data: {PUBLIC_KEY:?}}}\nkeyless: {{{keyless}}}"))),
        ("a glob that is none", with_glob("'['")),
        ("a mode that is none", with_spec("mode: garbage")),
        ("a key that is no PEM", with_authority("key: {data: ---some key data----}")),
        ("a KMS key by its bare ID", with_authority("key: {kms: 'awskms:///1234abcd-12ab-34cd-56ef-1234567890ab'}")),
        ("a KMS key by a bare alias", with_authority("key: {kms: 'awskms://localhost:4566/alias/ExampleAlias'}")),
        (
            "a key given twice",
            with_authority(&format!("key: {{data: {PUBLIC_KEY:?}, kms: 'awskms:///arn:aws:kms:x'}}")),
        ),
        (
            "a CA given twice",
            with_authority(&format!(
                "keyless: {{url: 'https://fulcio.sigstore.dev', ca-cert: {{data: x}}, {keyless}}}"
            )),
        ),
        ("no authority", with_spec("x: y").replace("\n  x: y", "").replace("\n    - static: {action: fail}", " []")),
        ("an issuer pattern that does not parse", pattern("issuerRegExp: '****', subject: s")),
        ("a subject pattern that does not parse", pattern("issuer: i, subjectRegExp: '****'")),
        ("no identity, in mode warn", warned(with_authority("keyless: {url: 'https://fulcio.sigstore.dev'}"))),
        ("no issuer, in mode warn", warned(pattern("subject: s"))),
        ("no subject, in mode warn", warned(pattern("issuer: i"))),
    ]
}

/// The rules that the controller has besides.
fn rules() -> Vec<(&'static str, String)> {
    let beside = |more: &str| with_authority(&format!("static: {{action: fail}}\n{more}"));
    let rego = "data: 'package sigstore isCompliant { true }'";
    vec![
        ("no images", with_glob("cgr.dev/**").replace("  images:\n    - glob: cgr.dev/**\n", "")),
        ("an empty list of images", with_glob("cgr.dev/**").replace("\n    - glob: cgr.dev/**", " []")),
        ("an empty glob", with_glob("''")),
        ("static beside attestations", beside("attestations: [{name: a, predicateType: spdx}]")),
        ("static beside source", beside("source: [{oci: ghcr.io/a/b}]")),
        ("static beside ctlog", beside("ctlog: {url: 'https://rekor.sigstore.dev'}")),
        ("static that neither passes nor fails", with_authority("static: {action: maybe}")),
        ("two sources", with_authority(&format!("{KEYLESS}\nsource: [{{oci: ghcr.io/a/b}}, {{oci: ghcr.io/a/c}}]"))),
        (
            "a source that is neither registry nor repository",
            with_authority(&format!("{KEYLESS}\nsource: [{{oci: org/app}}]")),
        ),
        (
            "a pull secret without name",
            with_authority(&format!("{KEYLESS}\nsource: [{{signaturePullSecrets: [{{name: ''}}]}}]")),
        ),
        (
            "a certificate for a key",
            with_authority(&format!("key: {{data: {:?}}}", PUBLIC_KEY.replace("PUBLIC KEY", "CERTIFICATE"))),
        ),
        ("a secret of another namespace", with_authority("key: {secretRef: {name: a, namespace: other}}")),
        ("two forms of the issuer", with_identity("issuer: i\nissuerRegExp: i\nsubject: s")),
        ("two forms of the subject", with_identity("issuer: i\nsubject: s\nsubjectRegExp: s")),
        ("an attestation without name", attested("{predicateType: spdx}")),
        ("an attestation without type", attested("{name: a}")),
        ("a rule in another language", with_policy(&format!("{{type: javascript, {rego}}}"))),
        ("a rule in no language", with_policy(&format!("{{{rego}}}"))),
        ("a rule without text", with_policy("{type: rego}")),
        ("a rule given twice", with_policy(&format!("{{type: rego, {rego}, configMapRef: {{name: a, key: b}}}}"))),
        ("a remote rule without its hash", with_policy("{type: rego, remote: {url: 'https://x.example'}}")),
        ("a ConfigMap's rule without key", with_policy("{type: rego, configMapRef: {name: a}}")),
        (
            "an attestation's rule that asks for the config",
            attested(&format!(
                "{{name: a, predicateType: spdx, policy: {{type: rego, {rego}, fetchConfigFile: true}}}}"
            )),
        ),
        (
            "an attestation's rule that asks for no spec",
            attested(&format!("{{name: a, predicateType: spdx, policy: {{type: rego, {rego}, includeSpec: false}}}}")),
        ),
        ("a match by labels alone", with_spec("match: [{selector: {matchLabels: {a: b}}}]")),
        ("a version that is none", with_glob("cgr.dev/**").replace("v1beta1", "v2")),
        ("a policy without name", with_glob("cgr.dev/**").replace("  name: own", "  labels: {}")),
        ("a field that is none", with_spec("authority: []")),
        (
            "a trust root without CA and timestamp authority",
            together(&[&with_glob("cgr.dev/**"), &trust_root("own", &["tLogs", "ctLogs"])]),
        ),
        ("a trust root given twice", with_root("spec:", "spec:\n  remote: {root: x, mirror: 'https://x.example'}")),
        ("a trust root given not at all", with_root("  sigstoreKeys:", "  keys:")),
        ("an authority without address", with_root("        uri: https://authority.example\n", "")),
        ("an authority without organization", with_root("organization: o, ", "")),
        ("a log without address", with_root("baseURL: https://rekor.sigstore.dev", "baseURL: ''")),
        ("a log without hash algorithm", with_root("        hashAlgorithm: sha-256\n", "")),
    ]
}

#[test]
fn what_is_invalid_in_a_cluster_is_refused_with_file_line_field_and_way_out() {
    let table = [fixtures(), rules()].concat();
    assert!(fixtures().len() >= 19 && table.len() >= 33, "{} ways", table.len());
    insta::assert_snapshot!("invalid", super::told(&table));
}
