//! What a glob could match at all: the glob and the grammar of image names, walked side by side.

use std::collections::BTreeSet;

use oci::UpstreamName;

use super::Token;

/// A glob's tokens, with what is needed to ask what they could match.
#[derive(Debug, Clone)]
pub(super) struct Possible {
    tokens: Vec<Token>,
    /// For each position, whether the tokens from there on match some digest.
    digest_fits: Vec<bool>,
}

impl Possible {
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        let digest_fits = digest_fits(&tokens);
        Self { tokens, digest_fits }
    }

    /// Whether some `<host>/<path>@<digest>` matches.
    pub(super) fn can_match_an_image(&self, upstreams: &[UpstreamName]) -> bool {
        match literal_host(&self.tokens).as_deref() {
            // the canonical name is another
            Some("docker.io" | "registry-1.docker.io") => false,
            Some(DOCKER_HUB) => self.can_match_an_image_of(DOCKER_HUB),
            _ => {
                self.reaches_a_digest(self.start(), Place::HostStart { qualified: false })
                    || self.can_match_an_image_of("localhost")
                    || upstreams.iter().any(|upstream| self.can_match_an_image_of(upstream.canonical()))
            }
        }
    }

    /// Whether some image of this host matches; the host is given by its canonical name.
    pub(super) fn can_match_an_image_of(&self, host: &str) -> bool {
        let positions = host.bytes().chain([b'/']).fold(self.start(), |positions, byte| self.after(&positions, byte));
        self.reaches_a_digest(positions, Place::ComponentStart { enough: host != DOCKER_HUB })
    }

    /// Whether some digest of this repository matches; the repository is given by its canonical name.
    pub(super) fn can_match_a_digest_of(&self, repository: &str) -> bool {
        let ends = repository.bytes().chain([b'@']).fold(self.start(), |positions, byte| self.after(&positions, byte));
        self.reaches_a_digest(ends, Place::Digest)
    }

    /// Positions when nothing is consumed yet.
    fn start(&self) -> BTreeSet<usize> {
        self.with_skipped(0).collect()
    }

    /// Positions when one more byte is consumed.
    fn after(&self, positions: &BTreeSet<usize>, byte: u8) -> BTreeSet<usize> {
        let next = positions.iter().filter_map(|position| step(&self.tokens, *position, byte));
        next.flat_map(|position| self.with_skipped(position)).collect()
    }

    /// A wildcard may stand for nothing: the position behind it is reached with it. (Never two wildcards in a row.)
    fn with_skipped(&self, position: usize) -> impl Iterator<Item = usize> + use<> {
        let behind = is_wildcard(&self.tokens, position).then_some(position + 1);
        std::iter::once(position).chain(behind)
    }

    /// Whether a name that stands at `place`, with the glob at one of `positions`, can be carried on to a digest.
    fn reaches_a_digest(&self, positions: BTreeSet<usize>, place: Place) -> bool {
        let mut seen: BTreeSet<_> = positions.into_iter().map(|position| (position, place)).collect();
        let mut open: Vec<_> = seen.iter().copied().collect();
        while let Some((position, place)) = open.pop() {
            if place == Place::Digest {
                if self.digest_fits.get(position).copied().unwrap_or(false) {
                    return true;
                }
                continue;
            }
            for byte in bytes_to_try(&self.tokens, position) {
                let (Some(next), Some(place)) = (step(&self.tokens, position, *byte), place.after(*byte)) else {
                    continue;
                };
                open.extend(self.with_skipped(next).map(|next| (next, place)).filter(|state| seen.insert(*state)));
            }
        }
        false
    }
}

const DOCKER_HUB: &str = "index.docker.io";
/// One byte of each kind that names tell apart before their digest.
const KINDS_OF_BYTES: &[u8] = b"a0.-_:/@";
const HEX_BYTES: &[u8] = b"0123456789abcdef";
/// Algorithm with its colon, and how many digits follow.
const ALGORITHMS: [(&str, usize); 2] = [("sha256:", 64), ("sha512:", 128)];

fn is_wildcard(tokens: &[Token], position: usize) -> bool {
    matches!(tokens.get(position), Some(Token::WithinSegment | Token::Anything))
}

fn step(tokens: &[Token], position: usize, byte: u8) -> Option<usize> {
    match tokens.get(position)? {
        Token::Literal(wanted) => (*wanted == byte).then_some(position + 1),
        Token::WithinSegment => (byte != b'/').then_some(position),
        Token::Anything => Some(position),
    }
}

