use std::time::Duration;

use super::*;
use crate::rego::{Compliance, Rego};

fn bounds() -> RegoBounds {
    RegoBounds { timeout: Duration::from_secs(5), input_bytes_max: 1 << 20 }
}

fn kind(written: &str) -> PredicateType {
    PredicateType::parse(written).unwrap().0
}

fn statement(predicate: &str) -> String {
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"x","subject":[{{"name":"a","digest":{{"sha256":"aa"}}}}],"predicate":{predicate}}}"#
    )
}

/// Whether the input equals a JSON document, by a rule that says so.
fn shown(written: &str, statement: &str, wanted: &str) {
    let input = kind(written).rego_input(statement.as_bytes(), &bounds()).unwrap();
    let rule = Rego::compile(&format!("package sigstore\nisCompliant {{ input == {wanted} }}")).unwrap();
    let now = oci::UnixTime::from_millis(0);
    let outcome = rule.evaluate(&input, &bounds(), now).unwrap().outcome;
    assert_eq!(outcome, Compliance::Compliant, "{written}: {statement} is shown as {input:?}, not as {wanted}");
}

fn predicate_shown(written: &str, predicate: &str, wanted: &str) {
    shown(written, &statement(predicate), &statement(wanted));
}

fn mismatch(written: &str, predicate: &str) -> String {
    let fault = kind(written).rego_input(statement(predicate).as_bytes(), &bounds());
    match fault {
        Err(fault @ PredicateFault::Mismatch { .. }) => fault.to_string(),
        other => panic!("{written} of {predicate}: {other:?}"),
    }
}

#[test]
fn short_names_stand_for_uris_and_are_noted() {
    for (written, uri) in SHORT_NAMES {
        let (kind, note) = PredicateType::parse(written).unwrap();
        assert!(kind.matches(uri) && !kind.matches(written), "{written}");
        assert_eq!((kind.written(), kind.uri()), (written, uri));
        assert_eq!(kind.to_string(), format!("{written} ({uri})"));
        assert!(note.unwrap().contains(uri), "{written}");
        let (full, note) = PredicateType::parse(uri).unwrap();
        assert!(full.matches(uri) && note.is_none() && full.to_string() == uri);
    }
}

#[test]
fn uris_are_compared_as_they_are_written() {
    let kind = kind("https://apko.dev/image-configuration");
    assert!(kind.matches("https://apko.dev/image-configuration"));
    for other in
        ["https://apko.dev/image-configuration/", "HTTPS://apko.dev/image-configuration", "https://apko.dev", ""]
    {
        assert!(!kind.matches(other), "{other}");
    }
    for uri in ["urn:example:x", "https://example.com/a?b=c#d", "tag:a@b,2024:c", "https://a/%20"] {
        assert!(PredicateType::parse(uri).is_ok(), "{uri}");
    }
}

#[test]
fn what_is_neither_a_uri_nor_a_short_name_is_refused() {
    for written in [
        "",
        "notsupported",
        "SPDX",
        "slsaprovenance2",
        "spdx.dev/Document",
        "/a",
        "//a/b",
        ":a",
        "https:",
        "https://",
        "https:///a",
        "1a:b",
        "ht tp://a",
        "https://a b",
        "https://a/\u{e9}",
        "https://a/<x>",
        "https://a/%2",
        "https://a/%zz",
        " spdx",
        "spdx\n",
    ] {
        let error = PredicateType::parse(written).unwrap_err();
        assert!(error.what.contains("expected a URI") && error.hint.starts_with("write "), "{written}: {error}");
    }
    assert_eq!(PredicateType::parse("SPDX-json").unwrap_err().hint, "write https://spdx.dev/Document");
    assert!(PredicateType::parse(&format!("https://{}", "a".repeat(2000))).is_err());
}

