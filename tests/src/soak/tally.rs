//! What a campaign found.

use std::fmt;

/// Where a campaign tells what it sees, line by line, as it goes.
pub type Say = fn(&str);

/// Counts what held, and keeps in words what did not.
#[derive(Debug, Default)]
pub struct Tally {
    passed: u64,
    failures: Vec<String>,
}

impl Tally {
    /// One more thing was looked at.
    pub fn count(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(failure) => self.failures.push(failure),
        }
    }

    /// It had to be so.
    pub fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.count(if holds { Ok(()) } else { Err(otherwise()) });
    }

    /// And what somebody else counted.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }

    /// How many things held.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// What did not.
    #[must_use]
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Something was looked at, and all of it held.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.passed > 0 && self.failures.is_empty()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())
    }
}