/// What may stand at a position: a wildcard takes one byte of a kind like any other of it.
fn bytes_to_try(tokens: &[Token], position: usize) -> &[u8] {
    match tokens.get(position) {
        Some(Token::Literal(byte)) => std::slice::from_ref(byte),
        Some(Token::WithinSegment | Token::Anything) => KINDS_OF_BYTES,
        None => &[],
    }
}

fn literal_host(tokens: &[Token]) -> Option<String> {
    let mut host = String::new();
    for token in tokens {
        match token {
            Token::Literal(b'/') => return Some(host),
            Token::Literal(byte) => host.push(char::from(*byte)),
            Token::WithinSegment | Token::Anything => return None,
        }
    }
    None
}

fn digest_fits(tokens: &[Token]) -> Vec<bool> {
    let mut fits = vec![false; tokens.len() + 1];
    for (algorithm, hex_len) in ALGORITHMS {
        // from a digest's last byte to its first: the positions from which all later bytes can be matched
        let mut later = positions(tokens, |position| position == tokens.len());
        let hex = std::iter::repeat_n(HEX_BYTES, hex_len);
        for bytes in hex.chain(algorithm.as_bytes().chunks(1).rev()) {
            later = positions(tokens, |position| {
                bytes.iter().filter_map(|byte| step(tokens, position, *byte)).any(|next| later.get(next) == Some(&true))
            });
        }
        fits = fits.iter().zip(later).map(|(before, now)| *before || now).collect();
    }
    fits
}

/// The positions at which `holds`, or that a wildcard standing for nothing leads on to.
fn positions(tokens: &[Token], holds: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut behind = false;
    let mut found: Vec<bool> = (0..=tokens.len())
        .rev()
        .map(|position| {
            behind = holds(position) || behind && is_wildcard(tokens, position);
            behind
        })
        .collect();
    found.reverse();
    found
}

/// Where one is within an image's name. `qualified`: the host has a dot, so that it is known as a host. `enough`: the
/// path has as many components as its host asks for, once the current one ends (Docker Hub's have two).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    HostStart { qualified: bool },
    Host { qualified: bool },
    HostDash { qualified: bool },
    PortStart,
    Port,
    ComponentStart { enough: bool },
    Component { enough: bool },
    AfterDot { enough: bool },
    AfterUnderscore { enough: bool },
    AfterUnderscores { enough: bool },
    AfterDash { enough: bool },
    Digest,
}

impl Place {
    fn after(self, byte: u8) -> Option<Self> {
        match self {
            Self::HostStart { .. } | Self::Host { .. } | Self::HostDash { .. } | Self::PortStart | Self::Port => {
                self.after_in_host(byte)
            }
            Self::ComponentStart { enough }
            | Self::Component { enough }
            | Self::AfterDot { enough }
            | Self::AfterUnderscore { enough }
            | Self::AfterUnderscores { enough }
            | Self::AfterDash { enough } => self.after_in_path(enough, byte),
            Self::Digest => None,
        }
    }

    fn after_in_host(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (
                Self::HostStart { qualified } | Self::Host { qualified } | Self::HostDash { qualified },
                b'a'..=b'z' | b'0'..=b'9',
            ) => Some(Self::Host { qualified }),
            (Self::Host { qualified } | Self::HostDash { qualified }, b'-') => Some(Self::HostDash { qualified }),
            (Self::Host { .. }, b'.') => Some(Self::HostStart { qualified: true }),
            (Self::Host { .. }, b':') => Some(Self::PortStart),
            (Self::PortStart | Self::Port, b'0'..=b'9') => Some(Self::Port),
            (Self::Host { qualified: true } | Self::Port, b'/') => Some(Self::ComponentStart { enough: true }),
            _ => None,
        }
    }

    fn after_in_path(self, enough: bool, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Component { .. }, b'.') => Some(Self::AfterDot { enough }),
            (Self::Component { .. }, b'_') => Some(Self::AfterUnderscore { enough }),
            (Self::AfterUnderscore { .. }, b'_') => Some(Self::AfterUnderscores { enough }),
            (Self::Component { .. } | Self::AfterDash { .. }, b'-') => Some(Self::AfterDash { enough }),
            (Self::Component { .. }, b'/') => Some(Self::ComponentStart { enough: true }),
            (Self::Component { .. }, b'@') if enough => Some(Self::Digest),
            (_, b'a'..=b'z' | b'0'..=b'9') => Some(Self::Component { enough }),
            _ => None,
        }
    }
}
