//! What the controller's own tests apply to a cluster, as far as it can be honoured: told anew, all of it loads.

use super::*;

/// An RSA key that belongs to nobody any more.
const RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtiZJN75f/C7CYKMR637W
CqgwU+hFPy3Ar2okIn5oz58ybRs4NJ7lf3DD5SiyNQgipC57n/WLRWPerltMsfSS
zvSK/o0r6p1ZIyTzzY4ycOqbQ6x09QafXWheBMMrZkuAUGoAIhP3b36JjJTpmYzg
auLU7QPxC9R9DEZGEbj6F4RNPC+oh9dxjoA9HmWl3DXYpV8rUtvIW25voLSmDKAz
URbcWjNteSZKOht5iua40TLdOcD95HvAZmv73iwP8FUfvYfOI0XzgqzQFdHOG8RY
IS1WEczgrC0qbqapCcOGXp4FNSCNR8iR+bLlscnfefsCCDvi5LrX+uUI6V/PG5Ir
RwIDAQAB
-----END PUBLIC KEY-----
";

const LOG: &str = "ctlog: {url: 'https://rekor.sigstore.dev'}";
const RULE: &str =
    "type: rego, data: 'package sigstore default isCompliant = false isCompliant { input.predicateType == \"x\" }'";

fn table() -> Vec<(&'static str, String)> {
    let keyless = |more: &str| with_authority(&format!("{KEYLESS}\n{LOG}\n{more}"));
    let (root, stamps) = (trust_root("own", &ALL_LISTS), trust_root("own", &["timestampAuthorities"]));
    let vulns = format!(
        "attestations: [{{name: vulns, predicateType: 'https://cosign.sigstore.dev/attestation/vuln/v1', policy: {{{RULE}}}}}]"
    );
    let rooted = "keyless: {trustRootRef: own, url: 'https://fulcio.example', identities: [{issuer: i, subject: s}]}\nctlog: {trustRootRef: own, url: 'https://rekor.example'}";
    let over_all = "spec:\n  policy:\n    type: rego\n    data: |\n      package sigstore\n      isCompliant {\n        count(input.authorityMatches[\"a\"].attestations[\"vulns\"]) > 0\n      }";
    vec![
        ("a key and the log", by_key(LOG)),
        ("a key without log", by_key("")),
        ("a key and an attestation, without log", by_key("attestations: [{name: a, predicateType: custom}]")),
        (
            "a key or an identity",
            by_key(LOG)
                + "    - keyless: {identities: [{issuer: i, subject: s}]}\n      ctlog: {url: 'https://rekor.sigstore.dev'}\n",
        ),
        (
            "an identity without certificate log",
            with_authority(&format!(
                "keyless: {{insecureIgnoreSCT: true, identities: [{{issuer: i, subject: s}}]}}\n{LOG}"
            )),
        ),
        ("a key with another hash", with_authority(&format!("key: {{data: {RSA_KEY:?}, hashAlgorithm: sha512}}"))),
        ("a key and a timestamp", together(&[&by_key("rfc3161timestamp: {trustRootRef: own}"), &stamps])),
        ("an identity", keyless("")),
        (
            "several identities by pattern",
            with_identity("issuerRegExp: .*\nsubjectRegExp: .*") + "          - {issuer: i, subjectRegExp: .*}\n",
        ),
        ("an identity, in mode warn", keyless("").replace("spec:", "spec:\n  mode: warn")),
        ("signatures elsewhere", keyless("source: [{oci: ghcr.io/org/signatures}]")),
        (
            "attestations elsewhere, with a prefix",
            keyless(
                "source: [{oci: ghcr.io/org/signatures, tagPrefix: e2e-}]\nattestations: [{name: a, predicateType: custom}]",
            ),
        ),
        (
            "attestations under a trust root of one's own",
            together(&[
                &with_authority(&format!("{rooted}\nattestations: [{{name: a, predicateType: custom}}]")),
                &root,
            ]),
        ),
        ("attestations by a rule", keyless(&vulns)),
        (
            "attestations by a rule over all of them",
            with_authority(&format!("name: a\n{KEYLESS}\n{vulns}")).replace("spec:", over_all),
        ),
        ("nobody asked, served", with_authority("static: {action: pass}")),
        ("nobody asked, refused", with_authority("static: {action: fail, message: never}")),
        (
            "a config, by a rule",
            with_authority("static: {action: pass}")
                .replace("spec:", &format!("spec:\n  policy: {{{RULE}, fetchConfigFile: true}}")),
        ),
        (
            "both layouts",
            keyless("signatureFormat: bundle").replace("    - keyless", "    - static: {action: fail}\n    - keyless"),
        ),
        ("v1alpha1", keyless("").replace("v1beta1", "v1alpha1")),
    ]
}

#[test]
fn what_the_controller_tests_with_loads() {
    for (title, text) in table() {
        let loaded = load(&text).unwrap_or_else(|errors| panic!("{title}: {errors}"));
        assert!(!loaded.set.policies().is_empty(), "{title}");
    }
}
