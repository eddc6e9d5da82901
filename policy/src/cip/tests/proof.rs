//! What a signature must rest on, and whose word counts.

use super::*;
use crate::authority::{Proof, RootRef};

fn loaded(authority: &str, custom_trust_root: bool) -> Result<Loaded, LoadErrors> {
    let text =
        together(&[&with_authority(authority), &trust_root("own", &ALL_LISTS), &trust_root("other", &ALL_LISTS)]);
    load_as(&[&text], custom_trust_root)
}

fn proof(authority: &str) -> String {
    let loaded = loaded(authority, false).unwrap_or_else(|errors| panic!("{authority}\n{errors}"));
    let Proof { log, timestamp, trust } = loaded.set.policies()[0].authorities()[0].proof.clone();
    let name = |root: &RootRef| match root {
        RootRef::Configured => "-".to_owned(),
        RootRef::Named(name) => name.clone(),
    };
    let mut wanted = Vec::new();
    wanted.extend(log.then_some("log"));
    wanted.extend(timestamp.then_some("timestamp"));
    format!("{}; {} {} {}", wanted.join("+"), name(&trust.ca), name(&trust.log), name(&trust.timestamp))
}

#[test]
fn each_combination_asks_for_what_it_says() {
    let key = format!("key: {{data: {PUBLIC_KEY:?}}}\n");
    let keyless = format!("{KEYLESS}\n");
    let rooted = "keyless: {trustRootRef: own, url: 'https://ca.example', identities: [{issuer: i, subject: s}]}\n";
    let public = "ctlog: {url: https://rekor.sigstore.dev}";
    let stamp = "rfc3161timestamp: {trustRootRef: other}";
    let table = [
        (key.clone(), "; - - -"),
        (format!("{key}{public}"), "log; - - -"),
        (format!("{key}ctlog: {{trustRootRef: own}}"), "log; - own -"),
        (format!("{key}ctlog: {{trustRootRef: own, url: 'https://log.example'}}"), "log; - own -"),
        (format!("{key}{stamp}"), "timestamp; - - other"),
        (format!("{key}{stamp}\n{public}"), "log+timestamp; - - other"),
        (keyless.clone(), "log; - - -"),
        (format!("{keyless}{public}"), "log; - - -"),
        (format!("{keyless}ctlog: {{trustRootRef: own}}"), "log; - own -"),
        (format!("{keyless}{stamp}"), "timestamp; - - other"),
        (format!("{keyless}{stamp}\n{public}"), "log+timestamp; - - other"),
        (format!("{rooted}{public}"), "log; own - own"),
        (format!("{rooted}ctlog: {{trustRootRef: own}}"), "log; own own own"),
        (format!("{rooted}ctlog: {{trustRootRef: other}}"), "log; own other own"),
        (format!("{rooted}{stamp}"), "timestamp; own own other"),
        (format!("{rooted}{stamp}\nctlog: {{trustRootRef: own}}"), "log+timestamp; own own other"),
        ("static: {action: fail}".to_owned(), "; - - -"),
    ];
    for (authority, expected) in table {
        assert_eq!(proof(&authority), expected, "{authority}");
    }
}

#[test]
fn a_judge_can_be_made_of_named_trust_roots() {
    let rooted = "keyless: {trustRootRef: own, identities: [{issuer: i, subject: s}]}\nctlog: {trustRootRef: other}";
    let loaded = loaded(rooted, false).unwrap_or_else(|errors| panic!("{errors}"));
    let ttl = std::time::Duration::from_secs(1);
    let lifetimes =
        crate::VerdictLifetimes { absent_ttl: ttl, refused_ttl: ttl, clock_ttl: ttl, trust_root_ends: None };
    let bounds = crate::RegoBounds { timeout: ttl, input_bytes_max: 1 };
    assert!(crate::Judge::new(loaded.set, &TrustRoot::public_good(), lifetimes, bounds).is_ok());
}

