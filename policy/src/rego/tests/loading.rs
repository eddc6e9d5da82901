//! What is found when a policy is loaded.

use super::*;

#[test]
fn what_is_no_rule_is_told_with_its_line_and_a_way_out() {
    for (text, told) in [
        ("package main\nisCompliant = true", "line 1: has the package \"main\", expected \"sigstore\""),
        ("package sigstore\nallow = true", "has no rule isCompliant"),
        (
            "package sigstore\n\nisCompliant(x) = x { true }",
            "line 3: has isCompliant as a function, which nobody calls",
        ),
        ("package sigstore\nisCompliant {\n  input.a ==\n}", "line 2: expecting }"),
        (
            "package sigstore\nisCompliant {\n  undefined_variable == 1\n}",
            "line 3: use of undefined variable `undefined_variable` is unsafe",
        ),
        ("isCompliant = true", "line 1: expecting `package` Missing package declaration."),
        ("", "line 1: expecting `package` Missing package declaration."),
    ] {
        let error = refused(text);
        assert!(!error.hint.is_empty());
        assert_eq!(error.to_string(), told, "{text}");
    }
}

#[test]
fn other_packages_and_rules_do_not_do() {
    for text in [
        "package sigstore.policy\nisCompliant = true",
        "package sigstore[\"x\"]\nisCompliant = true",
        "package Sigstore\nisCompliant = true",
        "package sigstore\nIsCompliant = true",
        "package sigstore\niscompliant = true",
        "package sigstore\nx.isCompliant = true",
        "package sigstore",
        "package sigstore\nimport rego.v1\nisCompliant { true }",
    ] {
        refused(text);
    }
}

#[test]
fn what_reaches_out_or_differs_is_found_at_load_wherever_it_hides() {
    let forbidden = [
        "http.send({\"method\": \"get\", \"url\": \"http://localhost\"})",
        "opa.runtime()",
        "rand.intn(\"a\", 2)",
        "uuid.rfc4122(\"a\")",
        "uuid.parse(\"a\")",
        "net.lookup_ip_addr(\"localhost\")",
        "graph.reachable_paths({}, [])",
        "rego.parse_module(\"a\", \"b\")",
        "rand[\"intn\"](\"a\", 2)",
    ];
    for call in forbidden {
        for place in [
            format!("x := {call}"),
            format!("not {call}"),
            format!("count([1 | {call}]) == 0"),
            format!("{{x: 1 | x := {call}}} == {{}}"),
            format!("object.get({{\"a\": [{call}]}}, \"b\", 1) == 1"),
            format!("input[_][{call}] == 1"),
            format!("input.a == 1 with input.a as {call}"),
            format!("sprintf(\"%v\", [{call}]) == \"\""),
        ] {
            let error = refused(&body(&place));
            assert_eq!(error.line, 6, "{place}: {error}");
            let name = call.split(['(', '[', '.']).next().unwrap();
            assert!(error.what.starts_with("calls ") && error.what.contains(name), "{place}: {error}");
        }
        refused(&format!("package sigstore\nisCompliant = true\nunused {{ {call} }}"));
        refused(&format!("package sigstore\nisCompliant = true\nf(x) = y {{ y := [x, {call}] }}"));
        refused(&format!("package sigstore\nisCompliant = true {{ false }} else = {call} {{ true }}"));
        refused(&format!("package sigstore\nisCompliant[x] {{ x := 1 }}\nisCompliant[{call}] {{ true }}"));
    }
}

#[test]
fn a_forbidden_function_cannot_take_the_place_of_another() {
    for statement in ["count([1]) == 1 with count as rand.intn", "x := count([1]) with count as http.send"] {
        let error = refused(&body(statement));
        assert!(error.what.starts_with("names ") && error.line == 6, "{error}");
    }
}

#[test]
fn unknown_functions_are_found_at_load() {
    for call in [
        "crypto.sha256(\"a\")",
        "io.jwt.decode(\"a\")",
        "isCompliantt(1)",
        "data.other.f(1)",
        "data.sigstore.g(1)",
        "input.f(1)",
        "json.match_schema({}, {})",
        "test.sleep(\"1s\")",
        "azure.policy.fn.empty(1)",
    ] {
        let error = refused(&body(&format!("x := {call}")));
        assert!(error.what.contains("neither a function of this text nor one offered"), "{call}: {error}");
        assert_eq!(error.line, 6, "{call}");
    }
    refused(&body("f := \"now_ns\"\ntime[f]() > 0"));
    refused(&body("time.now_ns(x)\nx > 0"));
}

