//! Regular expressions as policies write them (RE2), matched against a whole string.
//!
//! Policies are written for RE2; the engine here is another. What both read alike is taken as it is, `\d \w \s \b`
//! are rewritten to the ASCII meaning that RE2 gives them, and whatever the two would read differently is refused.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use regex_syntax::{
    ast::{
        self, AssertionKind, Ast, ClassPerlKind, ClassSetBinaryOp, ClassSetBinaryOpKind,
        ClassSetItem, Flag, Flags, FlagsItemKind, GroupKind, HexLiteralKind, LiteralKind,
        RepetitionKind, RepetitionRange, Span, Visitor,
    },
    hir::{Class, Hir, HirKind, Look},
};

/// What a compiled expression may take.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// RE2's own limit on counted repetition.
const REPEAT_COUNT_MAX: u32 = 1000;

/// A regular expression that must match a string from first to last character.
#[derive(Debug, Clone)]
pub struct WholeMatch {
    source: String,
    regex: Regex,
    looser_in_cluster: bool,
}

impl WholeMatch {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// When it does not parse, would be read differently by the controller, or is too large.
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        let ast = ast::parse::Parser::new().parse(source).map_err(|error| {
            PatternError::DoesNotParse {
                why: error.kind().to_string(),
            }
        })?;
        let edits = ast::visit(
            &ast,
            Translation {
                source,
                edits: Vec::new(),
            },
        )?;
        let translated = apply(source, &edits);
        let hir = regex_syntax::parse(&translated).map_err(|_| PatternError::TooLarge {
            bytes_max: PROGRAM_BYTES_MAX,
        })?;
        let regex = RegexBuilder::new(&format!(r"\A(?:{translated})\z"))
            .size_limit(PROGRAM_BYTES_MAX)
            .build()
            .map_err(|_| PatternError::TooLarge {
                bytes_max: PROGRAM_BYTES_MAX,
            })?;
        let looser_in_cluster = !(is_bound_at_start(&hir) && is_bound_at_end(&hir));
        Ok(Self {
            source: source.to_owned(),
            regex,
            looser_in_cluster,
        })
    }

    /// Whether all of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The expression as the policy writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the controller, which searches within the string, accepts strings that this does not.
    #[must_use]
    pub fn is_looser_in_cluster(&self) -> bool {
        self.looser_in_cluster
    }
}

impl PartialEq for WholeMatch {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for WholeMatch {}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Not an expression.
    #[error("does not parse: {why}")]
    DoesNotParse {
        /// The parser's words.
        why: String,
    },
    /// The controller would read it differently, or not at all.
    #[error("\"{written}\" does not mean the same to the controller (RE2)")]
    Differs {
        /// The part in question.
        written: String,
        /// What to write in its place.
        instead: &'static str,
    },
    /// It would take too much memory.
    #[error("is too large: it takes more than {bytes_max} bytes when compiled")]
    TooLarge {
        /// The limit, in bytes.
        bytes_max: usize,
    },
}

/// Walks an expression, collecting what must be rewritten, and stopping at what cannot be.
struct Translation<'s> {
    source: &'s str,
    edits: Vec<(Range<usize>, &'static str)>,
}

