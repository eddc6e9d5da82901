//! Envelopes: the bytes that are signed are put together as the specification has it, and nothing else is an envelope.

use super::*;

#[test]
fn what_is_signed_is_the_pre_authentication_encoding() {
    for payload in [&b""[..], b"h", b"he", b"hel", b"hello world", &[0xff; 100]] {
        let good = open(&written("application/example", payload)).unwrap();
        assert_eq!(good.message(), sigstore_types::pae("application/example", payload));
        assert_eq!(good.payload(), payload);
        assert_eq!(good.into_payload(), payload);
    }
}

#[test]
fn either_alphabet_is_read_padded_or_not() {
    let payload = [0xfb, 0xff, 0xbf, 0xfe];
    let padded = STANDARD.encode(payload);
    for text in [padded.clone(), padded.trim_end_matches('=').to_owned(), "-_-__g".to_owned(), "-_-__g==".to_owned()] {
        let envelope = format!(r#"{{"payloadType":"t","payload":"{text}","signatures":[{{"sig":"eA=="}}]}}"#);
        assert_eq!(open(&envelope).unwrap().payload(), payload, "{text}");
    }
}

#[test]
fn what_is_no_envelope_with_one_signature_is_not_opened() {
    let with = |payload: &str, signatures: &str| {
        open(&format!(r#"{{"payloadType":"t","payload":"{payload}","signatures":{signatures}}}"#))
    };
    assert!(with("eA==", r#"[{"sig":"eA==","keyid":""}]"#).is_ok());
    assert!(with("eA==", "[]").err().unwrap().contains("has 0"));
    assert!(with("eA==", "null").err().unwrap().contains("has 0"));
    assert!(with("eA==", r#"[{"sig":"eA=="},{"sig":"eA=="}]"#).err().unwrap().contains("several"));
    let many = format!("[{}]", [r#"{"sig":"eA=="}"#; 3].join(","));
    assert!(with("eA==", &many).err().unwrap().contains("longer than 2"));
    for payload in ["e", "eA=", "eA===", "eA==eA==", "e A=", "+_==", "=", "eB=="] {
        // One pad too few is what padding that does not matter means; the others are not base64.
        let tolerated = payload == "eA=";
        assert_eq!(with(payload, r#"[{"sig":"eA=="}]"#).is_ok(), tolerated, "{payload}");
    }
}
