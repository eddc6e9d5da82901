//! Negations: what OPA and this engine decide alike is taken, all else is refused when it is loaded.
//!
//! The expected verdicts are those of OPA 1.12.3, with which the controller is built, for the same text and input.

use super::*;

const INPUT: &str = r#"{"a":"x","n":5,"l":["C","L"],"o":{"k":"v"},"v":[{"s":"H"},{"s":"L"}],"flags":[true,false]}"#;

const HELPERS: &str = "
f(x) { x == \"x\" }
g(x) { not x == \"x\" }
never { false }
missing = input.zz
names[x] { x := input.a }
counts[x] = n { x := input.a; n := input.n }
";

fn text(statements: &str) -> String {
    format!("package sigstore\nimport future.keywords\nisCompliant {{\n{statements}\n}}\n{HELPERS}")
}

#[test]
fn a_negation_over_several_values_is_refused() {
    for statement in [
        "not input.v[_].s == \"C\"",
        "not input.v[i].s == \"C\"",
        "some i; not input.v[i].s == \"C\"",
        "not input.v[i]",
        "not f(input.v[_])",
        "not f(input.l[i])",
        "not \"C\" in input.v[_]",
        "not startswith(input.l[_], \"C\")",
        "not names[_]",
        "not data.sigstore.names[x]",
        "x := [1 | not input.l[_] == \"C\"]; x == [1]",
        "count({1 | not input.l[i] == \"C\"}) == 1",
        "count({i: 1 | v := input.v[i]; not v[j] == \"C\"}) == 1",
        "every v in input.v { not v[_] == \"C\" }",
        "every v in [1] { not i == v }",
        "x := [y | y := [1 | not input.l[_] == \"C\"]]; x == [[1]]",
        "x := [i | input.l[i]]; not input.l[i] == \"C\"; count(x) == 2",
        "not input.l[i] == \"C\"; i = 0",
        "not x > 7; x = input.n",
    ] {
        let error = refused(&text(statement));
        assert!(error.what.starts_with("negates an expression with \""), "{statement}: {error}");
        assert!(error.what.ends_with("which nothing before it binds"), "{statement}: {error}");
        assert!(error.line == 4 && error.hint.contains("`not bad`"), "{statement}: {error}");
    }
}

#[test]
fn a_negation_of_what_is_given_something_missing_is_refused() {
    for statement in [
        "not input.score > 7",
        "not input.a != \"x\"",
        "not input.n + 1 > 7",
        "not input.n + 1 == 7",
        "not count(input.x) > 0",
        "not count(input.x) == 0",
        "not contains(lower(input.x), \"critical\")",
        "not \"C\" in input.x",
        "not input.a in [\"C\"]",
        "not \"k\", \"v\" in input.x",
        "not regex.match(\"^http:\", input.x)",
        "not to_number(input.a) < 5",
        "not f(input.x)",
        "not f([input.x])",
        "not f({\"a\": input.x})",
        "not f(missing)",
        "not missing > 3",
        "not f(counts)",
        "not f(input)",
        "not f([x | x := input.l[_]])",
        "not [input.zz] == [6]",
        "not {\"a\": input.zz} == {\"a\": 1}",
        "not input[input.zz]",
        "not counts[input.zz]",
        "not {\"a\"}[input.zz]",
        "not json.unmarshal(input.a).bad",
        "not split(input.a, \":\")[1] == \"q\"",
        "not input.a = \"x\"",
        "x := 1; not x - 1",
        "x := {1}; not x & {2}",
        "every k in [1] { not count(input.zz) > k }",
        "x := [1 | not lower(input.zz) == \"x\"]; x == [1]",
    ] {
        let error = refused(&text(statement));
        assert!(error.what.starts_with("negates an expression in which \""), "{statement}: {error}");
        assert!(error.what.ends_with("may be missing"), "{statement}: {error}");
        assert!(error.line == 4 && error.hint.contains("`v := …`"), "{statement}: {error}");
    }
}

#[test]
fn a_negation_with_something_else_is_refused() {
    for statement in [
        "not input.zz == 1 with input as {}",
        "not never with input.a as input.zz",
        "x := 1; not f(x) with input as {}",
    ] {
        let error = refused(&text(statement));
        assert!(error.what.contains("evaluated with something else"), "{statement}: {error}");
        assert!(error.line == 4 && !error.hint.is_empty(), "{statement}: {error}");
    }
}

#[test]
fn a_negation_hides_nowhere() {
    for rest in [
        "bad = [1 | not input.l[_]] { true }",
        "bad[count([1 | not input.l[_]])] = 1 { true }",
        "bad[[1 | not input.l[_]]] { true }",
        "bad = 1 { false } else = [1 | not input.l[_]] { true }",
        "bad(x) = [1 | not input.l[x][_]]",
        "bad = [1 | not input.l[_]]",
        "default bad = [1 | not input.l[_]]",
        "bad { true with input as {\"a\": [1 | not input.l[_]]} }",
        "bad { some x in [1 | not input.l[_]] }",
        "bad { f([1 | not input.l[_]]) }",
        "bad { true } { not input.l[_] }",
    ] {
        let error = refused(&format!("{}\n{rest}\n", text("true")));
        assert!(error.what.starts_with("negates"), "{rest}: {error}");
    }
}

#[test]
fn negations_that_are_taken_say_what_opa_says() {
    for (statement, opa) in [
        // A reference, missing or not.
        ("not input.zz", true),
        ("not input.a", false),
        ("not input[\"zz\"].y", true),
        ("not input.l[0]", false),
        ("not input.l[7]", true),
        ("not never", true),
        ("not data.sigstore.never", true),
        ("not missing", true),
        ("not names[\"x\"]", false),
        ("not names.y", true),
        // An equality of references and values.
        ("not input.zz == \"C\"", true),
        ("not input.a == \"x\"", false),
        ("not \"y\" == input.a", true),
        ("not input.zz == input.yy", true),
        ("not (input.zz == 1)", true),
        ("not missing == 1", true),
        ("not counts.x == 5", false),
        ("not input.l == [\"C\", \"L\"]", false),
        ("not input.zz == {}", true),
        ("not input.o == {\"k\": \"w\"}", true),
        ("not input.n == -5", true),
        // Whatever is given only what was bound before.
        ("x := input.n; not x > 7", true),
        ("x := input.n; not x > 4", false),
        ("x := input.zz; not x > 7", false),
        ("x = input.zz; not x > 7", false),
        ("x := count(input.zz); not x > 0", false),
        ("x := input.zz; not f(x)", false),
        ("x := input.n; not f(x)", true),
        ("x := input.a; not f(x)", false),
        ("x := input.a; not names[x]", false),
        ("x := input.o; not \"k\", \"v\" in x", false),
        ("x := input.l; not \"H\" in x", true),
        ("x := input.zz; not \"H\" in x", false),
        ("x := input.a; not x in {\"y\", \"z\"}", true),
        ("x := input.n; not startswith(x, \"b\")", true),
        ("x := lower(input.zz); not contains(x, \"critical\")", false),
        ("x := input.a; not regex.match(\"^x$\", x)", false),
        ("x := input.zz; not [x] == [6]", false),
        ("x := 1; count([1 | not x == 2]) == 1", true),
        ("[x, y] := [1, input.zz]; not x == 2", false),
        ("{\"k\": k} = input.o; not k == \"w\"", true),
        ("input.l[i] == \"L\"; not input.flags[i]", true),
        ("input.l[i] == \"C\"; not input.flags[i]", false),
        ("some i; input.l[i] == \"L\"; not input.flags[i]", true),
        ("some v in input.v; not v.s == \"H\"", true),
        ("some v in input.v; not v.s", false),
        ("some i, v in input.v; v.s == \"H\"; not input.flags[i]", false),
        ("every v in input.v { not v.s == \"C\" }", true),
        ("every v in input.v { s := v.s; not startswith(s, \"L\") }", false),
        ("every v in input.zz { not v.s == \"C\" }", false),
        ("x := [y | y := input.l[i]; not input.flags[i]]; x == [\"L\"]", true),
        ("walk(input.o, [p, v]); v == \"v\"; not p == []", true),
        ("g(input.n)", true),
        ("g(input.a)", false),
        ("g(input.zz)", false),
        // The way out of the refusals.
        ("bad := [v | v := input.v[_]; v.s == \"C\"]; count(bad) == 0", true),
        ("bad := [v | v := input.v[_]; v.s == \"H\"]; count(bad) == 0", false),
    ] {
        assert_eq!(why(&text(statement), INPUT).is_none(), opa, "{statement}");
    }
}

#[test]
fn what_only_opas_compiler_refuses_may_load() {
    // A number for a text, a variable that nothing uses.
    for statement in ["x := 1; not startswith(x, \"b\")", "every i, v in input.v { not i > 4 }"] {
        assert_eq!(why(&text(statement), INPUT), None, "{statement}");
    }
    assert!(why(&text("startswith(1, \"b\")"), INPUT).is_some());
}
