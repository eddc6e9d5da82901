//! `If-None-Match`: what a client holds already. Asked only after it was decided that the client may have it.

use http::{HeaderMap, header};
use oci::Digest;

use crate::respond;

/// Whether the client holds the content with this digest: by `*`, or by its entity tag in a list, weak or strong.
pub(super) fn is_held(headers: &HeaderMap, digest: &Digest) -> bool {
    // Hardly anybody asks, and then no tag is made.
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let etag = respond::etag(digest);
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    lines.filter_map(|value| value.to_str().ok()).any(|line| line.trim() == "*" || lists(line, &etag))
}

/// Whether a list of entity tags has this one. What follows something that is no tag is not read: then the content is sent.
fn lists(mut line: &str, etag: &str) -> bool {
    loop {
        line = line.trim_start_matches([' ', '\t', ',']);
        let tag = line.strip_prefix("W/").unwrap_or(line);
        // A tag may have commas within its quotes.
        let Some(length) = tag.strip_prefix('"').and_then(|rest| rest.find('"')).map(|quote| quote + 2) else {
            return false;
        };
        let Some((tag, rest)) = tag.split_at_checked(length) else { return false };
        let separated = rest.trim_start_matches([' ', '\t']);
        if !separated.is_empty() && !separated.starts_with(',') {
            return false;
        }
        if tag == etag {
            return true;
        }
        line = rest;
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Whether these lines name the content; `E` stands for its entity tag.
    fn held(lines: &[&str]) -> bool {
        let digest = Digest::sha256(b"content");
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = line.replace('E', &respond::etag(&digest));
            headers.append(header::IF_NONE_MATCH, HeaderValue::try_from(line).unwrap());
        }
        is_held(&headers, &digest)
    }

    #[test]
    fn stars_lists_and_weak_tags_are_understood() {
        for lines in
            [&["*"] as &[_], &["E"], &["W/E"], &["\"a, \", W/\"b\" ,E"], &[",, E ,"], &["\"x\"", "E"], &["E,\"x\""]]
        {
            assert!(held(lines), "{lines:?}");
        }
    }

    #[test]
    fn what_is_not_this_tag_is_sent() {
        for lines in [
            &[] as &[_],
            &[""],
            &["sha256:ab"],
            &["\"sha256:a\""],
            &["w/E"],
            &["W /E"],
            &["\"x\"E"],
            &["x E"],
            &["'E'"],
            &["\"*\""],
            &["**"],
            &["\"x, E"],
            &["\"E\""],
        ] {
            assert!(!held(lines), "{lines:?}");
        }
    }
}
