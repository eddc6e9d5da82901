//! What two readers of one request could read differently is no request.
//!
//! Where one request ends and the next begins is hyper's to say: it refuses lengths that differ, unknown codings and folded lines by
//! itself. This is what it lets pass. Nothing is ever built from `Host`; that it is said once is asked all the same.

use http::{HeaderMap, Method, Request, Version, header};
use hyper::body::Body;

use crate::error::{ApiError, NameErrorCode};

/// # Errors
/// What is wrong with it.
pub(super) fn check<B: Body>(request: &Request<B>, headers_max: usize) -> Result<(), ApiError> {
    let headers = request.headers();
    // Over HTTP/1.1 hyper has counted while it read.
    if headers.len() > headers_max {
        return Err(ApiError::HeadersTooMany { max: headers_max });
    }
    let is_http2 = request.version() == Version::HTTP_2;
    if brings_body(request, is_http2) {
        return malformed("a GET or HEAD request with a body");
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return malformed("more than one Host");
    }
    match (host, request.uri().authority()) {
        (None, _) if request.version() == Version::HTTP_11 => malformed("no Host"),
        (Some(host), Some(authority))
            if is_http2 && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            malformed("a Host that is not the :authority")
        }
        _ => Ok(()),
    }
}

/// Whether it asks for content and brings some. An HTTP/2 stream is one request whatever it carries: an empty frame that ends it is none.
fn brings_body<B: Body>(request: &Request<B>, is_http2: bool) -> bool {
    let asks = matches!(*request.method(), Method::GET | Method::HEAD);
    asks && if is_http2 { announces(request.headers()) } else { !request.body().is_end_stream() }
}

fn announces(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length.as_bytes() != b"0")
}

fn malformed(what: &str) -> Result<(), ApiError> {
    Err(ApiError::Malformed(NameErrorCode("UNSUPPORTED"), format!("{what} is not answered")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    const MAX: usize = 10;

    fn request(version: Version, uri: &str, headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Empty::new()).unwrap()
    }

    fn refused(request: &Request<impl Body>) -> Option<(u16, String)> {
        check(request, MAX).err().map(|error| (error.status().as_u16(), error.to_string()))
    }

    #[test]
    fn what_clients_send_passes() {
        for (version, uri, headers) in [
            (Version::HTTP_11, "/v2/", &[("host", "pratique")][..]),
            (Version::HTTP_11, "http://elsewhere/v2/", &[("host", "pratique")]),
            (Version::HTTP_11, "/v2/", &[("host", "pratique"), ("content-length", "0")]),
            (Version::HTTP_10, "/v2/", &[]),
            (Version::HTTP_2, "https://pratique:5000/v2/", &[]),
            (Version::HTTP_2, "https://pratique:5000/v2/", &[("host", "Pratique:5000"), ("content-length", "0")]),
        ] {
            assert_eq!(refused(&request(version, uri, headers)), None, "{version:?} {uri} {headers:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let two: &[_] = &[("host", "pratique"), ("host", "evil")];
        for (version, uri, headers, why) in [
            (Version::HTTP_11, "/v2/", &[][..], "no Host"),
            (Version::HTTP_11, "/v2/", two, "more than one Host"),
            (Version::HTTP_2, "https://pratique/v2/", two, "more than one Host"),
            (Version::HTTP_2, "https://pratique/v2/", &[("host", "evil")], "not the :authority"),
            (Version::HTTP_2, "https://pratique/v2/", &[("content-length", "7")], "with a body"),
        ] {
            let (status, said) = refused(&request(version, uri, headers)).expect(why);
            assert!(status == 400 && said.contains(why), "{status} {said}, not {why}");
        }
        let bodied = Request::get("/v2/").header("host", "pratique").body(Full::new(Bytes::from("GET"))).unwrap();
        assert_eq!(refused(&bodied).map(|(status, _)| status), Some(400));
    }

    #[test]
    fn header_lines_are_counted_over_http2_too() {
        let lines = |count| vec![("x-line", "x"); count];
        let of = |count| refused(&request(Version::HTTP_2, "https://pratique/v2/", &lines(count)));
        assert_eq!((of(MAX), of(MAX + 1).map(|(status, _)| status)), (None, Some(431)));
    }
}
