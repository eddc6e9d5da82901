//! Regular expressions as policies write them (RE2), matched against a whole string.
//!
//! Policies are written for RE2; the engine here is another. What both read alike is taken as it is, `\d \w \s \b`
//! are rewritten to the ASCII meaning that RE2 gives them, and whatever the two would read differently is refused.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use regex_syntax::{
    ast::{
        self, AssertionKind, Ast, ClassPerlKind, ClassSetBinaryOp, ClassSetBinaryOpKind, ClassSetItem, Flag, Flags,
        FlagsItemKind, GroupKind, HexLiteralKind, LiteralKind, RepetitionKind, RepetitionRange, Span, Visitor,
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
        let ast = ast::parse::Parser::new()
            .parse(source)
            .map_err(|error| PatternError::DoesNotParse { why: error.kind().to_string() })?;
        let edits = ast::visit(&ast, Translation { source, edits: Vec::new() })?;
        let translated = apply(source, &edits);
        let hir =
            regex_syntax::parse(&translated).map_err(|_| PatternError::TooLarge { bytes_max: PROGRAM_BYTES_MAX })?;
        let regex = RegexBuilder::new(&format!(r"\A(?:{translated})\z"))
            .size_limit(PROGRAM_BYTES_MAX)
            .build()
            .map_err(|_| PatternError::TooLarge { bytes_max: PROGRAM_BYTES_MAX })?;
        let looser_in_cluster = !(is_bound_at_start(&hir) && is_bound_at_end(&hir));
        Ok(Self { source: source.to_owned(), regex, looser_in_cluster })
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
        let written = self.source.get(span.start.offset..span.end.offset).unwrap_or(self.source);
        PatternError::Differs { written: written.to_owned(), instead }
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
                    Flag::CaseInsensitive | Flag::MultiLine | Flag::DotMatchesNewLine | Flag::SwapGreed,
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
            AssertionKind::StartLine | AssertionKind::EndLine | AssertionKind::StartText | AssertionKind::EndText => {}
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
                return Err(
                    self.refuse(&assertion.span, r"\b for a word boundary, or the character without a backslash")
                );
            }
        }
        Ok(())
    }

    fn repetition(&self, repetition: &ast::Repetition) -> Result<(), PatternError> {
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return Err(self.refuse(&repetition.span, "one repetition operator, or a group around the inner one"));
        }
        let count = match &repetition.op.kind {
            RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => 0,
            RepetitionKind::Range(
                RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n) | RepetitionRange::Bounded(_, n),
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
            Ast::Empty(_) | Ast::Dot(_) | Ast::ClassBracketed(_) | Ast::Alternation(_) | Ast::Concat(_) => {}
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
    hir.properties().look_set_suffix().contains(Look::End) || first_and_last(hir).is_some_and(|(_, last)| is_open(last))
}

fn first_and_last(hir: &Hir) -> Option<(&Hir, &Hir)> {
    if let HirKind::Concat(parts) = hir.kind() { Some((parts.first()?, parts.last()?)) } else { Some((hir, hir)) }
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
        && but_line_break.ranges().iter().all(|range| range.start() == '\n' && range.end() == '\n')
}

#[cfg(test)]
mod tests;
