//! What must hold of an answer with parts of a blob.

use std::ops::Range;

use bytes::Bytes;

use super::{client::Got, operation::Span};

/// Whether an answer with parts is right.
pub fn is_part(spans: &[Span], got: &Got, bytes: &Bytes) -> Result<(), String> {
    let size = bytes.len() as u64;
    let wanted: Vec<_> = spans.iter().map(|span| span.of(size)).filter(|range| !range.is_empty()).collect();
    let parts = match got.header("content-type").and_then(|told| told.strip_prefix("multipart/byteranges; boundary=")) {
        None => vec![(got.header("content-range").unwrap_or_default().to_owned(), got.body.clone())],
        Some(boundary) if got.is_complete => parts(boundary, &got.body)?,
        Some(_) => return Ok(()),
    };
    let told: Vec<&str> = parts.iter().map(|(told, _)| told.as_str()).collect();
    let due: Vec<_> =
        wanted.iter().map(|range| format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))).collect();
    if told != due {
        return Err(format!("its parts are told as {told:?}, not {due:?}"));
    }
    let is_right = |range: &Range<u64>, part: &Bytes| slice(bytes, range) == part;
    if got.is_complete && !wanted.iter().zip(&parts).all(|(range, (_, part))| is_right(range, part)) {
        return Err("other bytes".to_owned());
    }
    Ok(())
}

fn slice<'a>(bytes: &'a Bytes, range: &Range<u64>) -> &'a [u8] {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(place(range.start)..place(range.end)).unwrap_or_default()
}

/// The parts of a `multipart/byteranges` body, each with its `Content-Range`.
fn parts(boundary: &str, body: &Bytes) -> Result<Vec<(String, Bytes)>, String> {
    let (opening, closing) = (format!("--{boundary}\r\n"), format!("--{boundary}--\r\n"));
    let (mut parts, mut rest) = (Vec::new(), body.clone());
    loop {
        if rest == closing.as_bytes() {
            return Ok(parts);
        }
        if !rest.starts_with(opening.as_bytes()) {
            return Err(format!("no boundary after {} parts", parts.len()));
        }
        let rest_of = rest.slice(opening.len()..);
        let head = rest_of.windows(4).position(|end| end == b"\r\n\r\n").ok_or("a part without end of its head")?;
        let text = String::from_utf8_lossy(&rest_of[..head]).into_owned();
        let told = text.lines().find_map(|line| line.strip_prefix("Content-Range: ")).ok_or("a part without range")?;
        let (first, last) = told
            .strip_prefix("bytes ")
            .and_then(|told| told.split_once('/'))
            .and_then(|(range, _)| range.split_once('-'))
            .and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?)))
            .ok_or("a part's range cannot be read")?;
        let length = (last + 1).checked_sub(first).ok_or("a range backwards")?;
        let begin = head + 4;
        let part = rest_of.get(begin..begin + length).ok_or("a part is too short")?;
        parts.push((told.to_owned(), rest_of.slice_ref(part)));
        rest = rest_of.slice(begin + length..);
        rest = rest.strip_prefix(b"\r\n").map(|after| rest.slice_ref(after)).ok_or("a part without end")?;
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn parts_are_told_apart_and_wrong_ones_are_noticed() {
        let bytes = Bytes::from_static(b"0123456789");
        let body = |second: &str| {
            Bytes::from(format!(
                "--b\r\nContent-Type: x\r\nContent-Range: bytes 1-2/10\r\n\r\n12\r\n--b\r\nContent-Type: x\r\nContent-Range: bytes 4-6/10\r\n\r\n{second}\r\n--b--\r\n"
            ))
        };
        let got = |body| Got {
            status: StatusCode::PARTIAL_CONTENT,
            headers: [(http::header::CONTENT_TYPE, "multipart/byteranges; boundary=b".parse().unwrap())]
                .into_iter()
                .collect(),
            body,
            is_complete: true,
        };
        let spans = [Span::FromTo(1, 2), Span::FromTo(4, 6)];
        assert_eq!(is_part(&spans, &got(body("456")), &bytes), Ok(()));
        assert!(is_part(&spans, &got(body("457")), &bytes).is_err());
        assert!(is_part(&spans, &got(body("45")), &bytes).is_err());
        assert!(is_part(&spans[..1], &got(body("456")), &bytes).is_err());
    }
}