#[test]
fn functions_that_opa_has_besides_are_refused_by_name() {
    for name in [
        "crypto.sha256",
        "crypto.x509.parse_certificates",
        "io.jwt.decode_verify",
        "net.cidr_contains",
        "net.cidr_is_valid",
        "yaml.unmarshal",
        "json.patch",
        "json.match_schema",
        "json.verify_schema",
        "uuid.parse",
        "graphql.is_valid",
        "providers.aws.sign_req",
        "any",
        "all",
        "re_match",
        "cast_array",
        "cast_string",
        "set_diff",
        "regex.globs_match",
        "rego.metadata.rule",
        "rego.metadata.chain",
        "rego.parse_module",
    ] {
        let error = refused(&body(&format!("x := {name}(input.a)")));
        assert_eq!(error.what, format!("calls {name}, which is neither a function of this text nor one offered to it"));
        assert_eq!(error.line, 6);
    }
}

#[test]
fn every_function_of_the_engine_is_of_a_family_that_was_looked_at() {
    const FAMILIES: [&str; 19] = [
        "array.",
        "base64.",
        "base64url.",
        "bits.",
        "glob.",
        "graph.reachable",
        "hex.",
        "json.",
        "numbers.",
        "object.",
        "rand.intn",
        "regex.",
        "semver.",
        "strings.",
        "time.",
        "units.",
        "urlquery.",
        "__builtin_sets.",
        "graph.reachable_paths",
    ];
    const PLAIN: [&str; 43] = [
        "abs",
        "ceil",
        "concat",
        "contains",
        "count",
        "endswith",
        "floor",
        "format_int",
        "indexof",
        "indexof_n",
        "intersection",
        "is_array",
        "is_boolean",
        "is_null",
        "is_number",
        "is_object",
        "is_set",
        "is_string",
        "lower",
        "max",
        "min",
        "product",
        "replace",
        "round",
        "sort",
        "split",
        "sprintf",
        "startswith",
        "substring",
        "sum",
        "to_number",
        "trace",
        "trim",
        "trim_left",
        "trim_prefix",
        "trim_right",
        "trim_space",
        "trim_suffix",
        "type_name",
        "union",
        "upper",
        "walk",
        "print",
    ];
    let known = |name: &str| PLAIN.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family));
    let unknown: Vec<_> = regorus::unstable::BUILTINS.keys().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "the engine has functions that nobody looked at: {unknown:?}");
}

#[test]
fn a_rule_that_needs_itself_is_found_at_load() {
    for rest in [
        "f(x) = y { y := f(x - 1) }",
        "f(x) = y { y := g(x) }\ng(x) = y { y := f(x) }",
        "f(x) = y { y := data.sigstore.f(x) }",
        "a { b }\nb { c }\nc { a }",
        "a { data.sigstore[input.x] }",
        "a { count(data) > 0 }",
        "a { data.sigstore == {} }",
        "isCompliant { not isCompliant }",
        "f(x) = y { y := count(x) with count as f }",
        "f(x) = 1 { r }\ng(x) { f(x) }\nr { g(1) }",
    ] {
        let error = refused(&format!("package sigstore\ndefault isCompliant = false\n{rest}\n"));
        assert!(error.what.contains("needs itself"), "{rest}: {error}");
        assert_eq!(error.line, if rest.starts_with("isCompliant") { 2 } else { 3 }, "{rest}");
    }
}