#[test]
fn a_statement_is_shown_with_its_four_members_and_its_predicate_as_it_is() {
    let given = r#"{"_type":"t","predicateType":"p","subject":[{"name":"a","digest":{"sha256":"aa"},"uri":"u"}],"extra":1,"predicate":{"a":[1,2.5,null,{"B":"c"}]}}"#;
    let wanted = r#"{"_type":"t","predicateType":"p","subject":[{"name":"a","digest":{"sha256":"aa"}}],"predicate":{"a":[1,2.5,null,{"B":"c"}]}}"#;
    for written in [
        "https://slsa.dev/provenance/v0.2",
        "https://in-toto.io/Link/v1",
        "custom",
        "spdx",
        "cyclonedx",
        "slsaprovenance02",
    ] {
        shown(written, given, wanted);
    }
    shown("custom", "{}", r#"{"_type":"","predicateType":"","subject":null,"predicate":null}"#);
    let named = r#"{"subject":[{"digest":null},{"name":"n"}],"predicate":"text"}"#;
    let wanted = r#"{"_type":"","predicateType":"","subject":[{"name":"","digest":null},{"name":"n","digest":null}],"predicate":"text"}"#;
    shown("custom", named, wanted);
}

#[test]
fn provenance_under_its_short_name_goes_through_a_fixed_shape() {
    predicate_shown("slsaprovenance", "{}", r#"{"builder":{"id":""},"buildType":"","invocation":{"configSource":{}}}"#);
    predicate_shown(
        "slsaprovenance",
        r#"{"builder":{"id":"b","version":"1"},"buildType":"t","unknown":1,"buildConfig":{"kept":{"as":"is"}},
            "invocation":{"configSource":{"uri":"u","digest":{},"entryPoint":""},"parameters":null,"environment":{"e":1}},
            "metadata":{"buildInvocationId":"i","buildStartedOn":"2024-02-29T01:02:03.450Z","completeness":{"materials":true}},
            "materials":[{"uri":"m","digest":{"sha1":"d"},"name":"n"},null]}"#,
        r#"{"builder":{"id":"b"},"buildType":"t","buildConfig":{"kept":{"as":"is"}},
            "invocation":{"configSource":{"uri":"u"},"environment":{"e":1}},
            "metadata":{"buildInvocationID":"i","buildStartedOn":"2024-02-29T01:02:03.45Z",
                "completeness":{"parameters":false,"environment":false,"materials":true},"reproducible":false},
            "materials":[{"uri":"m","digest":{"sha1":"d"}},{}]}"#,
    );
    predicate_shown(
        "slsaprovenance",
        "null",
        r#"{"builder":{"id":""},"buildType":"","invocation":{"configSource":{}}}"#,
    );
}

#[test]
fn links_and_scans_under_their_short_names_go_through_a_fixed_shape() {
    predicate_shown(
        "link",
        r#"{"name":"n","materials":{"a":{"sha256":"x"}},"command":["make",null],"byproducts":{"return-value":0},"more":1}"#,
        r#"{"_type":"","name":"n","materials":{"a":{"sha256":"x"}},"products":null,"byproducts":{"return-value":0},"command":["make",""],"environment":null}"#,
    );
    predicate_shown(
        "vuln",
        r#"{"scanner":{"uri":"s","result":{"kept":[1]},"gone":1},"metadata":{"scanStartedOn":"2024-01-01T00:00:00+01:00"}}"#,
        r#"{"invocation":{"parameters":null,"uri":"","event_id":"","builder.id":""},
            "scanner":{"uri":"s","version":"","db":{"uri":"","version":""},"result":{"kept":[1]}},
            "metadata":{"scanStartedOn":"2024-01-01T00:00:00+01:00","scanFinishedOn":"0001-01-01T00:00:00Z"}}"#,
    );
}

