//! What is wrong with a configuration: where, what was wanted, what was written, and a way out.

use std::{fmt, io, path::PathBuf};

/// Why a configuration, or a file that it names, could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    #[error("{}: could not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than its limit.
    #[error("{}: want at most {bytes_max} bytes, got more", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// A file is not UTF-8 text.
    #[error("{}: want UTF-8 text, got other bytes from byte {valid_up_to} on", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// How many bytes are text.
        valid_up_to: usize,
    },
    /// A file that must hold something is empty.
    #[error("{}: want {expected}, got an empty file", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What belongs into it.
        expected: &'static str,
    },
    /// The configuration file is not TOML.
    #[error("{}:{line}: not TOML: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser found.
        problem: String,
    },
    /// An environment variable of ours is not UTF-8.
    #[error("{name}: want UTF-8 text, got other bytes")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// A variable that is not ours alone, such as `HTTPS_PROXY` or one of cosign's, says something it cannot mean.
    #[error("{name}: want {expected}, got {written}")]
    Variable {
        /// The variable.
        name: String,
        /// What it may be.
        expected: String,
        /// What it is, quoted.
        written: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key")]
    Unknown {
        /// Where.
        place: Box<Place>,
        /// The key that may have been meant.
        hint: Option<String>,
    },
    /// A key that must be there and is not.
    #[error("{place}: want {expected}, got nothing")]
    Missing {
        /// Where.
        place: Box<Place>,
        /// What belongs there.
        expected: String,
        /// A way out.
        hint: Option<String>,
    },
    /// A value that the key does not take.
    #[error("{place}: want {expected}, got {written}")]
    Unexpected {
        /// Where.
        place: Box<Place>,
        /// What belongs there.
        expected: String,
        /// What stands there, without secrets.
        written: String,
        /// A way out.
        hint: Option<String>,
    },
    /// Two keys that do not go together.
    #[error("{place}: {problem}")]
    Conflict {
        /// Where.
        place: Box<Place>,
        /// What does not go together.
        problem: String,
        /// A way out.
        hint: Option<String>,
    },
}

impl ConfigError {
    /// Advice, for a line of its own after the error (`hint: …`).
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Unknown { hint, .. }
            | Self::Missing { hint, .. }
            | Self::Unexpected { hint, .. }
            | Self::Conflict { hint, .. } => hint.as_deref(),
            Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::NotText { .. }
            | Self::Empty { .. }
            | Self::Syntax { .. }
            | Self::Variable { .. }
            | Self::NotUnicode { .. } => None,
        }
    }
}

/// A key and who wrote it. Displays as the operator would look for it: `pratique.toml: tags.ttl`, `PRATIQUE_TAGS__TTL`, `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who wrote the key.
    pub origin: Origin,
    /// The key with its sections, such as `tags.ttl` or `upstreams[1].url`.
    pub key: String,
}

/// Who wrote a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is the default, or absent.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// A `PRATIQUE_*` variable.
    Environment,
    /// A flag of `pratique serve`.
    Flags,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => f.write_str(&self.key),
            Origin::File(path) => write!(f, "{}: {}", path.display(), self.key),
            Origin::Environment => match self.key.split_once('[') {
                None => f.write_str(&variable(&self.key)),
                Some((list, _)) => write!(f, "{}: {}", variable(list), self.key),
            },
            Origin::Flags => f.write_str(match self.key.split('[').next().unwrap_or_default() {
                "storage.path" => "--storage",
                "policy.files" => "--policy",
                _ => "--listen",
            }),
        }
    }
}

/// The environment variable that sets `key`.
fn variable(key: &str) -> String {
    format!("PRATIQUE_{}", key.replace('.', "__").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_as_the_operator_would_search_for_it() {
        let show = |origin, key: &str| Place { origin, key: key.into() }.to_string();
        assert_eq!(show(Origin::Default, "tags.ttl"), "tags.ttl");
        assert_eq!(show(Origin::File("a/p.toml".into()), "tags.ttl"), "a/p.toml: tags.ttl");
        assert_eq!(show(Origin::Environment, "tags.ttl"), "PRATIQUE_TAGS__TTL");
        assert_eq!(show(Origin::Environment, "upstreams[1].url"), "PRATIQUE_UPSTREAMS: upstreams[1].url");
        assert_eq!(show(Origin::Flags, "listen"), "--listen");
        assert_eq!(show(Origin::Flags, "policy.files[0]"), "--policy");
        assert_eq!(show(Origin::Flags, "storage.path"), "--storage");
    }
}