impl Translation<'_> {
    fn refuse(&self, span: &Span, instead: &'static str) -> PatternError {
        let written = self
            .source
            .get(span.start.offset..span.end.offset)
            .unwrap_or(self.source);
        PatternError::Differs {
            written: written.to_owned(),
            instead,
        }
    }

    fn replace(&mut self, span: &Span, text: &'static str) {
        self.edits.push((span.start.offset..span.end.offset, text));
    }

    fn perl_class(&mut self, class: &ast::ClassPerl) {
        let text = match (&class.kind, class.negated) {
            (ClassPerlKind::Digit, false) => "[0-9]",
            (ClassPerlKind::Digit, true) => "[^0-9]",
            (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
            // RE2 leaves out the vertical tab
            (ClassPerlKind::Space, false) => r"[\t\n\f\r ]",
            (ClassPerlKind::Space, true) => r"[^\t\n\f\r ]",
        };
        self.replace(&class.span, text);
    }

    fn literal(&self, literal: &ast::Literal) -> Result<(), PatternError> {
        let hex = match &literal.kind {
            LiteralKind::HexFixed(kind) | LiteralKind::HexBrace(kind) => kind,
            LiteralKind::Verbatim
            | LiteralKind::Meta
            | LiteralKind::Superfluous
            | LiteralKind::Octal
            | LiteralKind::Special(_) => return Ok(()),
        };
        match hex {
            HexLiteralKind::X => Ok(()),
            HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong => {
                Err(self.refuse(&literal.span, r"\x{…} for a character by number"))
            }
        }
    }

    fn flags(&self, flags: &Flags) -> Result<(), PatternError> {
        for item in &flags.items {
            match &item.kind {
                FlagsItemKind::Negation
                | FlagsItemKind::Flag(
                    Flag::CaseInsensitive
                    | Flag::MultiLine
                    | Flag::DotMatchesNewLine
                    | Flag::SwapGreed,
                ) => {}
                FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace) => {
                    return Err(self.refuse(&item.span, "no flags but i, m, s and U"));
                }
            }
        }
        Ok(())
    }

    fn assertion(&mut self, assertion: &ast::Assertion) -> Result<(), PatternError> {
        match assertion.kind {
            AssertionKind::StartLine
            | AssertionKind::EndLine
            | AssertionKind::StartText
            | AssertionKind::EndText => {}
            AssertionKind::WordBoundary => self.replace(&assertion.span, r"(?-u:\b)"),
            AssertionKind::NotWordBoundary => {
                return Err(self.refuse(&assertion.span, "the characters on both sides themselves"));
            }
            AssertionKind::WordBoundaryStart
            | AssertionKind::WordBoundaryEnd
            | AssertionKind::WordBoundaryStartAngle
            | AssertionKind::WordBoundaryEndAngle
            | AssertionKind::WordBoundaryStartHalf
            | AssertionKind::WordBoundaryEndHalf => {
                return Err(self.refuse(
                    &assertion.span,
                    r"\b for a word boundary, or the character without a backslash",
                ));
            }
        }
        Ok(())
    }

    fn repetition(&self, repetition: &ast::Repetition) -> Result<(), PatternError> {
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return Err(self.refuse(
                &repetition.span,
                "one repetition operator, or a group around the inner one",
            ));
        }
        let count = match &repetition.op.kind {
            RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => 0,
            RepetitionKind::Range(
                RepetitionRange::Exactly(n)
                | RepetitionRange::AtLeast(n)
                | RepetitionRange::Bounded(_, n),
            ) => *n,
        };
        if count > REPEAT_COUNT_MAX {
            return Err(self.refuse(&repetition.op.span, "at most 1000 repetitions"));
        }
        Ok(())
    }
}

