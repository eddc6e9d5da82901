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
fn a_ca_of_ones_own_is_refused() {
    let said = flaws(&with_authority("keyless:\n  ca-cert: {data: x}\n  identities: [{issuer: i, subject: s}]"));
    insta::assert_snapshot!(said, @r"
own.yaml:10: spec.authorities[0].keyless.ca-cert: is not supported: the controller never uses it either, and such an authority always fails there
hint: put the CA into certificateAuthorities of a TrustRoot document, and name that by trustRootRef
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
own.yaml:11: spec.authorities[0].ctlog: is empty, by which the controller would skip the log; expected a mapping with url or trustRootRef
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
hint: name the TrustRoot document of that Sigstore by trustRootRef beside it, or set policy.trust_root in the configuration to its trusted_root.json
own.yaml:12: spec.authorities[0].ctlog.url: is "https://log.example", which the public-good trust root does not vouch for; expected https://rekor.sigstore.dev
hint: name the TrustRoot document of that Sigstore by trustRootRef beside it, or set policy.trust_root in the configuration to its trusted_root.json
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
