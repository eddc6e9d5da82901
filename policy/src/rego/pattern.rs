//! The patterns that a rule matches with. OPA's regular expressions are RE2, its globs are gobwas'; this engine has others.
//!
//! What both read alike is taken. What they would read differently is found when the policy is loaded, where the text writes
//! the pattern out, and ends the evaluation where it is computed, lest `not` make a yes of it.

use regex_syntax::hir::Hir;
use regorus::{
    Value,
    unstable::{Expr, Ref},
};

use super::{
    RegoError,
    builtins::{Beyond, Bounded},
    reference::Reference,
};
use crate::{
    identity::{PatternError, WholeMatch},
    refusal::told,
};

/// The functions that take a pattern, and what of it this engine answers as OPA does.
pub(super) const MATCHING: [Bounded; 7] = [
    ("glob.match", 3, glob_is_plain),
    ("regex.find_all_string_submatch_n", 3, first_is_searched_for_alike),
    ("regex.find_n", 3, first_is_searched_for_alike),
    ("regex.is_valid", 1, first_is_read_alike),
    ("regex.match", 2, first_is_searched_for_alike),
    ("regex.replace", 3, second_is_replaced_alike),
    ("regex.split", 2, first_is_split_at_alike),
];

const DIFFERS: Beyond = Beyond("a regular expression that the controller (RE2) reads differently or not at all");
const RE2: &str = "write a regular expression of RE2";
/// ASCII in RE2, Unicode in this engine.
const OF_AN_ALPHABET: [&str; 7] = [r"\b", r"\d", r"\D", r"\s", r"\S", r"\w", r"\W"];

/// Why the pattern of a call is refused, where the text writes it out.
pub(super) fn fault(function: &Expr, arguments: &[Ref<Expr>]) -> Option<RegoError> {
    let name = Reference::of(function)?.path()?.join(".");
    MATCHING.iter().find(|(matching, ..)| *matching == name)?;
    let argument = arguments.get(usize::from(name == "regex.replace"))?;
    let (Expr::String { value: Value::String(written), .. } | Expr::RawString { value: Value::String(written), .. }) =
        &**argument
    else {
        return None;
    };
    let (what, hint) = if name == "glob.match" { of_glob(written) } else { of_regex(written) }?;
    Some(RegoError::at(argument.span().line, what, &hint))
}

fn of_glob(written: &str) -> Option<(String, String)> {
    let what = || format!("has the glob \"{}\", which the controller may read differently", told(written));
    let hint = || "write a glob of characters and single *, or several of them, or regex.match".to_owned();
    (!is_plain(written)).then(|| (what(), hint()))
}

fn of_regex(written: &str) -> Option<(String, String)> {
    let error = WholeMatch::parse(written).err()?;
    if let PatternError::Differs { written, instead } = error {
        let what = "has a regular expression that does not mean the same to the controller (RE2), with";
        return Some((format!("{what} \"{}\"", told(&written)), format!("write {instead}")));
    }
    Some((format!("has a regular expression that {}", told(&error.to_string())), RE2.to_owned()))
}

fn text(given: &[Value], at: usize) -> Option<&str> {
    given.get(at)?.as_string().ok().map(|text| &**text)
}

fn first_is_read_alike(given: &[Value]) -> Result<(), Beyond> {
    text(given, 0).map_or(Ok(()), |pattern| WholeMatch::parse(pattern).map(drop).map_err(|_| DIFFERS))
}

fn first_is_searched_for_alike(given: &[Value]) -> Result<(), Beyond> {
    first_is_read_alike(given)?;
    searched_alike(text(given, 0), text(given, 1))
}

fn first_is_split_at_alike(given: &[Value]) -> Result<(), Beyond> {
    first_is_searched_for_alike(given)?;
    match text(given, 0) {
        Some(pattern) if may_be_empty(pattern) => Err(Beyond("regex.split at what may be nothing")),
        _ => Ok(()),
    }
}

fn second_is_replaced_alike(given: &[Value]) -> Result<(), Beyond> {
    first_is_read_alike(given.get(1..).unwrap_or_default())?;
    searched_alike(text(given, 1), text(given, 0))
}

/// A text of ASCII has the same digits, spaces and words in any alphabet, but for the vertical tab.
fn searched_alike(pattern: Option<&str>, text: Option<&str>) -> Result<(), Beyond> {
    let (Some(pattern), Some(text)) = (pattern, text) else {
        return Ok(());
    };
    let asks_for_one = OF_AN_ALPHABET.iter().any(|class| pattern.contains(class));
    if asks_for_one && text.bytes().any(|byte| !byte.is_ascii() || byte == 0x0b) {
        return Err(Beyond(r"\b, \d, \s or \w in a regular expression asked of a text that is not ASCII"));
    }
    Ok(())
}

fn may_be_empty(pattern: &str) -> bool {
    let length = |hir: Hir| hir.properties().minimum_len();
    regex_syntax::parse(pattern).ok().and_then(length).is_none_or(|length| length == 0)
}

/// A glob of characters that stand for themselves and of single `*`.
fn is_plain(glob: &str) -> bool {
    glob.chars().all(|c| c != '\0' && !r"?[]{}\".contains(c)) && !glob.contains("**")
}

fn glob_is_plain(given: &[Value]) -> Result<(), Beyond> {
    let (Some(glob), Some(matched)) = (text(given, 0), text(given, 2)) else {
        return Ok(());
    };
    if !is_plain(glob) {
        return Err(Beyond("a glob that the controller may read differently"));
    }
    if !given.get(1).is_some_and(is_plain_delimiter) {
        return Err(Beyond("glob.match with delimiters other than null, [] or a single one, not a colon"));
    }
    // gobwas lets the ends of a glob overlap.
    let (Some((first, _)), Some((_, last))) = (glob.split_once('*'), glob.rsplit_once('*')) else {
        return Ok(());
    };
    if matched.len() < first.len() + last.len() && matched.starts_with(first) && matched.ends_with(last) {
        return Err(Beyond("glob.match of a text in which the beginning and the end of the glob overlap"));
    }
    Ok(())
}

fn is_plain_delimiter(delimiters: &Value) -> bool {
    let Value::Array(delimiters) = delimiters else {
        return *delimiters == Value::Null;
    };
    let plain = |delimiter: &Value| {
        delimiter.as_string().is_ok_and(|text| text.len() == 1 && text.is_ascii() && !":*\0".contains(&**text))
    };
    delimiters.len() < 2 && delimiters.iter().all(plain)
}