impl Visitor for Translation<'_> {
    type Output = Vec<(Range<usize>, &'static str)>;
    type Err = PatternError;

    fn finish(self) -> Result<Self::Output, PatternError> {
        Ok(self.edits)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), PatternError> {
        match ast {
            Ast::Empty(_)
            | Ast::Dot(_)
            | Ast::ClassBracketed(_)
            | Ast::Alternation(_)
            | Ast::Concat(_) => {}
            Ast::Flags(set) => self.flags(&set.flags)?,
            Ast::Literal(literal) => self.literal(literal)?,
            Ast::Assertion(assertion) => self.assertion(assertion)?,
            Ast::ClassUnicode(class) => return Err(self.refuse(&class.span, UNICODE_CLASS)),
            Ast::ClassPerl(class) => self.perl_class(class),
            Ast::Repetition(repetition) => self.repetition(repetition)?,
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(flags) => self.flags(flags)?,
                GroupKind::CaptureIndex(_) | GroupKind::CaptureName { .. } => {}
            },
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), PatternError> {
        match item {
            ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Union(_) => {}
            ClassSetItem::Literal(literal) => self.literal(literal)?,
            ClassSetItem::Range(range) => {
                self.literal(&range.start)?;
                self.literal(&range.end)?;
            }
            ClassSetItem::Unicode(class) => return Err(self.refuse(&class.span, UNICODE_CLASS)),
            ClassSetItem::Perl(class) => self.perl_class(class),
            ClassSetItem::Bracketed(class) => {
                return Err(self.refuse(&class.span, r"\[ for a bracket within a class"));
            }
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, op: &ClassSetBinaryOp) -> Result<(), PatternError> {
        let instead = match op.kind {
            ClassSetBinaryOpKind::Intersection => "one & within a class",
            ClassSetBinaryOpKind::Difference => r"\- for a dash within a class",
            ClassSetBinaryOpKind::SymmetricDifference => "one ~ within a class",
        };
        Err(self.refuse(&op.span, instead))
    }
}

const UNICODE_CLASS: &str = "the characters themselves, as [a-z]";

fn apply(source: &str, edits: &[(Range<usize>, &'static str)]) -> String {
    let mut edits = edits.to_vec();
    edits.sort_by_key(|(range, _)| range.start);
    let mut text = String::with_capacity(source.len());
    let mut done = 0;
    for (range, replacement) in edits {
        text.push_str(source.get(done..range.start).unwrap_or_default());
        text.push_str(replacement);
        done = range.end;
    }
    text.push_str(source.get(done..).unwrap_or_default());
    text
}

/// Whether a search could begin only where the string does: `^…`, or `.*…`, which a search may as well stretch.
fn is_bound_at_start(hir: &Hir) -> bool {
    hir.properties().look_set_prefix().contains(Look::Start)
        || first_and_last(hir).is_some_and(|(first, _)| is_open(first))
}

fn is_bound_at_end(hir: &Hir) -> bool {
    hir.properties().look_set_suffix().contains(Look::End)
        || first_and_last(hir).is_some_and(|(_, last)| is_open(last))
}

fn first_and_last(hir: &Hir) -> Option<(&Hir, &Hir)> {
    if let HirKind::Concat(parts) = hir.kind() {
        Some((parts.first()?, parts.last()?))
    } else {
        Some((hir, hir))
    }
}

/// `.*` and `.+`. No identity holds the line break at which these stop.
fn is_open(hir: &Hir) -> bool {
    let HirKind::Repetition(repetition) = hir.kind() else {
        return false;
    };
    let HirKind::Class(Class::Unicode(class)) = repetition.sub.kind() else {
        return false;
    };
    let mut but_line_break = class.clone();
    but_line_break.negate();
    repetition.min <= 1
        && repetition.max.is_none()
        && but_line_break
            .ranges()
            .iter()
            .all(|range| range.start() == '\n' && range.end() == '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        WholeMatch::parse(pattern).unwrap().matches(text)
    }

    #[test]
    fn the_whole_string_must_match() {
        let pattern = "https://github.com/org/.*@refs/heads/main";
        assert!(matches(
            pattern,
            "https://github.com/org/repo/.github/workflows/a.yaml@refs/heads/main"
        ));
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
        for pattern in [
            "****", "(a", "a)", "a)|(b", "[", r"\Qa\E", r"\C", r"a\", "(?=a)", r"(a)\1", "a{2,1}",
            "a{,3}", r"\Z",
        ] {
            let error = WholeMatch::parse(pattern).unwrap_err();
            assert!(
                matches!(error, PatternError::DoesNotParse { .. }),
                "{pattern}: {error:?}"
            );
        }
    }

    #[test]
    fn what_would_not_fit_into_memory_is_refused() {
        let error = WholeMatch::parse("((a{1000}){1000}){1000}").unwrap_err();
        assert!(matches!(error, PatternError::TooLarge { .. }), "{error:?}");
        assert!(WholeMatch::parse(&"(".repeat(100_000)).is_err());
        assert!(
            WholeMatch::parse(&format!("{}{}", "(".repeat(10_000), ")".repeat(10_000))).is_err()
        );
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
            assert_eq!(
                WholeMatch::parse(pattern).unwrap().is_looser_in_cluster(),
                looser,
                "{pattern}"
            );
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
}
