//! What the start-up log says about a configuration.

/// Lines for the start-up log, in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<String>);

impl Notes {
    /// Something that was decided for the operator.
    pub(crate) fn told(&mut self, line: impl Into<String>) {
        self.0.push(line.into());
    }

    /// A weakening in force: one line each, recognisable by its first word.
    pub(crate) fn weakened(&mut self, line: impl AsRef<str>) {
        self.0.push(format!("weakened: {}", line.as_ref()));
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0
    }
}
