//! What a response about a blob consists of: ranges of it, and the text between them where there are several.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    ops::Range,
};

use bytes::Bytes;

/// What is left to send, in order.
pub(crate) struct Parts {
    parts: VecDeque<Part>,
    left: u64,
}

/// The next thing to send; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Of our own.
    Text(Bytes),
    /// Of the blob.
    Range(Range<u64>),
}

/// What separates the parts of a `multipart/byteranges` body. Random, so that no blob can have been made to contain it.
pub(crate) struct Boundary(String);

impl Boundary {
    pub(crate) fn random() -> Self {
        // Each RandomState has random keys of its own.
        let random = || RandomState::new().build_hasher().finish();
        Self(format!("pratique-{:016x}{:016x}", random(), random()))
    }

    pub(crate) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.0)
    }
}

impl Parts {
    pub(crate) fn one(range: Range<u64>) -> Self {
        Self::from_iter([Part::Range(range)])
    }

    /// `ranges` of a blob of `size` bytes, ascending and apart from each other, as RFC 9110 section 14.6 frames them.
    pub(crate) fn several(ranges: &[Range<u64>], size: u64, content_type: &str, boundary: &Boundary) -> Self {
        let Boundary(boundary) = boundary;
        let mut parts = VecDeque::with_capacity(2 * ranges.len() + 1);
        let mut break_before = "";
        for range in ranges {
            let (first, last) = (range.start, range.end.saturating_sub(1));
            let head = format!(
                "{break_before}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
            );
            parts.push_back(Part::Text(head.into()));
            parts.push_back(Part::Range(range.clone()));
            break_before = "\r\n";
        }
        parts.push_back(Part::Text(format!("\r\n--{boundary}--\r\n").into()));
        Self::from_iter(parts)
    }

    fn from_iter(parts: impl IntoIterator<Item = Part>) -> Self {
        let parts: VecDeque<_> = parts.into_iter().filter(|part| part.len() > 0).collect();
        Self { left: parts.iter().map(Part::len).sum(), parts }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The blob's ranges that are left.
    pub(super) fn ranges(&self) -> impl Iterator<Item = &Range<u64>> {
        self.parts.iter().filter_map(|part| match part {
            Part::Range(range) => Some(range),
            Part::Text(_) => None,
        })
    }

    /// From which byte of the blob on none is wanted.
    pub(super) fn end(&self) -> u64 {
        self.ranges().last().map_or(0, |range| range.end)
    }

    pub(super) fn next(&self) -> Option<&Part> {
        self.parts.front()
    }

    /// Takes `length` bytes from the front of the next part, not more than it has.
    pub(super) fn take(&mut self, length: u64) -> Option<Part> {
        let part = self.parts.front_mut()?;
        let taken = part.split(length);
        if part.len() == 0 {
            self.parts.pop_front();
        }
        self.left -= taken.len();
        Some(taken)
    }
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Range(range) => range.end.saturating_sub(range.start),
        }
    }

    fn split(&mut self, length: u64) -> Self {
        match self {
            Self::Text(text) => {
                Self::Text(text.split_to(usize::try_from(length).unwrap_or(usize::MAX).min(text.len())))
            }
            Self::Range(range) => {
                let start = range.start;
                range.start = start.saturating_add(length).min(range.end);
                Self::Range(start..range.start)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ranges_have_the_length_they_say_and_each_its_place() {
        let boundary = Boundary("B".to_owned());
        let mut parts = Parts::several(&[0..2, 5..9], 9, "a/b", &boundary);
        let told = parts.left();
        let mut text = String::new();
        while let Some(part) = parts.take(3) {
            match part {
                Part::Text(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Part::Range(range) => range.for_each(|place| text.push_str(&place.to_string())),
            }
        }
        assert_eq!(text.len() as u64, told);
        assert_eq!(
            text,
            "--B\r\nContent-Type: a/b\r\nContent-Range: bytes 0-1/9\r\n\r\n01\r\n\
             --B\r\nContent-Type: a/b\r\nContent-Range: bytes 5-8/9\r\n\r\n5678\r\n--B--\r\n"
        );
        assert_eq!((parts.left(), parts.next()), (0, None));
    }

    #[test]
    fn no_two_boundaries_are_the_same_and_podman_can_read_them() {
        let (one, other) = (Boundary::random(), Boundary::random());
        assert_ne!(one.0, other.0);
        assert!(one.0.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{}", one.0);
    }
}
