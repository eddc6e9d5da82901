//! The `Range` header as blob storages read it.

use std::ops::Range;

/// What a Range header asks of content of a known length.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ranged {
    /// No range, or several: everything.
    Whole,
    /// These bytes; never empty, never beyond the end.
    Part(Range<usize>),
    /// Nothing that exists, or nothing that can be read: 416.
    Unsatisfiable,
}

/// Reads a header's value for content of `length` bytes.
pub(super) fn parse(header: Option<&str>, length: usize) -> Ranged {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else {
        return Ranged::Whole;
    };
    if spec.contains(',') {
        return Ranged::Whole;
    }
    let part = match spec.split_once('-') {
        Some(("", suffix)) => suffix.parse::<usize>().ok().map(|suffix| length.saturating_sub(suffix)..length),
        Some((first, "")) => first.parse().ok().map(|first| first..length),
        Some((first, last)) => first
            .parse()
            .ok()
            .zip(last.parse::<usize>().ok())
            .map(|(first, last)| first..last.saturating_add(1).min(length)),
        None => None,
    };
    match part {
        Some(part) if !part.is_empty() => Ranged::Part(part),
        Some(_) | None => Ranged::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::{Ranged, parse};

    #[test]
    fn ranges_are_read_as_the_conformance_suite_wants_them() {
        for (header, want) in [
            ("bytes=0-0", Ranged::Part(0..1)),
            ("bytes=500-1499", Ranged::Part(500..1500)),
            ("bytes=500-", Ranged::Part(500..2500)),
            ("bytes=-500", Ranged::Part(2000..2500)),
            ("bytes=-5000", Ranged::Part(0..2500)),
            ("bytes=2000-5000", Ranged::Part(2000..2500)),
            ("bytes=500-0", Ranged::Unsatisfiable),
            ("bytes=2500-", Ranged::Unsatisfiable),
            ("bytes=5000-10000", Ranged::Unsatisfiable),
            ("bytes=-0", Ranged::Unsatisfiable),
            ("bytes=x-y", Ranged::Unsatisfiable),
            ("bytes=0-1,5-6", Ranged::Whole),
            ("lines=1-2", Ranged::Whole),
        ] {
            assert_eq!(parse(Some(header), 2500), want, "{header}");
        }
        assert_eq!(parse(None, 2500), Ranged::Whole);
    }
}
