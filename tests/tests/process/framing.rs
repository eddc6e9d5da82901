//! Where one answer ends and the next begins. `PRATIQUE_BIN` may name another build of the binary: hyper asserts less in a release
//! build, so that lengths must be right there too.

use std::ops::Range;

use support::{
    process::Process,
    raw::{converse, request},
    world::Setup,
};

use crate::{REPOSITORY, signed};

const CLOSE: &str = "connection: close";

#[tokio::test]
async fn framing_of_pipelined_answers_is_exact_whatever_is_asked() {
    let (world, index) = signed(3_000_000).await;
    let process = Process::serve(&world.write(&Setup::default())).await.unwrap();
    let image = &index.children[0];
    let (digest, bytes) = image.layers()[0].clone();
    let (config, config_bytes) = image.config().unwrap().clone();
    let path = |rest: &str| format!("/v2/{REPOSITORY}/{rest}");
    let (latest, child) = (path("manifests/latest"), path(&format!("manifests/{}", image.digest)));
    let (blob, config) = (path(&format!("blobs/{digest}")), path(&format!("blobs/{config}")));
    let etag = format!("if-none-match: \"{digest}\"");
    let missing = path("manifests/missing");
    // In the first round the blob is downloaded while it is sent, in the second it is a hit.
    for round in ["cold", "warm"] {
        let asked: [(&str, &str, &[&str], u16); 14] = [
            ("GET", &latest, &[], 200),
            ("HEAD", &latest, &[], 200),
            ("GET", &child, &[], 200),
            ("GET", &blob, &[], 200),
            ("HEAD", &blob, &[], 200),
            ("GET", &blob, &["range: bytes=1000-1999"], 206),
            ("GET", &blob, &["range: bytes=0-99999,2000000-2999999"], 206),
            ("GET", &blob, &["range: bytes=3000000-"], 416),
            ("GET", &blob, &[&etag], 304),
            ("HEAD", &blob, &[&etag], 304),
            ("GET", &config, &[], 200),
            ("GET", &missing, &[], 404),
            ("POST", &latest, &["expect: 100-continue", "content-length: 0"], 405),
            ("GET", &blob, &[CLOSE], 200),
        ];
        let requests: Vec<_> = asked.iter().map(|(method, path, lines, _)| request(method, path, lines)).collect();
        let answers = converse(process.address, &requests).await.unwrap_or_else(|error| panic!("{round}: {error}"));
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, asked.map(|(_, _, _, status)| status), "{round}");
        let contents: [(usize, &[u8]); 8] = [
            (0, &index.manifest),
            (1, b""),
            (2, &image.manifest),
            (3, &bytes),
            (4, b""),
            (5, &bytes[1000..2000]),
            (10, &config_bytes),
            (13, &bytes),
        ];
        for (number, content) in contents {
            assert!(answers[number].content == content, "{round}: {:?}", asked[number]);
        }
        let kind = answers[6].header("content-type").unwrap();
        are_parts(kind, &answers[6].content, &[0..100_000, 2_000_000..bytes.len()], &bytes);
        let told = |number: usize| answers[number].header("content-length").map(str::to_owned);
        assert_eq!((told(1), told(4)), (told(0), told(3)), "{round}: HEAD tells what GET does");
        assert!(answers.iter().all(|answer| answer.header("transfer-encoding").is_none()), "{round}");
    }
    process.terminate().await.unwrap();
}

/// Whether a multipart answer of this Content-Type has these ranges of `bytes`, and each its place.
#[track_caller]
pub fn are_parts(kind: &str, content: &[u8], wanted: &[Range<usize>], bytes: &[u8]) {
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let (mut want, size) = (Vec::new(), bytes.len());
    for range in wanted {
        let (start, end) = (range.start, range.end - 1);
        want.extend(format!("--{boundary}\r\nContent-Type: application/octet-stream\r\n").bytes());
        want.extend(format!("Content-Range: bytes {start}-{end}/{size}\r\n\r\n").bytes());
        want.extend(&bytes[range.clone()]);
        want.extend(b"\r\n");
    }
    want.extend(format!("--{boundary}--\r\n").bytes());
    assert!(content == want, "{} bytes instead of {}", content.len(), want.len());
}
