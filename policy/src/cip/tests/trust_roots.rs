//! `TrustRoot` documents.

use super::*;

/// A file with a trust root on line 1, and a policy that refers to it below.
fn with_root(root: &str) -> String {
    let refers = "keyless: {trustRootRef: own, insecureIgnoreSCT: true, identities: [{issuer: i, subject: s}]}\nctlog: {url: 'https://rekor.sigstore.dev'}";
    together(&[root, &with_authority(refers)])
}

fn whole() -> String {
    trust_root("own", &ALL_LISTS)
}

/// What is said, without the long values.
fn said(root: &str) -> String {
    flaws(&with_root(root))
}

/// The value of a field, as the document has it.
fn value<'t>(text: &'t str, key: &str) -> &'t str {
    text.split_once(&format!("{key}: ")).unwrap().1.lines().next().unwrap()
}

fn certificates() -> Vec<String> {
    let text = String::from_utf8(STANDARD.decode(value(&whole(), "certChain")).unwrap()).unwrap();
    text.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect()
}

fn with_chain(root: &str, chain: &str) -> String {
    root.replacen(value(root, "certChain"), &STANDARD.encode(chain), 1)
}

#[test]
fn a_trust_root_is_read_from_any_file_and_place() {
    let (root, policy) = (
        whole(),
        with_authority(
            "keyless: {trustRootRef: own, identities: [{issuer: i, subject: s}]}\nctlog: {trustRootRef: own}",
        ),
    );
    for texts in [
        vec![together(&[&root, &policy])],
        vec![together(&[&policy, &root])],
        vec![policy.clone(), root.clone()],
        vec![root.clone(), policy.clone()],
    ] {
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let set = load_as(&texts, false).unwrap_or_else(|errors| panic!("{errors}")).set;
        let names: Vec<_> = set.trust_roots().keys().map(String::as_str).collect();
        assert_eq!(names, ["own"]);
    }
}

#[test]
fn what_is_written_is_what_is_trusted() {
    let set = load(&with_root(&whole())).unwrap_or_else(|errors| panic!("{errors}")).set;
    let read: serde_json::Value = serde_json::from_str(set.trust_roots()["own"].text()).unwrap();
    let public: serde_json::Value = serde_json::from_str(crate::sigstore::PUBLIC_GOOD).unwrap();
    for list in ["tlogs", "ctlogs"] {
        // The same keys under the same names: an ID is the key's own hash, never its digits.
        for path in ["/logId/keyId", "/publicKey/rawBytes", "/publicKey/keyDetails", "/hashAlgorithm"] {
            let path = format!("/{list}/0{path}");
            assert_eq!(read.pointer(&path), public.pointer(&path), "{path}");
        }
    }
    for list in ["certificateAuthorities", "timestampAuthorities"] {
        let path = format!("/{list}/0/certChain");
        assert_eq!(read.pointer(&path), public.pointer(&path), "{path}");
    }
}

