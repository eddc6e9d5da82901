//! What loads, and what it means.

use super::*;
use crate::identity::Pattern;

#[test]
fn the_built_in_policy_names_chainguards_public_identity() {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: false };
    let loaded = PolicySet::built_in(&context).unwrap();
    assert_eq!(loaded.notes, Vec::<String>::new(), "nothing in it is weak or surprising");
    let [policy] = loaded.set.policies() else { panic!("one policy") };
    assert_eq!((policy.name(), policy.mode()), ("chainguard-public", Mode::Enforce));
    let [authority] = policy.authorities() else { panic!("one authority") };
    let AuthorityKind::Keyless(keyless) = &authority.kind else { panic!("keyless") };
    let [identity] = keyless.identities.as_slice() else { panic!("one identity") };
    assert!(!keyless.ignore_sct);
    assert_eq!(identity.issuer, Pattern::Exact("https://token.actions.githubusercontent.com".to_owned()));
    assert_eq!(
        identity.subject,
        Pattern::Exact(
            "https://github.com/chainguard-images/images/.github/workflows/release.yaml@refs/heads/main".to_owned()
        )
    );
    let matches = |repository: &str| loaded.set.may_match_repository(&repository.parse().unwrap());
    assert!(matches("cgr.dev/chainguard/nginx"));
    assert!(!matches("cgr.dev/chainguard-private/nginx"));
    assert!(!matches("docker.io/chainguard/nginx"));
}

#[test]
fn both_versions_and_every_kind_of_authority_load() {
    let text = format!(
        "# leading comment
---
apiVersion: policy.sigstore.dev/v1alpha1
kind: ClusterImagePolicy
metadata:
  name: every-kind
  creationTimestamp: null
  labels: {{team: base}}
  annotations:
    example.com/owner: base
spec:
  mode: warn
  images:
    - glob: cgr.dev/chainguard/**
    - glob: ghcr.io/org/*:*
  authorities:
    - keyless:
        url: https://fulcio.sigstore.dev
        insecureIgnoreSCT: true
        identities:
          - issuer: https://issuer.example
            subjectRegExp: ^https://github\\.com/org/.*$
          - issuerRegExp: ^https://.*\\.example$
            subject: dev@example.com
      ctlog:
        url: https://rekor.sigstore.dev
      signatureFormat: bundle
    - name: by-key
      key:
        hashAlgorithm: ' SHA256 '
        data: |
{}
    - name: last
      static:
        action: fail
        message: not here
---
apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: second
spec:
  images: [glob: '**']
  authorities: [static: {{action: pass}}]
",
        PUBLIC_KEY.trim_end().replace('\n', "\n          ").replacen("-----", "          -----", 1)
    );
    let set = load(&text).unwrap_or_else(|errors| panic!("{errors}")).set;
    let [first, second] = set.policies() else { panic!("two policies") };
    assert_eq!(
        (first.name(), first.mode(), first.place().to_string().as_str()),
        ("every-kind", Mode::Warn, "own.yaml:3")
    );
    let names: Vec<_> = first.authorities().iter().map(|authority| authority.name.as_str()).collect();
    assert_eq!(names, ["authority-0", "by-key", "last"]);
    let [keyless, key, fail] = first.authorities() else { panic!("three authorities") };
    let AuthorityKind::Keyless(keyless) = &keyless.kind else { panic!("keyless") };
    assert!(keyless.ignore_sct);
    assert!(keyless.identities[0].matches("https://issuer.example", "https://github.com/org/x"));
    assert!(!keyless.identities[0].matches("https://issuer.example.evil", "https://github.com/org/x"));
    assert!(!keyless.identities[0].matches("https://issuer.example", "dev@example.com"), "halves of two identities");
    assert!(keyless.identities[1].matches("https://issuer.example", "dev@example.com"));
    let AuthorityKind::Key(key) = &key.kind else { panic!("key") };
    assert_eq!((key.pem.as_str(), key.hash), (PUBLIC_KEY, Some(HashAlgorithm::Sha256)));
    assert!(!first.authorities()[1].proof.log);
    assert_eq!(fail.kind, AuthorityKind::Static(StaticAction::Fail { message: Some("not here".to_owned()) }));
    assert_eq!((second.name(), second.mode()), ("second", Mode::Enforce));
}

#[test]
fn a_trust_root_of_ones_own_vouches_for_urls_of_ones_own() {
    let text = with_authority(
        "keyless:\n  url: https://ca.example\n  identities: [{issuer: i, subject: s}]\nctlog: {url: https://log.example}",
    );
    assert!(load_as(&[&text], true).is_ok());
    assert!(load_as(&[&text], false).is_err());
}

#[test]
fn matching_policies_are_found_by_the_canonical_name_and_digest() {
    let first = with_glob("cgr.dev/chainguard/**");
    let second = with_glob("'**/nginx@*'").replace("name: own", "name: nginx");
    let set = load_as(&[&first, &second], false).unwrap().set;
    let digest = oci::Digest::sha256(b"x");
    let names = |repository: &str| {
        let matching = set.matching(&repository.parse().unwrap(), &digest);
        matching.iter().map(|policy| policy.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("cgr.dev/chainguard/nginx"), ["own", "nginx"]);
    assert_eq!(names("cgr.dev/chainguard/go"), ["own"]);
    assert_eq!(names("docker.io/nginx"), ["nginx"]);
    assert!(names("ghcr.io/org/app").is_empty());
}

#[test]
fn anchors_and_aliases_are_read() {
    let text = with_authority(
        "keyless:\n  identities:\n    - &who {issuer: i, subject: s}\n    - {issuer: j, subject: s}\n- name: again\n  keyless: {identities: [*who]}",
    )
    .replace("      - name: again", "    - name: again")
    .replace("        keyless: {id", "      keyless: {id");
    let set = load(&text).unwrap_or_else(|errors| panic!("{errors}")).set;
    assert_eq!(set.policies()[0].authorities().len(), 2);
}

#[test]
fn what_weakens_and_what_the_controller_reads_otherwise_is_noted() {
    let text = with_identity("issuer: i\nsubjectRegExp: https://github.com/org/")
        .replace("identities:", "insecureIgnoreSCT: true\n        identities:")
        .replace("spec:", "spec:\n  mode: warn")
        .replace("cgr.dev/chainguard/**", "cgr.dev**")
        + "    - static: {action: pass}\n";
    insta::assert_snapshot!(notes(&text), @r#"
weakened: own.yaml:6: spec.mode: warn: images that fail this policy are served, with a warning
own.yaml:8: spec.images[0].glob: "cgr.dev**" matches images of every host whose name begins with "cgr.dev", strangers' too
weakened: own.yaml:11: spec.authorities[0].keyless.insecureIgnoreSCT: true: certificates need not have been published in a certificate log
own.yaml:14: spec.authorities[0].keyless.identities[0].subjectRegExp: "https://github.com/org/" must match from first to last character here; the controller also accepts what holds it
weakened: own.yaml:15: spec.authorities[1].static.action: pass: images that this policy matches are served unverified by it
"#);
    insta::assert_snapshot!(notes(&with_glob("quay.io/org/**")), @r#"own.yaml:7: spec.images[0].glob: "quay.io/org/**" matches no image of a configured upstream"#);
}

#[test]
fn an_anchored_pattern_needs_no_note() {
    assert_eq!(notes(&with_identity("issuer: i\nsubjectRegExp: ^https://github.com/org/.*@refs/heads/main$")), "");
}
