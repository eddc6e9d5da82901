//! Names that are not what the specification allows.

use std::fmt;

/// A name, tag or digest that cannot be one. Carries what was written, shortened and escaped, so that it can be shown to a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError {
    noun: &'static str,
    written: String,
    expected: &'static str,
}

/// How much of a malformed name is repeated in its error.
const SHOWN_CHARS_MAX: usize = 80;

impl NameError {
    pub(crate) fn new(noun: &'static str, written: &str, expected: &'static str) -> Self {
        let mut shown: String = written.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_default).collect();
        if written.chars().nth(SHOWN_CHARS_MAX).is_some() {
            shown.push('…');
        }
        Self { noun, written: shown, expected }
    }

    /// What the text was meant to be: `digest`, `tag`, `repository path`, `upstream name`.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        self.noun
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a {}: want {}", self.written, self.noun, self.expected)
    }
}

impl std::error::Error for NameError {}
