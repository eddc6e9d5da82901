//! Why a text is no rule that can be honoured, and where.

use std::{error::Error, fmt};

use crate::refusal::told;

/// Why a rule cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegoError {
    /// Of the Rego text, from 1; 0 where it is about the text as a whole.
    pub line: u32,
    /// One clause. Foreign text in it is escaped and bounded.
    pub what: String,
    /// The way out.
    pub hint: String,
}

impl RegoError {
    /// About the text as a whole.
    pub(super) fn whole(what: impl Into<String>, hint: &str) -> Self {
        Self::at(0, what, hint)
    }

    pub(super) fn at(line: u32, what: impl Into<String>, hint: &str) -> Self {
        Self { line, what: what.into(), hint: hint.to_owned() }
    }

    /// What the engine says: it draws the line of the text, puts the place above it and its clause below.
    pub(super) fn of_engine(error: &(dyn Error + 'static)) -> Self {
        let said = error.to_string();
        let line = said.split_once("--> ").and_then(|(_, place)| place.lines().next()?.split(':').nth(1)?.parse().ok());
        let clause = said.rsplit_once("error: ").map_or(said.as_str(), |(_, clause)| clause);
        Self::at(
            line.unwrap_or(0),
            told(clause.trim()),
            "the text is read as Rego v0, as the controller does; `import rego.v1` makes it v1",
        )
    }
}

impl fmt::Display for RegoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl Error for RegoError {}