#[test]
fn a_variable_may_have_the_name_of_a_rule() {
    let text = "package sigstore
import future.keywords
isCompliant { f(input.a); x := 1; x == 1 }
f(result) { result == 1 }
result { f(1) }
x { y := 1; isCompliant == y }
y { every x in [1] { x == 1 } }
";
    assert_eq!(why(text, r#"{"a":1}"#), None);
}

#[test]
fn texts_that_go_too_far_are_not_loaded() {
    let long = format!("package sigstore\nisCompliant = true\n# {}\n", "x".repeat(TEXT_BYTES_MAX));
    assert!(refused(&long).what.contains("bytes of Rego"));
    let many = body(&"input.a[_] == 1\n".repeat(129));
    assert!(refused(&many).what.contains("a body of 129 statements"), "{}", refused(&many));
    let steps = body(&format!("input{} == 1", "[_]".repeat(33)));
    assert!(refused(&steps).what.contains("33 steps"), "{}", refused(&steps));
    let chain: String = (0..40).map(|n| format!("r{n} {{ r{} }}\n", n + 1)).collect::<Vec<_>>().concat();
    let chain = format!("{}{chain}r40 = true\n", body("r0"));
    assert!(refused(&chain).what.contains("a chain of more than 32 rules"), "{}", refused(&chain));
}

#[test]
fn brackets_that_would_keep_the_parser_busy_for_hours_are_not_parsed() {
    for (opening, closing) in
        [("[", "]"), ("{", "}"), ("(", ")"), ("f(", ")"), ("{1: ", "}"), ("[1 | ", "]"), ("{1 | ", "}"), ("a[", "]")]
    {
        let nested = |depth: usize| {
            body(&format!(
                "x := {}1{}\nx == [\"((((((((((((((((\", `[[[[\n[[[[[[[[[[[`] # [[[[[[[[[[[[",
                opening.repeat(depth),
                closing.repeat(depth)
            ))
        };
        let error = refused(&nested(200));
        assert!(error.what.contains("nests brackets") && error.line == 6, "{error}");
        // What is just allowed ends soon, whatever the parser makes of it.
        let _ = Rego::compile(&nested(super::super::nesting::NESTING_MAX - 1));
    }
}

#[test]
fn foreign_text_in_an_error_is_escaped_and_bounded() {
    let error = refused(&body(&format!("\u{1b}[31m {}", "é".repeat(5000))));
    assert!(error.what.len() < 2500 && error.what.is_ascii(), "{error}");
    let error = refused(&format!("package x[\"{}\"]\nisCompliant = true", "\\u001b".repeat(5000)));
    assert!(error.what.len() < 2500 && error.what.chars().all(|c| matches!(c, ' '..='~' | '…')), "{error}");
}

#[test]
fn words_of_v1_are_refused_where_v0_reads_them_as_rules() {
    for (text, told) in [
        ("isCompliant if { false }", "a rule with the name if, a word of Rego v1"),
        ("isCompliant if\n{ false }", "a rule with the name if, a word of Rego v1"),
        ("isCompliant = true if { false }", "a rule with the name if, a word of Rego v1"),
        ("import future.keywords.in\nisCompliant if { false }", "a rule with the name if, a word of Rego v1"),
        ("isCompliant contains x { x := {} }", "a rule with contains, a word of Rego v1"),
        ("import future.keywords.if\nisCompliant contains {} if { true }", "a rule with contains, a word of Rego v1"),
        ("isCompliant every { false }", "a rule with the name every, a word of Rego v1"),
        ("isCompliant", "the name \"isCompliant\" alone where a rule is expected"),
        ("isCompliant foo { false }", "the name \"isCompliant\" alone where a rule is expected"),
        ("isCompliant = false\nother", "the name \"other\" alone where a rule is expected"),
    ] {
        let error = refused(&format!("package sigstore\n{text}\n"));
        assert!(error.what.ends_with(told) && error.line > 1 && !error.hint.is_empty(), "{text}: {error}");
    }
}

#[test]
fn both_syntaxes_load() {
    for text in [
        "package sigstore\ndefault isCompliant = false\nisCompliant { input.a == 1 }",
        "package sigstore\ndefault isCompliant := false\nisCompliant = true { input.a == 1 }",
        "package sigstore\nisCompliant = x { x := input.a == 1 }",
        "package sigstore\nimport future.keywords\ndefault isCompliant := false\nisCompliant if { input.a == 1 }",
        "package sigstore\nimport future.keywords.if\nimport future.keywords.every\nisCompliant if { every x in [input.a] { x == 1 } }",
        "package sigstore\nimport rego.v1\ndefault isCompliant := false\nisCompliant if input.a == 1",
        "package sigstore\nimport rego.v1\nisCompliant contains {\"result\": input.a == 1}",
        "package sigstore\nimport input.a as first\nisCompliant { first == 1 }",
        "package sigstore\nimport data.sigstore.one as unit\nisCompliant { unit(input.a) }\none(x) { x == 1 }",
        "package sigstore\nisCompliant { data.sigstore.one(input.a) }\none(x) { x == 1 }\ndefault two(_) = false",
        "package sigstore\nisCompliant { input.a == data.elsewhere.b } else = true { input.a == 1 }",
    ] {
        assert_eq!(why(text, r#"{"a":1}"#), None, "{text}");
        assert!(why(text, r#"{"a":2}"#).is_some(), "{text}");
    }
}

#[test]
fn statements_that_print_are_taken_out_as_in_the_controller() {
    let text = body(
        "print(\"never\", input.missing.x)\nprint(input,\n  \"over lines\")\ninput.a == 1; print(1); input.b == 2",
    );
    assert_eq!(why(&text, r#"{"a":1,"b":2}"#), None);
    assert!(why(&text, r#"{"a":1,"b":3}"#).is_some());
    // The lines of the text stay where they are.
    assert_eq!(refused(&body("print(1,\n2)\nx := rand.intn(\"a\", 1)")).line, 8);
    let error = refused(&body("x := print(1)"));
    assert!(error.what.contains("print within a statement"), "{error}");
    refused(&body("print(http.send({}))"));
    refused(&body("not print(1)"));
}
