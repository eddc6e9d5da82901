//! Regular expressions and globs of rules.
//!
//! The expected verdicts are those of OPA 1.12.3, with which the controller is built, for the same text and input.

use super::*;

const UNALIKE: [&str; 12] =
    ["[a-z&&[^b]]", "[[a]b]", "[a-c--b]", "(?x)a b", r"\<a", "a**", r"\pL", r"a\B", r"\u0061", r"\Qa.b\E", "(", "["];

fn calls(pattern: &str) -> [String; 6] {
    [
        format!("regex.match({pattern}, input.t)"),
        format!("x := regex.is_valid({pattern})"),
        format!("x := regex.split({pattern}, input.t)"),
        format!("x := regex.replace(input.t, {pattern}, \"\")"),
        format!("x := regex.find_n({pattern}, input.t, -1)"),
        format!("x := [1 | regex.find_all_string_submatch_n({pattern}, input.t, 1)]"),
    ]
}

fn fails(statements: &str, input: &str) {
    let answer = evaluated(&body(statements), input);
    assert!(matches!(answer, Err(RegoFault::Failed { .. })), "{statements} of {input}: {answer:?}");
}

#[test]
fn regular_expressions_that_re2_reads_differently_are_refused() {
    for pattern in UNALIKE {
        for call in calls(&format!("`{pattern}`")) {
            let error = refused(&body(&call));
            assert!(error.what.starts_with("has a regular expression that "), "{call}: {error}");
            assert!(error.line == 6 && error.hint.starts_with("write "), "{call}: {error}");
        }
    }
    let error = refused(&body("regex.match(\"[a-z&&[^b]]\", \"c\")"));
    assert_eq!(
        error.what,
        "has a regular expression that does not mean the same to the controller (RE2), with \"a-z&&[^b]\""
    );
    assert_eq!(error.hint, "write one & within a class");
}

#[test]
fn regular_expressions_that_are_computed_are_looked_at_when_they_are() {
    let input = |pattern: &str| serde_json::json!({ "p": pattern, "t": "a" }).to_string();
    for pattern in UNALIKE {
        for call in calls("input.p") {
            fails(&call, &input(pattern));
            fails(&format!("count([1 | {call}]) == 0"), &input(pattern));
        }
        fails("x := input.p\ny := input.t\nnot regex.match(x, y)", &input(pattern));
    }
    assert_eq!(why(&body("regex.match(input.p, input.t)"), &input("^[ab]$")), None);
}

#[test]
fn classes_of_an_alphabet_are_asked_of_ascii_only() {
    for pattern in [r"^\w+$", r"^\d+$", r"^a\sb$", r"\bж", r"^[\w]+$", r"^\W$", r"^\D$", r"^\S$"] {
        for text in ["ж", "٣", "a\u{a0}b", "\u{b}"] {
            let input = serde_json::json!({ "p": pattern, "t": text }).to_string();
            fails(&format!("regex.match(`{pattern}`, input.t)"), &input);
            fails("regex.match(input.p, input.t)", &input);
            fails("x := regex.replace(input.t, input.p, \"\")", &input);
        }
    }
    for (pattern, text, opa) in [
        (r"^https://github\.com/\w+/x$", "https://github.com/org/x", true),
        (r"^https://github\.com/\w+/x$", "https://github.com/-/x", false),
        (r"^v\d+$", "v12", true),
        (r"^a\sb$", "a\tb", true),
        (r"\ba\b", "b a", true),
        (r"^\D$", "1", false),
        ("^[[:alpha:]]$", "ж", false),
        ("^[^a]$", "ж", true),
        ("(?i)^k$", "\u{212a}", true),
        ("a.b", "a\nb", false),
        ("a$", "a\n", false),
    ] {
        let input = serde_json::json!({ "t": text }).to_string();
        assert_eq!(
            why(&body(&format!("regex.match(`{pattern}`, input.t)")), &input).is_none(),
            opa,
            "{pattern} {text}"
        );
    }
}

#[test]
fn a_regular_expression_beyond_the_engines_limit_is_a_failure() {
    fails("x := regex.match(input.p, \"a\")", r#"{"p":"(a{1000}){20}"}"#);
    fails("x := input.p\nnot regex.match(x, \"a\")", r#"{"p":"(a{1000}){20}"}"#);
}

#[test]
fn what_matching_answers_is_what_opa_answers() {
    let statements = r#"regex.split(",", "a,b") == ["a", "b"]
regex.find_n("a.", "abac", -1) == ["ab", "ac"]
regex.find_all_string_submatch_n("(a)(b)?", "aba", -1) == [["ab", "a", "b"], ["a", "a", ""]]
regex.replace("abc", "(b)", "[$1]") == "a[b]c"
regex.is_valid("a+")
not regex.match("a", 1)"#;
    assert_eq!(why(&body(statements), "{}"), None);
    fails("regex.split(\"\", \"abc\") == [\"a\"]", "{}");
    fails("regex.split(\"x*\", \"abc\") == [\"a\"]", "{}");
}

#[test]
fn what_is_never_alike_is_refused_by_its_name() {
    for call in ["regex.template_match(\"{.*}\", \"a\", \"{\", \"}\")", "glob.quote_meta(\"*\")"] {
        let error = refused(&body(&format!("x := {call}")));
        assert!(error.what.ends_with("which the controller answers differently"), "{error}");
    }
}

#[test]
fn globs_beyond_characters_and_single_stars_are_refused() {
    for glob in ["[^a]", "[a-c]x", "a**b", "**.com", "***", "a?c", "{a,b}c", r"\\*"] {
        let error = refused(&body(&format!("glob.match(\"{glob}\", [], input.t)")));
        assert!(error.what.starts_with("has the glob \"") && error.line == 6, "{glob}: {error}");
        let input = serde_json::json!({ "g": glob, "t": "b" }).to_string();
        fails("x := glob.match(input.g, [], input.t)", &input);
    }
    for delimiters in [r#"[":"]"#, r#"["/", "."]"#, r#"["ab"]"#, r#"["é"]"#, r#"[""]"#, "[1]", "\".\""] {
        fails(&format!("x := glob.match(\"a*\", {delimiters}, \"a:b\")"), "{}");
    }
    // gobwas says yes: the one letter is the beginning and the end.
    fails("x := glob.match(\"a*a\", [\"/\"], \"a\")", "{}");
    for (glob, delimiters, text, opa) in [
        ("*.github.com", r#"["."]"#, "api.github.com", true),
        ("*.github.com", r#"["."]"#, "a.b.github.com", false),
        ("a*", "[]", "a.b", false),
        ("a*", "null", "a.b/c", true),
        ("a/*", r#"["/"]"#, "a/b", true),
        ("a/*", r#"["/"]"#, "a/b/c", false),
    ] {
        let statement = format!("glob.match(\"{glob}\", {delimiters}, \"{text}\")");
        assert_eq!(why(&body(&statement), "{}").is_none(), opa, "{statement}");
    }
}
