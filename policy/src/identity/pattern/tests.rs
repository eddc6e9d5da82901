use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    WholeMatch::parse(pattern).unwrap().matches(text)
}

#[test]
fn the_whole_string_must_match() {
    let pattern = "https://github.com/org/.*@refs/heads/main";
    assert!(matches(pattern, "https://github.com/org/repo/.github/workflows/a.yaml@refs/heads/main"));
    for near in [
        "https://github.com/org/repo@refs/heads/main-2",
        "https://evil.example/https://github.com/org/repo@refs/heads/main",
        "https://github.com/org/repo@refs/heads/main\n",
        "https://github.com/org/repo\nx@refs/heads/main",
        "",
    ] {
        assert!(!matches(pattern, near), "{near:?} was taken");
    }
}

#[test]
fn alternatives_do_not_escape_the_anchors() {
    assert!(matches("a|b", "b"));
    for near in ["ax", "xb", "ab"] {
        assert!(!matches("a|b", near), "{near:?} was taken");
        assert!(!matches("^a|b$", near), "{near:?} was taken");
    }
}

#[test]
fn multi_line_mode_does_not_open_the_ends() {
    assert!(!matches("(?m)^a$", "a\nb"));
    assert!(!matches("(?m)^a$", "b\na"));
}

#[test]
fn classes_are_ascii_as_in_re2() {
    assert!(matches(r"\d+", "09"));
    assert!(!matches(r"\d", "٣"));
    assert!(matches(r"[\d.]+", "1.2"));
    assert!(matches(r"\D", "٣"));
    assert!(matches(r"[\D]", "٣"));
    assert!(!matches(r"[^\D]", "٣"));
    assert!(!matches(r"\w", "é"));
    assert!(matches(r"\W", "é"));
    assert!(!matches(r"\s", "\u{b}"));
    assert!(matches(r"\S", "\u{b}"));
    assert!(!matches(r"\s", "\u{a0}"));
    assert!(matches(r"a\b.*", "aé"), "é is no word character in RE2");
    assert!(matches("[^a]", "é"), "one character, not two bytes");
}

#[test]
fn what_the_controller_reads_differently_is_refused() {
    for (pattern, written) in [
        (r"\pL", r"\pL"),
        (r"[\p{Greek}]", r"\p{Greek}"),
        (r"a\B", r"\B"),
        (r"\<a", r"\<"),
        (r"\b{start}a", r"\b{start}"),
        ("[a[b]]", "[b]"),
        ("[a-z&&[^b]]", "a-z&&[^b]"),
        ("[a-z--b]", "a-z--b"),
        ("[a-z~~b]", "a-z~~b"),
        ("(?x)a", "x"),
        ("(?-u:a)", "u"),
        ("(?R)a", "R"),
        (r"\u{61}", r"\u{61}"),
        (r"[\u0061]", r"\u0061"),
        (r"[a-\U00000062]", r"\U00000062"),
        ("a**", "a**"),
        ("a{1001}", "{1001}"),
        ("a{1,1001}", "{1,1001}"),
    ] {
        match WholeMatch::parse(pattern) {
            Err(PatternError::Differs { written: got, .. }) => {
                assert_eq!(got, written, "of {pattern}");
            }
            other => panic!("{pattern}: {other:?}"),
        }
    }
}

#[test]
fn what_does_not_parse_is_refused() {
    for pattern in
        ["****", "(a", "a)", "a)|(b", "[", r"\Qa\E", r"\C", r"a\", "(?=a)", r"(a)\1", "a{2,1}", "a{,3}", r"\Z"]
    {
        let error = WholeMatch::parse(pattern).unwrap_err();
        assert!(matches!(error, PatternError::DoesNotParse { .. }), "{pattern}: {error:?}");
    }
}

#[test]
fn what_would_not_fit_into_memory_is_refused() {
    let error = WholeMatch::parse("((a{1000}){1000}){1000}").unwrap_err();
    assert!(matches!(error, PatternError::TooLarge { .. }), "{error:?}");
    assert!(WholeMatch::parse(&"(".repeat(100_000)).is_err());
    assert!(WholeMatch::parse(&format!("{}{}", "(".repeat(10_000), ")".repeat(10_000))).is_err());
}

#[test]
fn patterns_that_the_controller_matches_more_loosely_are_known() {
    for (pattern, looser) in [
        ("^a$", false),
        (r"\Aa\z", false),
        ("^(a|b)$", false),
        ("^a.*", false),
        (".*", false),
        (".+@example.com$", false),
        ("^a|^b.*$", true),
        ("^a|b$", true),
        ("a", true),
        ("^a", true),
        ("a$", true),
        ("(?m)^a$", true),
        ("^a[^/]*", true),
        ("^https://github.com/org/", true),
    ] {
        assert_eq!(WholeMatch::parse(pattern).unwrap().is_looser_in_cluster(), looser, "{pattern}");
    }
}

proptest! {
    #[test]
    fn what_matches_is_never_a_mere_part(inner in "[a-z./]{1,8}", before in "[a-z]{0,3}", after in "[a-z]{0,3}") {
        let whole = format!("{before}{inner}{after}");
        let pattern = regex::escape(&inner);
        prop_assert_eq!(matches(&pattern, &whole), whole == inner);
    }

    #[test]
    fn no_text_makes_parsing_panic(text in "\\PC{0,40}") {
        let _ = WholeMatch::parse(&text);
    }

    #[test]
    fn escapes_and_brackets_never_make_parsing_panic(text in r"[\\\[\]()?*+{}a1dDwWsSbBpu<>^$|&~-]{0,24}") {
        let _ = WholeMatch::parse(&text);
    }
}
