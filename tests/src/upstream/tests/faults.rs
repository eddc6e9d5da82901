//! Every injectable fault, as a client sees it.

use bytes::Bytes;
use http::Method;
use oci::Digest;

use super::{IMAGE, MANIFEST, get, plain};
use crate::client::Client;
use crate::upstream::{Call, Fault, Registry, noise};

const MANIFEST_PATH: &str = "team/app/manifests/one";

#[tokio::test]
async fn a_fault_hits_such_calls_only_as_often_as_told_and_then_ends() {
    let registry = plain().await;
    let fault = registry.fault(Call::is_manifest, Fault::status(503)).after(1).times(2);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(get(&registry, MANIFEST_PATH).await.status.as_u16());
        assert_eq!(get(&registry, "team/app/tags/list").await.status, 200);
    }
    assert_eq!(seen, [200, 503, 503, 200]);
    assert_eq!(fault.hits(), 2);
}

#[tokio::test]
async fn cleared_faults_are_over() {
    let registry = plain().await;
    let first = registry.fault(Call::is_manifest, Fault::status(500));
    registry.fault(Call::is_manifest, Fault::status(502));
    assert_eq!(get(&registry, MANIFEST_PATH).await.status, 500);
    first.clear();
    assert_eq!(get(&registry, MANIFEST_PATH).await.status, 502);
    registry.clear_faults();
    assert_eq!(get(&registry, MANIFEST_PATH).await.status, 200);
}

#[tokio::test]
async fn answers_can_be_replaced() {
    let registry = plain().await;
    for (fault, status, header, value) in [
        (Fault::too_many_requests(7), 429, "retry-after", "7"),
        (Fault::Redirect("http://x.example/".into()), 307, "location", "http://x.example/"),
        (
            Fault::realm("http://x.example/token", "s", "repository:a:pull"),
            401,
            "www-authenticate",
            r#"Bearer realm="http://x.example/token",service="s",scope="repository:a:pull""#,
        ),
        (Fault::instead("text/other", "other"), 200, "docker-content-digest", &Digest::sha256(b"other").to_string()),
    ] {
        let fault = registry.fault(Call::is_manifest, fault);
        let answer = get(&registry, MANIFEST_PATH).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header(header), Some(value));
        fault.clear();
    }
}

#[tokio::test]
async fn headers_can_lie_and_be_missing_while_the_body_is_true() {
    let registry = plain().await;
    for (fault, header, value) in [
        (Fault::digest_header("sha256:0"), "docker-content-digest", Some("sha256:0")),
        (Fault::without_header("docker-content-digest"), "docker-content-digest", None),
        (Fault::content_type("text/html"), "content-type", Some("text/html")),
        (Fault::without_header("content-length"), "content-length", None),
    ] {
        let fault = registry.fault(Call::is_manifest, fault);
        let answer = get(&registry, MANIFEST_PATH).await;
        assert_eq!(answer.header(header), value);
        assert_eq!(answer.body.unwrap(), MANIFEST);
        fault.clear();
    }
}

#[tokio::test]
async fn a_corrupt_byte_is_at_its_offset_in_the_whole_and_in_every_range() {
    let (registry, blob, url) = with_blob(200_000).await;
    let original = blob.to_vec();
    registry.fault(Call::is_blob, Fault::Corrupt(100_000));
    let client = Client::plain();
    let differing = |body: &[u8], from: usize| -> Vec<usize> {
        body.iter().enumerate().filter(|(at, byte)| **byte != original[from + at]).map(|(at, _)| from + at).collect()
    };
    let whole = client.get(&url, &[]).await.unwrap().body.unwrap();
    assert_eq!(whole.len(), 200_000);
    assert_eq!(differing(&whole, 0), [100_000]);
    let hit = client.get_range(&url, "99990-100010").await.unwrap();
    assert_eq!(differing(&hit.body.unwrap(), 99_990), [100_000]);
    let missed = client.get_range(&url, "0-999").await.unwrap();
    assert!(differing(&missed.body.unwrap(), 0).is_empty());
    registry.clear_faults();
    let healed = client.get(&url, &[]).await.unwrap().body.unwrap();
    assert_eq!(healed, blob);
}

#[tokio::test]
async fn a_truncated_body_breaks_after_exactly_so_many_bytes() {
    let (registry, blob, url) = with_blob(3_000_000).await;
    let client = Client::plain();
    for at in [0, 1, 65_536, 1_234_567, 2_999_999, 9_999_999] {
        let fault = registry.fault(Call::is_blob, Fault::Truncate(at));
        let answer = client.get(&url, &[]).await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), Some("3000000"));
        let broken = answer.body.unwrap_err();
        let want = usize::try_from(at).unwrap().min(2_999_999);
        assert!(broken.received == blob.slice(..want), "cut at {at}");
        fault.clear();
    }
    let resumed = client.get_range(&url, "1234567-").await.unwrap();
    assert!(resumed.body.unwrap() == blob.slice(1_234_567..));
}

