//! Whose certificate is accepted: issuer and subject, each exact or by pattern.

mod pattern;

use std::fmt;

pub use pattern::{PatternError, WholeMatch};

/// An accepted signer: issuer **and** subject must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The OIDC issuer that vouched for the signer.
    pub issuer: Pattern,
    /// The subject alternative name of the certificate.
    pub subject: Pattern,
}

impl Identity {
    /// Whether both halves match.
    #[must_use]
    pub fn matches(&self, issuer: &str, subject: &str) -> bool {
        self.issuer.matches(issuer) && self.subject.matches(subject)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "issuer {}, subject {}", self.issuer, self.subject)
    }
}

/// What one half of an identity must be. Either form asks for the whole string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Equal, byte for byte.
    Exact(String),
    /// Matched from first to last character.
    Regex(WholeMatch),
}

impl Pattern {
    /// Whether the whole of `text` is what this pattern asks for.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == text,
            Self::Regex(regex) => regex.matches(text),
        }
    }

    /// The pattern as the policy spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(wanted) => wanted,
            Self::Regex(regex) => regex.as_str(),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(wanted) => write!(f, "\"{wanted}\""),
            Self::Regex(regex) => write!(f, "matching \"{}\"", regex.as_str()),
        }
    }
}
