//! What counts as compliant, and what the refusal says.

use super::*;

fn says(value: &str) -> Option<String> {
    why(&format!("package sigstore\nisCompliant = {value} {{ true }}\n"), "{}")
}

#[test]
fn only_true_is_a_yes() {
    assert_eq!(says("true"), None);
    for (value, told) in [
        ("false", "isCompliant is false"),
        ("null", "isCompliant is null, neither a boolean nor a list of results"),
        ("1", "isCompliant is a number, neither a boolean nor a list of results"),
        ("\"true\"", "isCompliant is a string, neither a boolean nor a list of results"),
        ("{\"result\": true}", "isCompliant is an object, neither a boolean nor a list of results"),
        ("[]", "isCompliant is an empty list of results"),
        ("set()", "isCompliant is an empty list of results"),
        ("[true]", "isCompliant has a result that is no object"),
        ("{true}", "isCompliant has a result that is no object"),
        ("[[{\"result\": true}]]", "isCompliant has a result that is no object"),
    ] {
        assert_eq!(says(value).as_deref(), Some(told), "{value}");
    }
}

#[test]
fn a_rule_that_is_undefined_is_not_compliant() {
    let text = "package sigstore\nisCompliant { input.a == 1 }";
    assert_eq!(why(text, r#"{"a":1}"#), None);
    for input in [r#"{"a":2}"#, "{}", "null", "[]", r#"{"b":{"a":1}}"#, r#"{"a":"1"}"#] {
        assert_eq!(why(text, input).as_deref(), Some("isCompliant is undefined"), "{input}");
    }
}

#[test]
fn in_a_list_the_first_true_result_decides() {
    for (value, told) in [
        (r#"[{"result": true}]"#, None),
        (r#"[{"result": true, "warning": "", "error": "unused"}]"#, None),
        (r#"[{"result": false, "error": "a"}, {"result": true}]"#, None),
        (r#"[{"result": true}, {"result": true, "warning": "w"}]"#, None),
        (r#"[{"result": true}, "not looked at"]"#, None),
        (r#"{{"result": true}}"#, None),
        (r#"[{"result": true, "warning": "w"}]"#, Some(r#"isCompliant is true with a warning: "w""#)),
        (r#"[{"result": true, "warning": "w"}, {"result": true}]"#, Some(r#"isCompliant is true with a warning: "w""#)),
        (r#"[{"result": false, "error": "a"}, {"result": false, "error": "b"}]"#, Some(r#"isCompliant says "b""#)),
        // A set is in the order of its terms, whatever order it is written in.
        (r#"{{"result": false, "error": "b"}, {"result": false, "error": "a"}}"#, Some(r#"isCompliant says "b""#)),
        (r#"[{"result": false}]"#, Some("isCompliant has no result that is true")),
        (r#"[{"result": false, "warning": "w"}]"#, Some("isCompliant has no result that is true")),
        (r"[{}]", Some("isCompliant has no result that is true")),
        (r#"[{"Result": true}]"#, Some("isCompliant has no result that is true")),
        (r#"[{"result": "true"}]"#, Some("isCompliant has a result whose \"result\" is no boolean")),
        (r#"[{"result": 1}]"#, Some("isCompliant has a result whose \"result\" is no boolean")),
        (r#"[{"result": true, "warning": 1}]"#, Some("isCompliant has a result whose \"warning\" is no string")),
        (r#"[{"result": true, "error": []}]"#, Some("isCompliant has a result whose \"error\" is no string")),
        (r#"[1, {"result": true}]"#, Some("isCompliant has a result that is no object")),
    ] {
        assert_eq!(says(value).as_deref(), told, "{value}");
    }
}

#[test]
fn a_partial_set_of_v0_is_a_list_of_results() {
    let text = r#"package sigstore
isCompliant[response] {
  response := {"result": input.level > 2, "error": sprintf("level is %v", [input.level]), "warning": warning}
}
warning = "" { input.level > 3 }
warning = "barely" { input.level <= 3 }
"#;
    assert_eq!(why(text, r#"{"level":4}"#), None);
    assert_eq!(why(text, r#"{"level":3}"#).unwrap(), r#"isCompliant is true with a warning: "barely""#);
    assert_eq!(why(text, r#"{"level":1}"#).unwrap(), r#"isCompliant says "level is 1""#);
    assert_eq!(why(text, "{}").unwrap(), "isCompliant is an empty list of results");
}

#[test]
fn what_a_rule_says_cannot_break_out_of_a_refusal() {
    let told = says("[{\"result\": false, \"error\": \"a\\\"b\\n\\u001b[31m\\u202e\"}]").unwrap();
    assert_eq!(told, r#"isCompliant says "a\"b\u{a}\u{1b}[31m\u{202e}""#);
    let text = "package sigstore\nisCompliant[r] { r := {\"error\": input.e} }";
    let long = why(text, &format!("{{\"e\":\"{}\"}}", "x".repeat(100_000)));
    assert!(long.unwrap().len() < 300);
}

#[test]
fn a_builtin_that_fails_is_undefined_and_no_error() {
    for statement in [
        "to_number(\"x\") == 1",
        "time.parse_rfc3339_ns(\"yesterday\") > 0",
        "json.unmarshal(\"{\") == {}",
        "regex.match(1, \"a\")",
        "1 / 0 == 1",
        "time.clock([1, \"Nowhere/Atall\"])[0] == 0",
        "units.parse(\"1 Gi\") > 0",
    ] {
        assert_eq!(why(&body(statement), "{}").as_deref(), Some("isCompliant is false"), "{statement}");
    }
}

#[test]
fn two_values_for_one_rule_are_a_failure_and_no_answer() {
    let text = "package sigstore\nisCompliant = x { x := [true, false][_] }";
    assert!(matches!(evaluated(text, "{}"), Err(RegoFault::Failed { .. })), "{:?}", evaluated(text, "{}"));
}

#[test]
fn numbers_keep_the_value_they_are_given_with() {
    let input = r#"{"big":18446744073709551615,"small":-9223372036854775808,"tenth":0.1,"one":1.0}"#;
    let asked =
        "input.big == 18446744073709551615\ninput.big != 18446744073709551614\ninput.small == -9223372036854775808";
    assert_eq!(why(&body(asked), input), None);
    assert_eq!(why(&body("input.tenth == 0.1\ninput.one == 1"), input), None);
}

#[test]
fn at_the_edges_functions_answer_what_the_engine_answers() {
    for (statement, opa, here) in [
        ("0.1 + 0.2 == 0.3", true, false),
        ("100 == 100.0000000000000001", false, true),
        ("input.l[0.0] == 1", false, true),
        ("time.parse_rfc3339_ns(\"2026-01-01 00:00:00Z\") > 0", false, true),
        ("to_number(\" 1\") == 1", false, true),
        ("to_number(\"+1\") == 1", true, false),
        ("urlquery.decode(\"%zz\")", false, true),
        ("indexof(\"a\", \"\") == 0", false, true),
        ("upper(\"ß\") == \"SS\"", false, true),
        ("semver.compare(\"v1.10.0\", \"v1.9.0\") == 1", true, false),
        ("sprintf(\"%s\", [1]) == \"1\"", false, true),
        ("{\"a\": 1} < {1}", true, false),
    ] {
        assert_eq!(why(&body(statement), "{\"l\":[1]}").is_none(), here, "{statement}, of which OPA says {opa}");
    }
}
