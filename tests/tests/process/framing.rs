//! Where one answer ends and the next begins. `PRATIQUE_BIN` may name another build of the binary: hyper asserts less in a release
//! build, so that lengths must be right there too.

use support::{
    process::Process,
    raw::{RawAnswer, converse, request},
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
        are_parts(&answers[6], &[(0, &bytes[..100_000]), (2_000_000, &bytes[2_000_000..])], bytes.len());
        let told = |number: usize| answers[number].header("content-length").map(str::to_owned);
        assert_eq!((told(1), told(4)), (told(0), told(3)), "{round}: HEAD tells what GET does");
        assert!(answers.iter().all(|answer| answer.header("transfer-encoding").is_none()), "{round}");
    }
    process.terminate().await.unwrap();
}

/// Takes a multipart answer apart by its boundary.
#[track_caller]
fn are_parts(answer: &RawAnswer, wanted: &[(usize, &[u8])], size: usize) {
    let boundary = answer.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut want = Vec::new();
    for (start, content) in wanted {
        let end = start + content.len() - 1;
        want.extend(format!("--{boundary}\r\nContent-Type: application/octet-stream\r\n").bytes());
        want.extend(format!("Content-Range: bytes {start}-{end}/{size}\r\n\r\n").bytes());
        want.extend(*content);
        want.extend(b"\r\n");
    }
    want.extend(format!("--{boundary}--\r\n").bytes());
    assert!(answer.content == want, "{} bytes instead of {}", answer.content.len(), want.len());
}
