//! What is asked for within a repository.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Digest, NameError};

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let rest = |b: u8| first(b) || b == b'.' || b == b'-';
        let mut bytes = text.bytes();
        let good = text.len() <= 128 && bytes.next().is_some_and(first) && bytes.all(rest);
        if !good {
            return Err(NameError::new("tag", text, "1 to 128 of letters, digits, _ . -, not beginning with . or -"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Tag {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0.into()
    }
}

/// A tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// Resolved upstream, moves.
    Tag(Tag),
    /// Itself.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    /// What contains a colon can only be a digest: no tag has one.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') { text.parse().map(Self::Digest) } else { text.parse().map(Self::Tag) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_the_specification() {
        let longest = "a".repeat(128);
        let hex = "a".repeat(64);
        for good in ["latest", "_x", "1.2.3-r0", "A", &longest, &format!("sha256-{hex}.sig")] {
            assert!(good.parse::<Tag>().is_ok(), "{good} was refused");
        }
        let too_long = "a".repeat(129);
        for bad in ["", ".a", "-a", "a:b", "a/b", "a b", "a\n", "ä", "a%41", &too_long] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn what_has_a_colon_is_a_digest_or_nothing() {
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
        let digest = Digest::sha256(b"").to_string();
        assert!(matches!(digest.parse(), Ok(Reference::Digest(_))));
        assert_eq!("sha256:bad".parse::<Reference>().unwrap_err().noun(), "digest");
    }
}
