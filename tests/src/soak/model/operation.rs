//! What clients ask for: anything that there is, in every way in which it can be asked for, and much that they should not get.

use std::{ops::Range, time::Duration};

use http::Method;
use oci::Digest;

use super::{
    client::{Asked, Reading},
    world::{Held, World, prefix},
};
use crate::soak::Random;

/// What a request is about.
#[derive(Debug, Clone)]
pub struct Operation {
    /// At which upstream.
    pub upstream: usize,
    /// In which repository.
    pub repository: &'static str,
    /// What of it.
    pub what: What,
    /// How.
    pub method: Method,
    /// With which `Range`.
    pub range: Option<Vec<Span>>,
    /// What the client says that it holds already.
    pub holds: Option<Digest>,
    /// How the answer is read.
    pub reading: Reading,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A manifest by tag.
    Tag(String),
    /// A manifest by digest.
    Manifest(Digest),
    /// A blob.
    Blob(Digest),
    /// What refers to a manifest.
    Referrers(Digest),
    /// The tags.
    Tags,
}

/// One range as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// `a-b`
    FromTo(u64, u64),
    /// `a-`
    From(u64),
    /// `-n`
    Last(u64),
}

impl Span {
    fn written(self) -> String {
        match self {
            Self::FromTo(first, last) => format!("{first}-{last}"),
            Self::From(first) => format!("{first}-"),
            Self::Last(many) => format!("-{many}"),
        }
    }

    /// Which bytes of `size` are meant; none where none are there.
    pub fn of(self, size: u64) -> Range<u64> {
        match self {
            Self::FromTo(first, last) => first.min(size)..(last + 1).min(size),
            Self::From(first) => first.min(size)..size,
            Self::Last(many) => size.saturating_sub(many)..size,
        }
    }
}

impl Operation {
    /// Any that chance likes; about `theme` where there is one.
    pub fn any(world: &World, chance: &mut Random, theme: Option<&Digest>) -> Self {
        let held = &world.manifests[chance.index(world.manifests.len())];
        // The same digest wherever it is, or anything.
        let held = match theme {
            Some(theme) => {
                let such: Vec<_> =
                    world.manifests.iter().filter(|held| held.image.digest == *theme || held.has(theme)).collect();
                such[chance.index(such.len())]
            }
            None => held,
        };
        let (upstream, repository) = (held.upstream, held.repository);
        let what = match theme {
            Some(theme) if held.has(theme) && !chance.once_in(4) => What::Blob(theme.clone()),
            _ => Self::what(world, held, chance),
        };
        // What is in one repository need not be in another, nor pass there.
        let (upstream, repository) = match &what {
            What::Manifest(_) | What::Referrers(_) if chance.once_in(8) => {
                let other = &world.manifests[chance.index(world.manifests.len())];
                (other.upstream, other.repository)
            }
            _ => (upstream, repository),
        };
        let is_blob = matches!(what, What::Blob(_));
        let size = match &what {
            What::Blob(digest) => world.blob(digest).map_or(0, |bytes| bytes.len() as u64),
            _ => 0,
        };
        let reading = match chance.below(10) {
            0 => Reading::Slow(world.paced(Duration::from_millis(chance.below(400)))),
            1 => Reading::Leaves(usize::try_from(chance.below(200_000)).unwrap_or(0)),
            _ => Reading::Prompt,
        };
        let range = (is_blob && chance.once_in(2)).then(|| ranges(chance, size));
        let method = if chance.once_in(5) { Method::HEAD } else { Method::GET };
        let holds = chance.once_in(12).then(|| match &what {
            What::Manifest(digest) | What::Blob(digest) => Some(digest.clone()),
            What::Tag(_) if !chance.once_in(4) => Some(held.image.digest.clone()),
            // Where the tag may have led, or may lead.
            What::Tag(_) => {
                let others: Vec<_> = world.in_it(upstream, repository).collect();
                Some(others[chance.index(others.len())].image.digest.clone())
            }
            What::Referrers(_) | What::Tags => None,
        });
        Self { upstream, repository, what, method, range, holds: holds.flatten(), reading }
    }

    /// What of `held`, with nothing further.
    pub fn plain(held: &Held, what: What) -> Self {
        Self {
            upstream: held.upstream,
            repository: held.repository,
            what,
            method: Method::GET,
            range: None,
            holds: None,
            reading: Reading::Prompt,
        }
    }

    fn what(world: &World, held: &Held, chance: &mut Random) -> What {
        let own = &held.image;
        match chance.below(20) {
            0..=4 => match &held.tag {
                Some(tag) => What::Tag(tag.clone()),
                None => What::Manifest(own.digest.clone()),
            },
            5..=9 => What::Manifest(own.digest.clone()),
            10..=15 => match chance.pick(&own.blobs) {
                Some((digest, _)) => What::Blob(digest.clone()),
                None => What::Manifest(own.digest.clone()),
            },
            // Of somebody else: what this repository does not reach.
            16 | 17 => What::Blob(world.blobs[chance.index(world.blobs.len())].0.clone()),
            18 => What::Referrers(own.digest.clone()),
            _ => What::Tags,
        }
    }

    /// The request.
    pub fn asked(&self) -> Asked {
        let name = format!("{}{}", prefix(self.upstream), self.repository);
        let rest = match &self.what {
            What::Tag(tag) => format!("manifests/{tag}"),
            What::Manifest(digest) => format!("manifests/{digest}"),
            What::Blob(digest) => format!("blobs/{digest}"),
            What::Referrers(digest) => format!("referrers/{digest}"),
            What::Tags => "tags/list".to_owned(),
        };
        let mut headers = Vec::new();
        if let Some(range) = &self.range {
            let written: Vec<_> = range.iter().map(|span| span.written()).collect();
            headers.push(("range", format!("bytes={}", written.join(","))));
        }
        if let Some(digest) = &self.holds {
            headers.push(("if-none-match", format!("\"{digest}\"")));
        }
        Asked { method: self.method.clone(), path: format!("/v2/{name}/{rest}"), headers, reading: self.reading }
    }
}

fn ranges(chance: &mut Random, size: u64) -> Vec<Span> {
    // Mostly early and short: the end of such an answer comes long before the end of the blob.
    let one = |chance: &mut Random| {
        let first = chance.below(1000) * size / if chance.once_in(2) { 1000 } else { 4000 };
        match chance.below(8) {
            0 => Span::From(first),
            1 => Span::Last(chance.below(1000) * size / 1000),
            2 => Span::FromTo(size + first, size + first + 10),
            _ => Span::FromTo(first, first + chance.below(40_000)),
        }
    };
    if chance.once_in(4) {
        let mut spans: Vec<_> = (0..2 + chance.below(2)).map(|_| one(chance)).collect();
        spans.sort_by_key(|span| span.of(size).start);
        return spans;
    }
    vec![one(chance)]
}