#[tokio::test]
async fn a_stalled_body_stands_still_until_released() {
    let (registry, blob, url) = with_blob(500_000).await;
    let fault = registry.fault(Call::is_blob, Fault::Stall(100_000));
    let mut open = Client::plain().open(Method::GET, &url, &[]).await.unwrap();
    let mut received = open.at_least(100_000).await.unwrap().to_vec();
    assert_eq!(received.len(), 100_000, "nothing came beyond the stall");
    fault.release();
    received.extend_from_slice(&open.whole().await.body.unwrap());
    assert!(received == blob);
}

#[tokio::test]
async fn a_late_first_byte_comes_after_the_head() {
    let (registry, blob, url) = with_blob(1000).await;
    let fault = registry.fault(Call::is_blob, Fault::Stall(0));
    let open = Client::plain().open(Method::GET, &url, &[]).await.unwrap();
    assert_eq!(open.status, 200, "the head is there before the release");
    fault.clear();
    assert_eq!(open.whole().await.body.unwrap(), blob);
}

#[tokio::test]
async fn a_hanging_call_is_logged_unanswered_until_released() {
    let registry = plain().await;
    let fault = registry.fault(Call::is_manifest, Fault::Hang);
    let url = format!("{}/v2/{MANIFEST_PATH}", registry.url());
    let asking = tokio::spawn(async move { Client::plain().get(&url, &[]).await });
    fault.hit(1).await.unwrap();
    registry.called(1, Call::is_manifest).await.unwrap();
    assert_eq!(registry.calls()[0].status, None);
    fault.release();
    assert_eq!(asking.await.unwrap().unwrap().status, 200);
    assert_eq!(registry.calls()[0].status, Some(http::StatusCode::OK));
}

#[tokio::test]
async fn a_disconnected_call_has_no_answer() {
    let registry = plain().await;
    let fault = registry.fault(Call::is_manifest, Fault::Disconnect).times(1);
    let url = format!("{}/v2/{MANIFEST_PATH}", registry.url());
    assert!(Client::plain().get(&url, &[]).await.is_err());
    assert_eq!(fault.hits(), 1);
    assert_eq!(get(&registry, MANIFEST_PATH).await.status, 200);
}

#[tokio::test]
async fn an_endless_body_goes_on_after_its_content() {
    let registry = plain().await;
    registry.fault(Call::is_manifest, Fault::Endless);
    let url = format!("{}/v2/{MANIFEST_PATH}", registry.url());
    let mut open = Client::plain().open(Method::GET, &url, &[]).await.unwrap();
    assert_eq!(open.header("content-length"), None);
    let received = open.at_least(8 * 1024 * 1024).await.unwrap();
    assert!(received.starts_with(MANIFEST));
    assert!(received.len() >= 8 * 1024 * 1024);
}

#[tokio::test]
async fn a_wrong_length_is_announced() {
    let (registry, blob, url) = with_blob(1000).await;
    let client = Client::plain();
    let fault = registry.fault(Call::is_blob, Fault::Length(1500));
    let long = client.get(&url, &[]).await.unwrap();
    assert_eq!(long.header("content-length"), Some("1500"));
    assert!(long.is_broken());
    fault.clear();
    registry.fault(Call::is_blob, Fault::Length(400));
    let short = client.get(&url, &[]).await.unwrap();
    assert_eq!(short.body.unwrap(), blob.slice(..400));
}

#[tokio::test]
async fn a_range_can_be_ignored_once() {
    let (registry, blob, url) = with_blob(1000).await;
    registry.fault(Call::is_blob, Fault::IgnoreRange).times(1);
    let client = Client::plain();
    let whole = client.get_range(&url, "500-").await.unwrap();
    assert_eq!((whole.status.as_u16(), whole.body.unwrap()), (200, blob));
    assert_eq!(client.get_range(&url, "500-").await.unwrap().status, 206);
    let asked = |call: &Call| call.range() == Some("bytes=500-");
    assert_eq!(registry.count(asked), 2, "the log shows what was asked");
}

#[tokio::test]
async fn gzip_changes_the_bytes_and_says_so() {
    let registry = plain().await;
    registry.fault(Call::is_manifest, Fault::Gzip);
    let answer = get(&registry, MANIFEST_PATH).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let digest = Digest::sha256(MANIFEST).to_string();
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    let body = answer.body.unwrap();
    assert!(body.starts_with(&[0x1F, 0x8B]));
    assert_eq!(body.slice(15..15 + MANIFEST.len()), MANIFEST);
}

#[tokio::test]
async fn several_faults_on_one_call_apply_together() {
    let registry = plain().await;
    registry.fault(Call::is_manifest, Fault::instead(IMAGE, "0123456789"));
    registry.fault(Call::is_manifest, Fault::digest_header("sha256:0"));
    registry.fault(Call::is_manifest, Fault::Truncate(4));
    let answer = get(&registry, MANIFEST_PATH).await;
    assert_eq!(answer.header("docker-content-digest"), Some("sha256:0"));
    assert_eq!(answer.body.unwrap_err().received, "0123");
}

/// A registry that holds a blob of this length, the blob, and its URL.
async fn with_blob(length: usize) -> (Registry, Bytes, String) {
    let registry = plain().await;
    let blob = noise(length, 7);
    let digest = registry.put_blob("team/app", blob.clone());
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    (registry, blob, url)
}
