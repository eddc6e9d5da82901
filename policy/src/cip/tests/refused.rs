//! Fields of the language that are refused by name, each with its way out.

use super::*;

#[test]
fn a_workload_match_is_refused() {
    let text = with_glob("cgr.dev/**").replace("spec:", "spec:\n  match:\n    - {version: v1, resource: pods}");
    insta::assert_snapshot!(flaws(&text), @r"
own.yaml:6: spec.match: is not supported: a registry does not know which workload an image is for
hint: leave this policy to the cluster's controller, or take match out and let the globs decide
");
}

#[test]
fn content_policies_are_refused() {
    let with_policy =
        |policy: &str| flaws(&with_glob("cgr.dev/**").replace("spec:", &format!("spec:\n  policy: {policy}")));
    insta::assert_snapshot!(with_policy("{type: rego, data: package sigstore}"), @r"
own.yaml:6: spec.policy: is not supported by this build
hint: leave this policy to the cluster's controller: without its Rego it would ask for less than it says
");
    insta::assert_snapshot!(with_policy("{type: cue, data: 'a: 1'}"), @r"
own.yaml:6: spec.policy.type: is cue, which is not supported; expected rego
hint: write it as Rego: package sigstore, with a rule isCompliant
");
    let said = with_policy(
        "{type: rego, remote: {url: 'https://x.example'}, configMapRef: {name: a}, includeSpec: true, includeObjectMeta: true, includeTypeMeta: true}",
    );
    insta::assert_snapshot!(said, @r"
own.yaml:6: spec.policy.remote: is not supported: policies are not fetched
hint: write the policy's text into data
own.yaml:6: spec.policy.configMapRef: is not supported: there is no cluster to ask
hint: write the policy's text into data
own.yaml:6: spec.policy.includeSpec: is not supported
hint: a registry does not know the workload: leave this policy to the cluster's controller
own.yaml:6: spec.policy.includeObjectMeta: is not supported
hint: a registry does not know the workload: leave this policy to the cluster's controller
own.yaml:6: spec.policy.includeTypeMeta: is not supported
hint: a registry does not know the workload: leave this policy to the cluster's controller
");
    assert!(with_policy("text").contains("spec.policy: is not supported"));
}

#[test]
fn what_comes_with_a_later_build_is_refused() {
    let text = with_authority(
        "keyless:
  identities: [{issuer: i, subject: s}]
  trustRootRef: own
attestations:
  - name: sbom
    predicateType: https://spdx.dev/Document
    policy: {type: cue, data: 'a: 1'}
source:
  - oci: ghcr.io/org/signatures
    signaturePullSecrets: [{name: pull}]
ctlog: {trustRootRef: own}
rfc3161timestamp: {trustRootRef: own}",
    );
    insta::assert_snapshot!(flaws(&text), @r"
own.yaml:11: spec.authorities[0].keyless.trustRootRef: is not supported by this build
hint: put keys and certificates into a trusted_root.json, and that into policy.trust_root of the configuration
own.yaml:12: spec.authorities[0].attestations: is not supported by this build
hint: leave this policy to the cluster's controller, or take attestations out and ask for a signature
own.yaml:15: spec.authorities[0].attestations[0].policy.type: is cue, which is not supported; expected rego
hint: write it as Rego: package sigstore, with a rule isCompliant
own.yaml:16: spec.authorities[0].source: is not supported by this build
hint: take it out where the signatures are beside the image; else leave this policy to the controller
own.yaml:18: spec.authorities[0].source[0].signaturePullSecrets: is not supported: there is no cluster to ask for secrets
hint: set username and password_file of the upstream in the configuration
own.yaml:19: spec.authorities[0].ctlog.trustRootRef: is not supported by this build
hint: put keys and certificates into a trusted_root.json, and that into policy.trust_root of the configuration
own.yaml:19: spec.authorities[0].ctlog.url: is missing
hint: write url: https://rekor.sigstore.dev to ask for the log; leave ctlog out to not ask for it with a key
own.yaml:20: spec.authorities[0].rfc3161timestamp: is not supported by this build
hint: take it out: the log's own signed time is asked for
");
}

#[test]
fn a_ca_of_ones_own_is_refused() {
    let said = flaws(&with_authority("keyless:\n  ca-cert: {data: x}\n  identities: [{issuer: i, subject: s}]"));
    insta::assert_snapshot!(said, @r"
own.yaml:10: spec.authorities[0].keyless.ca-cert: is not supported: the controller never uses it either, and such an authority always fails there
hint: put the CA into a trusted_root.json, and that into policy.trust_root of the configuration
");
}

#[test]
fn a_ca_of_ones_own_is_refused_beside_a_url_too() {
    let text = with_authority(
        "keyless:\n  url: https://fulcio.sigstore.dev\n  ca-cert: {secretRef: {name: a}}\n  identities: [{issuer: i, subject: s}]",
    );
    assert!(flaws(&text).contains("keyless.ca-cert: is not supported"), "{}", flaws(&text));
}

#[test]
fn keys_outside_of_the_policy_are_refused() {
    insta::assert_snapshot!(flaws(&with_authority("key: {secretRef: {name: a}}")), @r"
own.yaml:9: spec.authorities[0].key.secretRef: is not supported: there is no cluster to ask
hint: write the public key itself into data
");
    insta::assert_snapshot!(flaws(&with_authority("key: {kms: 'awskms:///alias/x'}")), @r"
own.yaml:9: spec.authorities[0].key.kms: is not supported: no key service is asked
hint: write the public key into data: cosign public-key --key <kms> prints it
");
    assert!(load(&with_authority("key: {kms: 'awskms:///alias/x', secretRef: {name: a}}")).is_err());
    assert!(load(&with_authority(&format!("key: {{kms: 'awskms:///alias/x', data: {PUBLIC_KEY:?}}}"))).is_err());
}

#[test]
fn a_ctlog_by_which_the_log_would_be_skipped_is_refused() {
    let keyless = "keyless:\n  identities: [{issuer: i, subject: s}]\n";
    insta::assert_snapshot!(flaws(&with_authority(&format!("{keyless}ctlog: {{}}"))), @r"
own.yaml:11: spec.authorities[0].ctlog: is empty, by which the controller would skip the log; expected a mapping with url
hint: write url: https://rekor.sigstore.dev to ask for the log; leave ctlog out to not ask for it with a key
");
    insta::assert_snapshot!(flaws(&with_authority(&format!("{keyless}ctlog: {{trustRootRef: own}}"))), @r"
own.yaml:11: spec.authorities[0].ctlog.trustRootRef: is not supported by this build
hint: put keys and certificates into a trusted_root.json, and that into policy.trust_root of the configuration
own.yaml:11: spec.authorities[0].ctlog.url: is missing
hint: write url: https://rekor.sigstore.dev to ask for the log; leave ctlog out to not ask for it with a key
");
    let alpha = with_authority(&format!("{keyless}ctlog:")).replace("v1beta1", "v1alpha1");
    assert!(flaws(&alpha).contains("spec.authorities[0].ctlog: is empty"), "{}", flaws(&alpha));
    assert!(load(&with_authority(&format!("{keyless}ctlog: {{url: ''}}"))).is_err());
    assert!(load(&with_authority(&format!("{keyless}ctlog: text"))).is_err());
}

#[test]
fn addresses_that_the_public_trust_root_does_not_vouch_for_are_refused() {
    insta::assert_snapshot!(
        flaws(&with_authority(
            "keyless:\n  url: https://ca.example\n  identities: [{issuer: i, subject: s}]\nctlog: {url: https://log.example}"
        )),
        @r#"
own.yaml:10: spec.authorities[0].keyless.url: is "https://ca.example", which the public-good trust root does not vouch for; expected https://fulcio.sigstore.dev
hint: set policy.trust_root in the configuration to the trusted_root.json of that Sigstore
own.yaml:12: spec.authorities[0].ctlog.url: is "https://log.example", which the public-good trust root does not vouch for; expected https://rekor.sigstore.dev
hint: set policy.trust_root in the configuration to the trusted_root.json of that Sigstore
"#
    );
    for url in [
        "https://",
        "fulcio.sigstore.dev",
        "https://fulcio.sigstore.dev.evil.example",
        "https:///x",
        "'https://a b'",
        "file:///x",
        "7",
    ] {
        let text = with_authority(&format!("keyless:\n  url: {url}\n  identities: [{{issuer: i, subject: s}}]"));
        assert!(load(&text).is_err(), "{url} was taken");
    }
    assert!(
        load(&with_authority("keyless:\n  url: https://fulcio.sigstore.dev/\n  identities: [{issuer: i, subject: s}]"))
            .is_ok()
    );
}