#[test]
fn a_certificate_without_a_signed_time_is_not_asked_for() {
    let rooted = "keyless: {trustRootRef: own, identities: [{issuer: i, subject: s}]}";
    insta::assert_snapshot!(loaded(rooted, false).unwrap_err(), @r"
own.yaml:9: spec.authorities[0].keyless.trustRootRef: stands without ctlog and rfc3161timestamp, by which the controller would ask for no signed time
hint: write ctlog with the trustRootRef of its log beside keyless, or rfc3161timestamp with that of its timestamp authority
");
    assert!(loaded(rooted, true).is_err(), "the operator's own trust root makes no difference");
}

#[test]
fn a_timestamp_names_its_trust_root() {
    insta::assert_snapshot!(flaws(&with_authority(&format!("{KEYLESS}\nrfc3161timestamp: {{}}"))), @r"
own.yaml:11: spec.authorities[0].rfc3161timestamp: is empty, by which the controller would ask for no timestamp; expected a mapping with trustRootRef
hint: write trustRootRef: with the name of a TrustRoot document that has timestampAuthorities
");
    insta::assert_snapshot!(flaws(&with_authority(&format!("{KEYLESS}\nrfc3161timestamp: {{url: x}}"))), @r"
own.yaml:11: spec.authorities[0].rfc3161timestamp.url: is no known field; expected trustRootRef
hint: correct its name, or take it out: nothing is ignored in silence
own.yaml:11: spec.authorities[0].rfc3161timestamp.trustRootRef: is missing
hint: write trustRootRef: with the name of a TrustRoot document that has timestampAuthorities
");
    for bad in ["", "~", "text", "[]", "{trustRootRef: ''}", "{trustRootRef: 7}"] {
        assert!(load(&with_authority(&format!("{KEYLESS}\nrfc3161timestamp: {bad}"))).is_err(), "{bad} was taken");
    }
}

#[test]
fn a_trust_root_that_is_not_there_is_told_with_those_that_are() {
    let authority = "keyless: {trustRootRef: Own, identities: [{issuer: i, subject: s}]}\nctlog: {trustRootRef: on}\nrfc3161timestamp: {trustRootRef: o}";
    insta::assert_snapshot!(loaded(authority, false).unwrap_err(), @r#"
own.yaml:9: spec.authorities[0].keyless.trustRootRef: is "Own"; expected other or own
hint: write a TrustRoot document with that name and sigstoreKeys into a policy file, or leave trustRootRef out and set policy.trust_root in the configuration
own.yaml:10: spec.authorities[0].ctlog.trustRootRef: is "on"; expected other or own
hint: write a TrustRoot document with that name and sigstoreKeys into a policy file, or leave trustRootRef out and set policy.trust_root in the configuration
own.yaml:11: spec.authorities[0].rfc3161timestamp.trustRootRef: is "o"; expected other or own
hint: write a TrustRoot document with that name and sigstoreKeys into a policy file, or leave trustRootRef out and set policy.trust_root in the configuration
"#);
    insta::assert_snapshot!(flaws(&with_authority(&format!("{KEYLESS}\nctlog: {{trustRootRef: own}}"))), @r#"
own.yaml:11: spec.authorities[0].ctlog.trustRootRef: is "own"; there is no TrustRoot document in the policy files
hint: write a TrustRoot document with that name and sigstoreKeys into a policy file, or leave trustRootRef out and set policy.trust_root in the configuration
"#);
}

#[test]
fn a_trust_root_has_what_is_asked_of_it() {
    let authority = "keyless: {trustRootRef: stamps, identities: [{issuer: i, subject: s}]}\nctlog: {trustRootRef: stamps}\nrfc3161timestamp: {trustRootRef: certificates}";
    let text = together(&[
        &with_authority(authority),
        &trust_root("stamps", &["timestampAuthorities"]),
        &trust_root("certificates", &["certificateAuthorities"]),
    ]);
    insta::assert_snapshot!(flaws(&text), @r#"
own.yaml:9: spec.authorities[0].keyless.trustRootRef: is "stamps", a TrustRoot without certificateAuthorities
hint: write certificateAuthorities into its sigstoreKeys, or name another
own.yaml:9: spec.authorities[0].keyless.trustRootRef: names a TrustRoot without ctLogs, by which no certificate could be found in a certificate log
hint: write ctLogs into its sigstoreKeys; a Sigstore that has none needs insecureIgnoreSCT: true here
own.yaml:10: spec.authorities[0].ctlog.trustRootRef: is "stamps", a TrustRoot without tLogs
hint: write tLogs into its sigstoreKeys, or name another
own.yaml:11: spec.authorities[0].rfc3161timestamp.trustRootRef: is "certificates", a TrustRoot without timestampAuthorities
hint: write timestampAuthorities into its sigstoreKeys, or name another
"#);
    let ignoring = "keyless: {trustRootRef: own, insecureIgnoreSCT: true, identities: [{issuer: i, subject: s}]}\nctlog: {url: 'https://rekor.sigstore.dev'}";
    let root = trust_root("own", &["certificateAuthorities"]);
    assert!(load(&together(&[&with_authority(ignoring), &root])).is_ok());
    let asking = ignoring.replace("insecureIgnoreSCT: true, ", "");
    insta::assert_snapshot!(flaws(&together(&[&with_authority(&asking), &root])), @r"
own.yaml:9: spec.authorities[0].keyless.trustRootRef: names a TrustRoot without ctLogs, by which no certificate could be found in a certificate log
hint: write ctLogs into its sigstoreKeys; a Sigstore that has none needs insecureIgnoreSCT: true here
");
}

#[test]
fn what_the_controller_would_not_ask_for_is_noted() {
    let notes = |text: &str| load(text).unwrap_or_else(|errors| panic!("{errors}")).notes.join("\n");
    let root = trust_root("own", &ALL_LISTS);
    let beta = together(&[&by_key("ctlog: {trustRootRef: own}"), &root]);
    insta::assert_snapshot!(notes(&beta), @"own.yaml:10: spec.authorities[0].ctlog: has no url: the log is asked for here; the controller drops such a ctlog in v1beta1");
    assert_eq!(notes(&beta.replace("v1beta1", "v1alpha1")), "", "v1alpha1 keeps it");
    let both =
        together(&[&by_key("ctlog: {url: https://rekor.sigstore.dev}\nrfc3161timestamp: {trustRootRef: own}"), &root]);
    insta::assert_snapshot!(notes(&both), @"own.yaml:11: spec.authorities[0].rfc3161timestamp: beside ctlog: log and timestamp are both asked for here; the controller then skips the log");
    insta::assert_snapshot!(notes(&together(&[&with_glob("cgr.dev/**"), &root])), @r#"own.yaml:11: metadata.name: no policy refers to TrustRoot "own""#);
}

#[test]
fn an_address_of_ones_own_is_vouched_for_by_the_trust_root_beside_it_only() {
    let authority = "keyless: {url: 'https://ca.example', identities: [{issuer: i, subject: s}]}\nctlog: {url: 'https://log.example', trustRootRef: own}";
    insta::assert_snapshot!(loaded(authority, false).unwrap_err(), @r#"
own.yaml:9: spec.authorities[0].keyless.url: is "https://ca.example", which the public-good trust root does not vouch for; expected https://fulcio.sigstore.dev
hint: name the TrustRoot document of that Sigstore by trustRootRef beside it, or set policy.trust_root in the configuration to its trusted_root.json
"#);
    let authority = "keyless: {url: 'https://ca.example', trustRootRef: own, identities: [{issuer: i, subject: s}]}\nctlog: {url: 'https://log.example'}";
    insta::assert_snapshot!(loaded(authority, false).unwrap_err(), @r#"
own.yaml:10: spec.authorities[0].ctlog.url: is "https://log.example", which the public-good trust root does not vouch for; expected https://rekor.sigstore.dev
hint: name the TrustRoot document of that Sigstore by trustRootRef beside it, or set policy.trust_root in the configuration to its trusted_root.json
"#);
    assert!(loaded(authority, true).is_ok());
}