#[test]
fn a_trust_root_needs_not_have_every_list() {
    for lists in [&["certificateAuthorities"][..], &["timestampAuthorities"], &["certificateAuthorities", "ctLogs"]] {
        let text = together(&[&with_glob("cgr.dev/**"), &trust_root("own", lists)]);
        assert!(load(&text).is_ok(), "{lists:?}: {}", flaws(&text));
    }
    insta::assert_snapshot!(said(&trust_root("own", &["tLogs"])), @r"
own.yaml:6: spec.sigstoreKeys: has neither certificateAuthorities nor timestampAuthorities; expected at least one of them
hint: to ask for a log of one's own alone, set policy.trust_root in the configuration
");
}

#[test]
fn roots_from_elsewhere_are_refused_with_the_way_out() {
    let head = whole().split_once("  sigstoreKeys").unwrap().0.to_owned();
    insta::assert_snapshot!(said(&format!("{head}  remote: {{root: x, mirror: 'https://tuf.example'}}\n")), @r"
own.yaml:6: spec.remote: is not supported: a policy file brings its keys along; expected sigstoreKeys
hint: take the trusted_root.json out of that TUF repository, and give it to pratique trust-root import, or to policy.trust_root in the configuration
");
    insta::assert_snapshot!(said(&format!("{head}  repository: {{root: x, mirrorFS: x}}\n")), @r"
own.yaml:6: spec.repository: is not supported: a policy file brings its keys along; expected sigstoreKeys
hint: take the trusted_root.json out of that TUF repository, and give it to pratique trust-root import, or to policy.trust_root in the configuration
");
    insta::assert_snapshot!(said(&whole().replace("spec:", "spec:\n  remote: {root: x}")), @r"
own.yaml:6: spec.remote: is not supported: a policy file brings its keys along; expected sigstoreKeys
hint: take the trusted_root.json out of that TUF repository, and give it to pratique trust-root import, or to policy.trust_root in the configuration
");
    insta::assert_snapshot!(said(head.trim_end_matches("spec:\n")), @r"
own.yaml:1: spec: is missing
hint: write spec: with sigstoreKeys: below it
");
}

#[test]
fn the_envelope_of_a_trust_root_is_checked() {
    insta::assert_snapshot!(said(&whole().replace("v1alpha1", "v1beta1")), @r#"
own.yaml:1: apiVersion: is "policy.sigstore.dev/v1beta1"; expected policy.sigstore.dev/v1alpha1
hint: there is no other version of TrustRoot
own.yaml:32: spec.authorities[0].keyless.trustRootRef: is "own"; there is no TrustRoot document in the policy files
hint: write a TrustRoot document with that name and sigstoreKeys into a policy file, or leave trustRootRef out and set policy.trust_root in the configuration
"#);
    let text = whole().replace(
        "  name: own",
        "  name: own\n  annotations: {pratique.dev/max-age: 1d}\n  labels: {pratique.dev/x: y}\n  namespace: a",
    );
    insta::assert_snapshot!(said(&text), @r#"
own.yaml:5: metadata.annotations["pratique.dev/max-age"]: is an annotation of a TrustRoot, which asks for nothing
hint: write it as an annotation of a ClusterImagePolicy, or take it out
own.yaml:6: metadata.labels["pratique.dev/x"]: is a label, which asks for nothing
hint: write it as an annotation of a ClusterImagePolicy, or take it out
own.yaml:7: metadata.namespace: is there; such a document has no namespace
hint: take it out
"#);
    let twice = together(&[&whole(), &whole(), &with_glob("cgr.dev/**")]);
    insta::assert_snapshot!(flaws(&twice), @r#"
own.yaml:24: metadata.name: "own" is the name of the TrustRoot at own.yaml:1 already
hint: give each TrustRoot a name of its own
"#);
    insta::assert_snapshot!(flaws(&whole()), @r"
own.yaml: holds no policy, nor does any other file; expected at least one ClusterImagePolicy document
hint: write a policy beside the TrustRoot: by itself it admits nothing
");
}

#[test]
fn every_entry_of_every_list_is_read() {
    // The controller hears of the last entry's flaws only.
    let (first, rest) = (whole(), whole());
    let list = rest.split_once("    tLogs:\n").unwrap().1.split_once("    ctLogs:").unwrap().0.to_owned();
    let flawed = first.replacen(&list, &format!("      - baseURL: x\n{list}"), 1);
    insta::assert_snapshot!(said(&flawed), @r"
own.yaml:12: spec.sigstoreKeys.tLogs[0].hashAlgorithm: is missing
hint: write hashAlgorithm: sha256
own.yaml:12: spec.sigstoreKeys.tLogs[0].publicKey: is missing
hint: write what base64 -w0 prints of the PEM file, as the controller reads it
");
    let twice = first.replacen(&list, &list.repeat(2), 1);
    insta::assert_snapshot!(said(&twice), @r"
own.yaml:11: spec.sigstoreKeys.tLogs: has one key twice, as entries 0 and 1
hint: keep one of the two: a log is known by its key
");
}

#[test]
fn a_log_is_one_key_that_can_be_used() {
    let pem = |text: &str| {
        let root = whole();
        said(&root.replacen(value(&root, "publicKey"), &STANDARD.encode(text), 1))
    };
    let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    insta::assert_snapshot!(pem(ed25519), @r"
own.yaml:14: spec.sigstoreKeys.tLogs[0].publicKey: is no ECDSA key; expected that of a Rekor log
hint: the controller takes ECDSA keys only, too; set policy.trust_root in the configuration to the trusted_root.json of that Sigstore
");
    insta::assert_snapshot!(pem(&PUBLIC_KEY.repeat(2)), @r"
own.yaml:14: spec.sigstoreKeys.tLogs[0].publicKey: holds 2 PEM blocks; expected one PUBLIC KEY
hint: another key is another entry of the list
");
    insta::assert_snapshot!(pem(&PUBLIC_KEY.replace("PUBLIC", "PRIVATE")), @r#"
own.yaml:14: spec.sigstoreKeys.tLogs[0].publicKey: is a PEM block "PRIVATE KEY"; expected PUBLIC KEY
hint: openssl pkey -pubin -pubout prints a public key so
"#);
    insta::assert_snapshot!(pem(&PUBLIC_KEY.replace("3EKhtvosstEH7xzWonFOB3eo", "")), @r"
own.yaml:14: spec.sigstoreKeys.tLogs[0].publicKey: is a key that cannot be used: ASN.1 DER message is incomplete: expected 91, actual 73 at DER byte 2
hint: ECDSA on P-256 and P-384 can be used
");
    insta::assert_snapshot!(pem("text"), @r"
own.yaml:14: spec.sigstoreKeys.tLogs[0].publicKey: holds something else than PEM blocks
hint: write what base64 -w0 prints of the PEM file, as the controller reads it
");
    insta::assert_snapshot!(said(&whole().replacen("sha-256", "md5", 1)), @r#"
own.yaml:13: spec.sigstoreKeys.tLogs[0].hashAlgorithm: is "md5"; expected sha256, sha384 or sha512
hint: write hashAlgorithm: sha256, by which Sigstore's logs hash
"#);
    let root = whole();
    insta::assert_snapshot!(said(&root.replacen(value(&root, "publicKey"), "'-----BEGIN PUBLIC KEY-----'", 1)), @r"
own.yaml:14: spec.sigstoreKeys.tLogs[0].publicKey: is PEM as it is; expected a PEM text in base64
hint: write what base64 -w0 prints of the PEM file, as the controller reads it
");
    insta::assert_snapshot!(said(&root.replacen(value(&root, "publicKey"), "'*'", 1)), @r"
own.yaml:14: spec.sigstoreKeys.tLogs[0].publicKey: is no base64 of a text; expected a PEM text in base64
hint: write what base64 -w0 prints of the PEM file, as the controller reads it
");
    for hash in ["sha256", "SHA-256", "sha384", "sha-512"] {
        assert!(load(&with_root(&whole().replace("sha-256", hash))).is_ok(), "{hash} was refused");
    }
}

#[test]
fn a_chain_goes_from_leaf_to_root() {
    let chain = certificates();
    let text = |certificates: &[&str]| said(&with_chain(&whole(), &certificates.concat()));
    // The public-good root that is listed first is its own and only one.
    let stamps = value(whole().split_once("timestampAuthorities:").unwrap().1, "certChain").to_owned();
    let stamps = String::from_utf8(STANDARD.decode(stamps).unwrap()).unwrap();
    let stamps: Vec<_> = stamps.split_inclusive("-----END CERTIFICATE-----\n").collect();
    assert_eq!((chain.len(), stamps.len()), (1, 2));
    insta::assert_snapshot!(text(&[stamps[0]]), @r#"
own.yaml:10: spec.sigstoreKeys.certificateAuthorities[0].certChain: does not end in a root: certificate 1 is issued by "CN=sigstore-tsa-selfsigned,O=sigstore.dev"
hint: write one chain, leaf first, root last; another chain is another entry of the list
"#);
    insta::assert_snapshot!(text(&[&chain[0], stamps[1]]), @r#"
own.yaml:10: spec.sigstoreKeys.certificateAuthorities[0].certChain: is in disorder: certificate 1 is issued by "CN=sigstore,O=sigstore.dev", not by the next
hint: write one chain, leaf first, root last; another chain is another entry of the list
"#);
    insta::assert_snapshot!(text(&[stamps[0], stamps[1]]), @r"
own.yaml:10: spec.sigstoreKeys.certificateAuthorities[0].certChain: holds a certificate (number 1) that is no CA
hint: keep the certificates that issue others
");
    insta::assert_snapshot!(text(&["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]), @r"
own.yaml:10: spec.sigstoreKeys.certificateAuthorities[0].certChain: holds a certificate (number 1) that cannot be read: unknown/unsupported ASN.1 DER tag: 0x00
hint: write what base64 -w0 prints of the PEM file, as the controller reads it
");
    insta::assert_snapshot!(text(&[PUBLIC_KEY]), @r#"
own.yaml:10: spec.sigstoreKeys.certificateAuthorities[0].certChain: holds a PEM block "PUBLIC KEY"; expected CERTIFICATE
hint: only certificates belong there: no keys
"#);
    insta::assert_snapshot!(text(&[]), @r"
own.yaml:10: spec.sigstoreKeys.certificateAuthorities[0].certChain: is empty; expected text
hint: leave the field out, or give it a value in quotes
");
    let root = trust_root("own", &["timestampAuthorities"]);
    insta::assert_snapshot!(flaws(&together(&[&with_glob("cgr.dev/**"), &with_chain(&root, stamps[1])])), @r"
own.yaml:20: spec.sigstoreKeys.timestampAuthorities[0].certChain: begins with a CA; expected the timestamp authority's own certificate
hint: write the certificate that signs timestamps first: it is not taken from the timestamps
");
}

#[test]
fn an_authority_says_who_it_is() {
    let flawed = whole().replacen("{organization: o, commonName: c}", "{organization: o}", 1).replacen(
        "        uri: https://authority.example\n",
        "",
        1,
    );
    insta::assert_snapshot!(said(&flawed), @r"
own.yaml:8: spec.sigstoreKeys.certificateAuthorities[0].subject.commonName: is missing
hint: write it, as the controller asks for it too
own.yaml:8: spec.sigstoreKeys.certificateAuthorities[0].uri: is missing
hint: write it, as the controller asks for it too
");
}

#[test]
fn a_flawed_trust_root_is_told_once_and_not_at_each_reference() {
    let text = with_root(&whole().replacen("sha-256", "md5", 1));
    assert_eq!(load(&text).unwrap_err().iter().count(), 1, "{}", flaws(&text));
}
