//! Collects what is found while a file is read.

use std::sync::Arc;

use super::LoadError;
use crate::policy_set::Place;

/// More flaws than anybody reads at once.
const ERRORS_MAX: usize = 100;
/// How much of a value is repeated in a message.
const SHOWN_CHARS_MAX: usize = 120;

/// The flaws and notes of one file.
pub(super) struct Report {
    file: Arc<str>,
    errors: Vec<LoadError>,
    notes: Vec<String>,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self { file: Arc::from(file), errors: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn place(&self, line: u64) -> Place {
        Place { file: Arc::clone(&self.file), line }
    }

    /// `what` is one clause: what is written, and what is expected.
    pub(super) fn error(&mut self, line: u64, field: &str, what: impl AsRef<str>, hint: Option<&str>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(LoadError {
                place: self.place(line),
                field: field.to_owned(),
                what: on_one_line(what.as_ref()),
                hint: hint.map(str::to_owned),
            });
        }
    }

    /// A line for the start-up log.
    pub(super) fn note(&mut self, line: u64, field: &str, what: &str) {
        self.notes.push(format!("{}: {field}: {what}", self.place(line)));
    }

    /// A weakening in force: a line that is recognised by its first word, as the configuration's are.
    pub(super) fn weakened(&mut self, line: u64, field: &str, what: &str) {
        self.notes.push(format!("weakened: {}: {field}: {what}", self.place(line)));
    }

    pub(super) fn is_flawless(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn into_parts(self) -> (Vec<LoadError>, Vec<String>) {
        (self.errors, self.notes)
    }
}

/// A value as a message repeats it: in quotes, on one line, not too long.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", on_one_line(&start))
}

/// Line breaks and other characters that a terminal would act on are spelled out.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => line.push(character),
            _ => line.extend(character.escape_debug()),
        }
    }
    line
}
