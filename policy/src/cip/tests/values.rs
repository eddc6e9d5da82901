//! Values that are missing, doubled, empty or out of range.

use proptest::prelude::*;

use super::*;

#[test]
fn unknown_fields_are_refused_at_every_level() {
    let text = with_identity("issuer: i\nsubject: s\nsubjectRegex: x")
        .replace("kind:", "extra: 1\nkind:")
        .replace("  authorities:", "  image: x\n  authorities:")
        .replace("glob: cgr.dev/chainguard/**", "glob: cgr.dev/chainguard/**\n      tag: latest")
        .replace("    - keyless:", "    - authority: x\n      keyless:\n        rekor: x");
    insta::assert_snapshot!(flaws(&text), @r"
own.yaml:2: extra: is no known field; expected apiVersion, kind, metadata or spec
hint: correct its name, or take it out: nothing is ignored in silence
own.yaml:9: spec.images[0].tag: is no known field; expected glob
hint: correct its name, or take it out: nothing is ignored in silence
own.yaml:10: spec.image: is no known field; expected images, mode, authorities or policy
hint: correct its name, or take it out: nothing is ignored in silence
own.yaml:12: spec.authorities[0].authority: is no known field; expected name, key, keyless, static, attestations, source, ctlog, rfc3161timestamp or signatureFormat
hint: correct its name, or take it out: nothing is ignored in silence
own.yaml:14: spec.authorities[0].keyless.rekor: is no known field; expected url, identities, trustRootRef or insecureIgnoreSCT
hint: correct its name, or take it out: nothing is ignored in silence
own.yaml:18: spec.authorities[0].keyless.identities[0].subjectRegex: is no known field; expected issuer, issuerRegExp, subject or subjectRegExp
hint: correct its name, or take it out: nothing is ignored in silence
");
}

#[test]
fn fields_in_the_wrong_case_are_refused() {
    let text = with_identity("issuer: i\nsubjectRegexp: s")
        .replace("  images:", "  Match: []\n  IMAGES:")
        .replace("keyless:", "KeyLess:");
    insta::assert_snapshot!(flaws(&text), @r#"
own.yaml:5: spec.images: is missing
hint: list at least one glob, as - glob: cgr.dev/chainguard/**
own.yaml:6: spec.Match: is not spelled as the field is; expected "match"
hint: upper and lower case matter here, although the controller looks past them
own.yaml:7: spec.IMAGES: is not spelled as the field is; expected "images"
hint: upper and lower case matter here, although the controller looks past them
own.yaml:10: spec.authorities[0].KeyLess: is not spelled as the field is; expected "keyless"
hint: upper and lower case matter here, although the controller looks past them
own.yaml:10: spec.authorities[0]: has none of key, keyless or static; expected exactly one
hint: write one of them
"#);
    insta::assert_snapshot!(flaws(&with_identity("issuer: i\nsubject: s\nsubjectRegexp: s")), @r#"
own.yaml:13: spec.authorities[0].keyless.identities[0].subjectRegexp: is not spelled as the field is; expected "subjectRegExp"
hint: upper and lower case matter here, although the controller looks past them
"#);
}

#[test]
fn an_authority_is_exactly_one_of_three() {
    insta::assert_snapshot!(flaws(&with_authority("name: a")), @r"
own.yaml:9: spec.authorities[0]: has none of key, keyless or static; expected exactly one
hint: write one of them
");
    insta::assert_snapshot!(flaws(&with_authority("rfc3161timestamp: {trustRootRef: own}")), @r#"
own.yaml:9: spec.authorities[0].rfc3161timestamp.trustRootRef: is "own"; there is no TrustRoot document in the policy files
hint: write a TrustRoot document with that name and sigstoreKeys into a policy file, or leave trustRootRef out and set policy.trust_root in the configuration
own.yaml:9: spec.authorities[0]: has none of key, keyless or static; expected exactly one
hint: write one of them
"#);
    let said = flaws(&with_authority(
        "key: {data: x}\nkeyless: {identities: [{issuer: i, subject: s}]}\nstatic: {action: pass}",
    ));
    insta::assert_snapshot!(said, @r"
own.yaml:9: spec.authorities[0]: has key and keyless and static; expected exactly one of key, keyless or static
hint: several that shall each suffice are several entries of the list
");
    insta::assert_snapshot!(flaws(&with_authority("key: {}")), @r"
own.yaml:9: spec.authorities[0].key: is empty; expected a mapping with data or hashAlgorithm
hint: write its fields below it, or leave it out where it may be
");
    insta::assert_snapshot!(flaws(&with_authority("key: {hashAlgorithm: sha256}")), @r"
own.yaml:9: spec.authorities[0].key.data: is missing
hint: write the public key, in PEM
");
    assert!(load(&with_authority("key: {}\nkeyless: {}")).is_err());
    assert!(load(&with_authority("key:\nkeyless:")).is_err());
    assert!(load(&with_authority("keyless:")).is_err());
    assert!(load(&with_authority("{}")).is_err());
    assert!(load(&with_authority("text")).is_err());
}

#[test]
fn nothing_may_be_empty() {
    let good = with_glob("cgr.dev/**");
    insta::assert_snapshot!(flaws(&good.replace("    - static: {action: fail}", "    []")), @r"
own.yaml:8: spec.authorities: is an empty list; expected a list of at least one authority
hint: write its entries below it, each after a dash
");
    insta::assert_snapshot!(flaws(&good.replace("  authorities:\n    - static: {action: fail}\n", "")), @r"
own.yaml:5: spec.authorities: is missing
hint: list at least one authority: key, keyless or static
");
    insta::assert_snapshot!(flaws(&good.replace("\n    - glob: cgr.dev/**", " []").replace("- static: {action: fail}", "-")), @r"
own.yaml:6: spec.images: is an empty list; expected a list of at least one image with its glob
hint: write its entries below it, each after a dash
own.yaml:8: spec.authorities[0]: is empty; expected a mapping with name, key, keyless, static, attestations, source, ctlog, rfc3161timestamp or signatureFormat
hint: write its fields below it, or leave it out where it may be
");
    for glob in ["''", "", "~", "7", "[a]"] {
        assert!(
            flaws(&with_glob(glob)).starts_with("own.yaml:7: spec.images[0].glob: is "),
            "{glob}: {}",
            flaws(&with_glob(glob))
        );
    }
    for authority in [
        "keyless: {identities: []}",
        "keyless: {identities: {}}",
        "keyless: {identities: [{}]}",
        "keyless: {identities: ['']}",
        "keyless: {insecureIgnoreSCT: false}",
        "keyless: {url: '', identities: [{issuer: i, subject: s}]}",
        "name: ''\nstatic: {action: fail}",
        "name:\nstatic: {action: fail}",
        "signatureFormat: ''\nstatic: {action: fail}",
        "static: {}",
        "static: {message: x}",
        "static: {action: ''}",
        "static: {action: fail, message: ''}",
        "key: {data: ''}",
        "key: {data: '  '}",
        "key: {data: ~}",
    ] {
        let text = with_authority(authority);
        assert!(load(&text).is_err(), "{authority} was taken");
    }
}

#[test]
fn the_mode_is_one_of_two() {
    let with_mode = |mode: &str| with_glob("cgr.dev/**").replace("spec:", &format!("spec:\n  mode: {mode}"));
    insta::assert_snapshot!(flaws(&with_mode("garbage")), @r#"
own.yaml:6: spec.mode: is "garbage"; expected enforce or warn
hint: leave it out for enforce
"#);
    for mode in ["Enforce", "WARN", "''", "~", "true", "off", "[warn]"] {
        assert!(load(&with_mode(mode)).is_err(), "{mode} was taken");
    }
}

#[test]
fn an_identity_has_one_issuer_and_one_subject() {
    insta::assert_snapshot!(flaws(&with_identity("subject: s")), @r"
own.yaml:11: spec.authorities[0].keyless.identities[0]: has none of issuer or issuerRegExp; expected exactly one
hint: write one of them
");
    insta::assert_snapshot!(flaws(&with_identity("issuer: i")), @r"
own.yaml:11: spec.authorities[0].keyless.identities[0]: has none of subject or subjectRegExp; expected exactly one
hint: write one of them
");
    insta::assert_snapshot!(flaws(&with_identity("issuer: i\nissuerRegExp: i\nsubject: s\nsubjectRegExp: s")), @r"
own.yaml:11: spec.authorities[0].keyless.identities[0]: has issuer and issuerRegExp; expected exactly one of issuer or issuerRegExp
hint: several that shall each suffice are several entries of the list
own.yaml:11: spec.authorities[0].keyless.identities[0]: has subject and subjectRegExp; expected exactly one of subject or subjectRegExp
hint: several that shall each suffice are several entries of the list
");
    insta::assert_snapshot!(flaws(&with_authority("keyless: {insecureIgnoreSCT: 'true'}")), @r#"
own.yaml:9: spec.authorities[0].keyless.insecureIgnoreSCT: is "true"; expected true or false
hint: write true or false without quotes, or leave the field out
own.yaml:9: spec.authorities[0].keyless.identities: is missing
hint: list at least one identity: issuer and subject
"#);
    let warned = with_identity("subject: s").replace("spec:", "spec:\n  mode: warn");
    assert!(load(&warned).is_err(), "mode warn helps no policy that is incomplete");
    let warned = with_authority("keyless: {url: https://fulcio.sigstore.dev}").replace("spec:", "spec:\n  mode: warn");
    assert!(load(&warned).is_err(), "nor one without identities");
    for identity in [
        "issuer: ''\nsubject: s",
        "issuer: i\nsubject: ''",
        "issuer: i\nsubjectRegExp: ''",
        "issuer: 1\nsubject: s",
        "issuer: i\nsubject: true",
    ] {
        assert!(load(&with_identity(identity)).is_err(), "{identity} was taken");
    }
}

#[test]
fn patterns_that_do_not_parse_are_refused() {
    insta::assert_snapshot!(flaws(&with_identity("issuerRegExp: '****'\nsubjectRegExp: ^https://(github.com/$")), @r#"
own.yaml:11: spec.authorities[0].keyless.identities[0].issuerRegExp: does not parse: repetition operator missing expression, in "****"
hint: it is read as RE2, as the controller does
own.yaml:12: spec.authorities[0].keyless.identities[0].subjectRegExp: does not parse: unclosed group, in "^https://(github.com/$"
hint: it is read as RE2, as the controller does
"#);
    insta::assert_snapshot!(flaws(&with_identity("issuer: i\nsubjectRegExp: '^\\pL+@example.com$'")), @r#"
own.yaml:12: spec.authorities[0].keyless.identities[0].subjectRegExp: "\pL" does not mean the same to the controller (RE2), in "^\pL+@example.com$"
hint: write the characters themselves, as [a-z]
"#);
    assert!(flaws(&with_identity("issuer: i\nsubjectRegExp: '((a{1000}){1000}){1000}'")).contains("too large"));
}

#[test]
fn globs_that_match_nothing_are_refused_with_the_glob_to_write() {
    insta::assert_snapshot!(flaws(&with_glob("docker.io/**")), @r#"
own.yaml:7: spec.images[0].glob: "docker.io/**" can match no image: what is matched is <upstream>/<path>@<digest>, never a tag
hint: write index.docker.io/**
"#);
    insta::assert_snapshot!(flaws(&with_glob("ghcr.io/org/app:v1")), @r#"
own.yaml:7: spec.images[0].glob: "ghcr.io/org/app:v1" can match no image: what is matched is <upstream>/<path>@<digest>, never a tag
hint: write ghcr.io/org/app@*
"#);
    insta::assert_snapshot!(flaws(&with_glob("nginx")), @r#"
own.yaml:7: spec.images[0].glob: "nginx" can match no image: what is matched is <upstream>/<path>@<digest>, never a tag
hint: write index.docker.io/library/nginx@*
"#);
    insta::assert_snapshot!(flaws(&with_glob("cgr.dev//nginx")), @r#"
own.yaml:7: spec.images[0].glob: "cgr.dev//nginx" can match no image: what is matched is <upstream>/<path>@<digest>, never a tag
hint: a glob reads like cgr.dev/chainguard/** or ghcr.io/org/app@*
"#);
    insta::assert_snapshot!(flaws(&with_glob("'['")), @r#"
own.yaml:7: spec.images[0].glob: "[" holds '['; expected letters, digits and - _ : / * . @
hint: a glob reads like cgr.dev/chainguard/** or ghcr.io/org/app@*
"#);
}

#[test]
fn names_of_authorities_are_unique_in_a_policy() {
    let text = with_authority("name: authority-1\nstatic: {action: fail}") + "    - static: {action: fail}\n";
    insta::assert_snapshot!(flaws(&text), @r#"
own.yaml:11: spec.authorities[1]: is named "authority-1", as another of this policy
hint: give each authority a name of its own: refusals name them
"#);
    let control = with_authority("name: \"a\\nb\"\nstatic: {action: fail}");
    insta::assert_snapshot!(flaws(&control), @r#"
own.yaml:9: spec.authorities[0].name: is "a\nb"; expected one line of 253 bytes at most
hint: choose a name as it shall appear in refusals
"#);
}

#[test]
fn a_signature_format_is_known_or_refused() {
    insta::assert_snapshot!(flaws(&with_authority("static: {action: fail}\nsignatureFormat: Bundle")), @r#"
own.yaml:10: spec.authorities[0].signatureFormat: is "Bundle"; expected legacy or bundle
hint: leave it out: either layout satisfies any authority
"#);
    for format in ["legacy", "bundle"] {
        let text = with_authority(&format!("static: {{action: fail}}\nsignatureFormat: {format}"));
        assert!(load(&text).is_ok(), "{format} was refused");
    }
}

#[test]
fn static_stands_alone() {
    insta::assert_snapshot!(flaws(&with_authority("static: {action: pass, message: x}\nctlog: {url: https://rekor.sigstore.dev}")), @r"
own.yaml:9: spec.authorities[0].static.message: stands beside action: pass; expected it with fail only
hint: take it out: nobody would see it
own.yaml:10: spec.authorities[0].ctlog: stands beside static; expected one of the two
hint: static asks nobody: take ctlog out
");
    insta::assert_snapshot!(flaws(&with_authority("static: {action: Pass}")), @r#"
own.yaml:9: spec.authorities[0].static.action: is "Pass"; expected pass or fail
hint: upper and lower case matter
"#);
    assert!(load(&with_authority("static: {action: fail}\nattestations: [{name: a, predicateType: b}]")).is_err());
    assert!(load(&with_authority("static: {action: fail}\nsource: [{oci: ghcr.io/a/b}]")).is_err());
}

#[test]
fn flaws_of_several_files_are_told_together_and_in_order() {
    let first = with_glob("nginx") + "    - name: a\n";
    let second = with_glob("ghcr.io/a/b");
    let errors = load_as(&[&first, &second], false).unwrap_err();
    let places: Vec<_> = errors.iter().map(|error| error.place.to_string()).collect();
    assert_eq!(places, ["own.yaml:7", "own.yaml:10", "own-2.yaml:7"]);
}

/// What a fuzzer calls: no text may do worse than be refused, and what loads is never empty and always the same.
fn fuzz_policy(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let forms = |loaded: &Loaded| -> Vec<Vec<u8>> {
        loaded.set.policies().iter().map(|policy| policy.canonical_form().to_vec()).collect()
    };
    if let Ok(loaded) = load(&text) {
        assert!(!loaded.set.policies().is_empty());
        for policy in loaded.set.policies() {
            assert!(!policy.authorities().is_empty() && !policy.globs().is_empty());
        }
        assert_eq!(forms(&loaded), forms(&load(&text).unwrap()));
    }
}

#[test]
fn no_seed_does_worse_than_be_refused() {
    for seed in [
        include_str!("../../built-in.yaml"),
        include_str!("../../../../docs/examples/policies/chainguard-attestations.yaml"),
        include_str!("../../../../docs/examples/policies/image-config.yaml"),
        include_str!("../../../../docs/examples/policies/trust-root.yaml"),
        include_str!("../../../../docs/examples/policies/workflow.yaml"),
        "",
        "\u{feff}",
        "%YAML 1.2\n---\n",
        "&a *a",
        "? a\n: b",
        "!!binary aGk=",
        "a: !!float nan",
        "[1e999]",
        "- - - - - x",
        "\t",
        "\"\\ud800\"",
    ] {
        fuzz_policy(seed.as_bytes());
    }
    fuzz_policy(&[0xff, 0xfe, 0, 1]);
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text: String) {
        fuzz_policy(text.as_bytes());
    }

    #[test]
    fn no_damage_to_a_good_policy_makes_loading_panic(at in 0_usize..1400, insert in "[-:{}\\[\\]&*!|>'\"%@`#,? \na0~]{0,4}", cut in 0_usize..20) {
        for good in [
            include_str!("../../built-in.yaml"),
            include_str!("../../../../docs/examples/policies/image-config.yaml"),
            include_str!("../../../../docs/examples/policies/signatures-elsewhere.yaml"),
        ] {
            let at = at.min(good.len());
            let text = format!("{}{insert}{}", &good[..at], &good[(at + cut).min(good.len())..]);
            fuzz_policy(text.as_bytes());
        }
    }
}
