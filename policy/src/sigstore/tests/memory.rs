//! Large statements are passed over, not built.

use super::*;

/// As many small values as a large SBOM has, in a statement of some megabytes: read quickly, and the same as a small one.
#[test]
fn a_large_predicate_is_passed_over() {
    let digest = Digest::sha256(b"image");
    let file = r#"{"fileName":"usr/lib/libexample.so","checksums":[{"algorithm":"SHA256","checksumValue":"00"}]}"#;
    let predicate = format!(r#"{{"files":[{}]}}"#, vec![file; 50_000].join(","));
    let text = statement_of(STATEMENT, "https://spdx.dev/Document", &names("sha256", digest.hex()));
    let text = text.replace(r#""predicate":{}"#, &format!(r#""predicate":{predicate}"#));
    assert!(text.len() > 4 << 20);
    let envelope = open(&written(PAYLOAD_TYPE, text.as_bytes())).unwrap();
    let claim = statement::read(&envelope, &digest).unwrap();
    assert_eq!(claim.predicate_type(), Some("https://spdx.dev/Document"));
    assert_eq!(envelope.into_payload(), text.as_bytes());
}

/// The room that is taken for what is signed is not much larger than it: nothing grew by doubling.
#[test]
fn what_is_signed_is_decoded_once_into_its_place() {
    let payload = vec![b'x'; 3 << 20];
    let envelope = open(&written(PAYLOAD_TYPE, &payload)).unwrap();
    let payload = envelope.into_payload();
    assert!(payload.capacity() < payload.len() + 128, "{} for {}", payload.capacity(), payload.len());
}
