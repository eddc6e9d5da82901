//! Which images a policy governs: globs over `<canonical repository>@<digest>`.
//!
//! `**` stands for any characters, `*` for any but `/` (it does cross `:` and `@`), all else for itself; the whole
//! string must match. A glob that can match no image is refused, with the glob to write instead.

mod possible;
mod suggestion;

use std::fmt;

use oci::UpstreamName;
use regex::Regex;

use possible::Possible;

/// Longer than any image's name with its digest and wildcards between.
const GLOB_BYTES_MAX: usize = 1024;

/// A glob that can match some image.
#[derive(Debug, Clone)]
pub struct Glob {
    source: String,
    regex: Regex,
    possible: Possible,
}

/// A piece of a glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(u8),
    /// `*`
    WithinSegment,
    /// `**`
    Anything,
}

impl Glob {
    /// Parses a glob. `upstreams` are the hosts that need neither dot nor port to be known as hosts.
    ///
    /// # Errors
    ///
    /// When it is empty, has characters that no glob can have, or can match no image.
    pub fn parse(source: &str, upstreams: &[UpstreamName]) -> Result<Self, GlobError> {
        if source.is_empty() {
            return Err(GlobError::Empty);
        }
        if source.len() > GLOB_BYTES_MAX {
            return Err(GlobError::TooLong { bytes: source.len(), bytes_max: GLOB_BYTES_MAX });
        }
        if let Some(character) = source.chars().find(|c| !is_allowed(*c)) {
            return Err(GlobError::Character { written: source.to_owned(), character });
        }
        let tokens = tokens(expanded(source));
        let regex = compile(&tokens);
        let possible = Possible::new(tokens);
        if !possible.can_match_an_image(upstreams) {
            let instead = suggestion::instead_of(source, upstreams);
            return Err(GlobError::MatchesNothing { written: source.to_owned(), instead });
        }
        Ok(Self { source: source.to_owned(), regex, possible })
    }

    /// The glob as the policy writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it matches `<canonical repository>@<digest>`.
    #[must_use]
    pub fn matches(&self, image: &str) -> bool {
        self.regex.is_match(image)
    }

    /// Whether it can match some digest of a repository, given by its canonical name.
    #[must_use]
    pub fn may_match_repository(&self, repository: &str) -> bool {
        self.possible.can_match_a_digest_of(repository)
    }

    /// Whether it can match some image of this upstream.
    pub(crate) fn may_match_upstream(&self, upstream: &UpstreamName) -> bool {
        self.possible.can_match_an_image_of(upstream.canonical())
    }

    /// The host, where a wildcard follows it with no `/` between: `ghcr.io**` matches images of `ghcr.io.evil.example`.
    pub(crate) fn open_ended_host(&self) -> Option<&str> {
        let first_segment = self.source.split('/').next().unwrap_or_default();
        let (host, _) = first_segment.split_once('*')?;
        (!host.is_empty()).then_some(host)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Why a glob is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// Nothing is written.
    #[error("is empty; expected a glob over <upstream>/<path>@<digest>")]
    Empty,
    /// Longer than what it could match.
    #[error("is {bytes} bytes long; at most {bytes_max} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A character that no glob can have.
    #[error("{written:?} holds {character:?}; expected letters, digits and - _ : / * . @")]
    Character {
        /// The glob.
        written: String,
        /// The first such character.
        character: char,
    },
    /// No image has a name that it matches.
    #[error("\"{written}\" can match no image: what is matched is <upstream>/<path>@<digest>, never a tag")]
    MatchesNothing {
        /// The glob.
        written: String,
        /// What its author may have meant.
        instead: Option<String>,
    },
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_:/*.@".contains(character)
}

/// The two globs that have a default host.
fn expanded(source: &str) -> &str {
    match source {
        "*" => "index.docker.io/library/*",
        "*/*" => "index.docker.io/*/*",
        other => other,
    }
}

/// `**` is read from left to right, so `***` is `**` and `*`: as any row of stars but one, it stands for anything.
fn tokens(glob: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(glob.len());
    for byte in glob.bytes() {
        match (byte, tokens.last_mut()) {
            (b'*', Some(last @ (Token::WithinSegment | Token::Anything))) => {
                *last = Token::Anything;
            }
            (b'*', _) => tokens.push(Token::WithinSegment),
            _ => tokens.push(Token::Literal(byte)),
        }
    }
    tokens
}

fn compile(tokens: &[Token]) -> Regex {
    let mut pattern = String::from(r"\A");
    for token in tokens {
        match token {
            Token::Literal(byte) => {
                pattern.push_str(&regex::escape(char::from(*byte).encode_utf8(&mut [0; 4])));
            }
            Token::WithinSegment => pattern.push_str("[^/]*"),
            Token::Anything => pattern.push_str("(?s:.*)"),
        }
    }
    pattern.push_str(r"\z");
    Regex::new(&pattern).expect("escaped literals and two fixed expressions compile, and a glob's length is limited")
}

#[cfg(test)]
mod tests;