#[test]
fn a_predicate_of_other_types_is_an_error_of_that_attestation() {
    for (written, predicate) in [
        ("slsaprovenance", "[]"),
        ("slsaprovenance", r#""text""#),
        ("slsaprovenance", r#"{"builder":"b"}"#),
        ("slsaprovenance", r#"{"builder":{"id":1}}"#),
        ("slsaprovenance", r#"{"materials":{}}"#),
        ("slsaprovenance", r#"{"materials":[1]}"#),
        ("slsaprovenance", r#"{"materials":[{"digest":{"sha1":1}}]}"#),
        ("slsaprovenance", r#"{"metadata":{"reproducible":"yes"}}"#),
        ("slsaprovenance", r#"{"metadata":{"buildStartedOn":"yesterday"}}"#),
        ("slsaprovenance", r#"{"metadata":{"buildStartedOn":1}}"#),
        ("slsaprovenance", r#"{"metadata":[]}"#),
        ("slsaprovenance", r#"{"builder":{"id":"a"},"Builder":{"id":"b"}}"#),
        ("link", r#"{"command":"make"}"#),
        ("link", r#"{"environment":[]}"#),
        ("link", r#"{"materials":{"a":"x"}}"#),
        ("vuln", r#"{"scanner":{"db":"x"}}"#),
        ("vuln", r#"{"metadata":{"scanStartedOn":"2024-02-30T00:00:00Z"}}"#),
        ("vuln", r#"{"invocation":{"builder.id":{}}}"#),
    ] {
        let told = mismatch(written, predicate);
        assert!(told.starts_with("predicate") && told.contains(written), "{told}");
    }
    let told = mismatch("slsaprovenance", r#"{"materials":[{},{"digest":{"sha1":1}}]}"#);
    assert_eq!(
        told,
        "predicate.materials.1.digest.sha1 of the statement is not a string, as predicateType slsaprovenance asks"
    );
}

#[test]
fn a_statement_that_cannot_be_read_one_way_only_is_not_shown() {
    let kind = kind("https://example.com/p");
    for bad in [
        "[]",
        "1",
        "null1",
        r#"{"_type":1}"#,
        r#"{"subject":{}}"#,
        r#"{"subject":[1]}"#,
        r#"{"subject":[{"digest":{"sha256":1}}]}"#,
        r#"{"predicate":{},"predicate":{}}"#,
        r#"{"predicate":{},"Predicate":{}}"#,
        r#"{"predicateType":"a","PREDICATETYPE":"b"}"#,
        r#"{"predicate":{"a":1,"a":2}}"#,
        "",
        "{",
    ] {
        assert!(kind.rego_input(bad.as_bytes(), &bounds()).is_err(), "{bad}");
    }
    let small = RegoBounds { input_bytes_max: 10, ..bounds() };
    let fault = kind.rego_input(statement("{}").as_bytes(), &small);
    assert!(matches!(fault, Err(PredicateFault::Input(RegoFault::InputTooLarge { .. }))), "{fault:?}");
}

#[test]
fn times_are_read_and_written_as_go_does() {
    for (given, written) in [
        ("2024-02-29T23:59:59Z", Some("2024-02-29T23:59:59Z")),
        ("2024-01-01T00:00:00.000Z", Some("2024-01-01T00:00:00Z")),
        ("2024-01-01T00:00:00.1234567899Z", Some("2024-01-01T00:00:00.123456789Z")),
        ("2024-01-01T00:00:00+00:00", Some("2024-01-01T00:00:00Z")),
        ("2024-01-01T00:00:00-07:30", Some("2024-01-01T00:00:00-07:30")),
        ("2023-02-29T00:00:00Z", None),
        ("2024-01-01 00:00:00Z", None),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T00:00:60Z", None),
        ("2024-01-01T00:00:00", None),
        ("2024-01-01T00:00:00.Z", None),
        ("2024-01-01T00:00:00.5", None),
        ("2024-01-01T00:00:00+25:00", None),
        ("2024-01-01T00:00:00+0100", None),
        ("2024-00-01T00:00:00Z", None),
        ("+024-01-01T00:00:00Z", None),
        ("", None),
        ("\u{e9}2024-01-01T00:00:00Z", None),
    ] {
        assert_eq!(shapes::go_time(given).as_deref(), written, "{given}");
    }
}
