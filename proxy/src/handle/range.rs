//! `Range`: which bytes of a blob a client wants.

use std::ops::Range;

use http::{HeaderMap, header};

use crate::error::ApiError;

/// Which bytes of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    Whole,
    /// These.
    One(Range<u64>),
    /// These, in this order; none overlaps another.
    Several(Vec<Range<u64>>),
}

/// What is wanted of content of `size` bytes. Ranges that overlap or do not ascend, more than `ranges_max` of them, and units other
/// than bytes are answered with the whole, as RFC 9110 section 14.2 lets a server do; ranges that lie beside each other stay apart, as
/// podman counts the parts.
///
/// # Errors
/// 416 for a range that is malformed, and where no byte lies in any.
pub(super) fn wanted(headers: &HeaderMap, size: u64, etag: &str, ranges_max: usize) -> Result<Wanted, ApiError> {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Ok(Wanted::Whole) };
    // A client that holds a part of something else wants the whole.
    if headers.get(header::IF_RANGE).is_some_and(|held| held.as_bytes() != etag.as_bytes()) {
        return Ok(Wanted::Whole);
    }
    let Some(set) = value.to_str().ok().and_then(|text| text.strip_prefix("bytes=")) else {
        return Ok(Wanted::Whole);
    };
    // Not even read where there are too many.
    if set.split(',').nth(ranges_max).is_some() {
        return Ok(Wanted::Whole);
    }
    let unsatisfiable = ApiError::Range { size };
    let mut ranges = Vec::new();
    for text in set.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let range = parse(text, size).ok_or_else(|| unsatisfiable.clone())?;
        ranges.extend(Some(range).filter(|range| !range.is_empty()));
    }
    if !ranges.is_sorted_by(|one, next| one.end <= next.start) {
        return Ok(Wanted::Whole);
    }
    match ranges.as_slice() {
        [] => Err(unsatisfiable),
        [one] => Ok(Wanted::One(one.clone())),
        _ => Ok(Wanted::Several(ranges)),
    }
}

/// One range, empty where no byte lies in it; `None` where it is malformed.
fn parse(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(first..last.saturating_add(1).min(size)),
        (Some(first), None) if last.is_empty() => Some(first..size),
        (None, Some(suffix)) if first.is_empty() => Some(size.saturating_sub(suffix)..size),
        _ => None,
    }
}

/// A number of digits only; one too large for any content counts as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX - 1))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(range: &str, size: u64) -> Result<Wanted, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::try_from(range).unwrap());
        wanted(&headers, size, "\"x\"", 4)
    }

    #[test]
    fn single_open_suffix_and_clipped_ranges() {
        for (text, want) in [
            ("bytes=0-0", 0..1),
            ("bytes=500-1499", 500..1499 + 1),
            ("bytes=500-", 500..3000),
            ("bytes=-500", 2500..3000),
            ("bytes=-5000", 0..3000),
            ("bytes=2000-5000", 2000..3000),
            ("bytes=2999-99999999999999999999999", 2999..3000),
        ] {
            assert_eq!(of(text, 3000).unwrap(), Wanted::One(want), "{text}");
        }
    }

    #[test]
    fn what_no_byte_lies_in_is_416() {
        for text in [
            "bytes=500-0",
            "bytes=3000-",
            "bytes=5000-10000",
            "bytes=-0",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1",
        ] {
            assert!(matches!(of(text, 3000), Err(ApiError::Range { size: 3000 })), "{text}");
        }
        assert!(of("bytes=0-0", 0).is_err());
    }

    #[test]
    fn several_ranges_that_ascend_are_parts_even_beside_each_other() {
        for (text, want) in [
            ("bytes=0-1,5-6", vec![0..2, 5..7]),
            ("bytes=0-1, 2-3,,-1", vec![0..2, 2..4, 2999..3000]),
            ("bytes=0-0,2990-5000,4000-", vec![0..1, 2990..3000]),
        ] {
            assert_eq!(of(text, 3000).unwrap(), Wanted::Several(want), "{text}");
        }
        assert_eq!(of("bytes=0-1,9000-", 3000).unwrap(), Wanted::One(0..2));
    }

    #[test]
    fn too_many_ranges_overlapping_ones_and_other_units_get_the_whole() {
        for text in [
            "bytes=0-0,2-2,4-4,6-6,8-8",
            "bytes=0-9,5-12",
            "bytes=5-6,0-1",
            "bytes=0-,-1",
            "bytes=,,,,,",
            "items=0-1",
            "0-1",
        ] {
            assert_eq!(of(text, 3000).unwrap(), Wanted::Whole, "{text}");
        }
    }

    #[test]
    fn a_malformed_range_among_several_and_ranges_beyond_the_end_are_416() {
        for text in ["bytes=0-1,x", "bytes=0-1,9-5", "bytes=3000-,4000-5000", "bytes=,"] {
            assert!(matches!(of(text, 3000), Err(ApiError::Range { size: 3000 })), "{text}");
        }
    }

    #[test]
    fn a_part_of_something_else_is_not_continued() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=5-"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted(&headers, 10, "\"x\"", 4).unwrap(), Wanted::Whole);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"x\""));
        assert_eq!(wanted(&headers, 10, "\"x\"", 4).unwrap(), Wanted::One(5..10));
    }

    proptest! {
        #[test]
        fn ranges_always_lie_within_the_content_one_after_the_other(text in "bytes=[0-9,-]{0,30}", size in 0u64..10_000) {
            let ranges = match of(&text, size) {
                Ok(Wanted::One(range)) => vec![range],
                Ok(Wanted::Several(ranges)) => ranges,
                Ok(Wanted::Whole) | Err(_) => Vec::new(),
            };
            let mut after = 0;
            for range in ranges {
                prop_assert!(after <= range.start && range.start < range.end && range.end <= size);
                after = range.end;
            }
        }
    }
}
