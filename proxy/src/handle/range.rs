//! `Range`: which bytes of a blob a client wants.

use std::ops::Range;

use http::{HeaderMap, header};

use crate::error::ApiError;

/// The range wanted of content of `size` bytes, `None` for all of it. Several ranges, and units other than bytes, are answered with the whole.
///
/// # Errors
/// 416 for a range that is malformed or that no byte lies in.
pub(super) fn wanted(headers: &HeaderMap, size: u64, etag: &str) -> Result<Option<Range<u64>>, ApiError> {
    let Some(value) = headers.get(header::RANGE) else { return Ok(None) };
    // A client that holds a part of something else wants the whole.
    if headers.get(header::IF_RANGE).is_some_and(|held| held.as_bytes() != etag.as_bytes()) {
        return Ok(None);
    }
    let unsatisfiable = ApiError::Range { size };
    let Some(set) = value.to_str().ok().and_then(|text| text.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    if set.contains(',') {
        return Ok(None);
    }
    let (first, last) = set.trim().split_once('-').ok_or_else(|| unsatisfiable.clone())?;
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Err(unsatisfiable),
    };
    if range.is_empty() { Err(unsatisfiable) } else { Ok(Some(range)) }
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

    fn of(range: &str, size: u64) -> Result<Option<Range<u64>>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::try_from(range).unwrap());
        wanted(&headers, size, "\"x\"")
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
            assert_eq!(of(text, 3000).unwrap(), Some(want), "{text}");
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
    fn several_ranges_and_other_units_get_the_whole() {
        for text in ["bytes=0-1,5-6", "items=0-1", "0-1"] {
            assert_eq!(of(text, 3000).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn a_part_of_something_else_is_not_continued() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=5-"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted(&headers, 10, "\"x\"").unwrap(), None);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"x\""));
        assert_eq!(wanted(&headers, 10, "\"x\"").unwrap(), Some(5..10));
    }

    proptest! {
        #[test]
        fn a_range_always_lies_within_the_content(text in "bytes=[0-9-]{0,30}", size in 0u64..10_000) {
            if let Ok(Some(range)) = of(&text, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
