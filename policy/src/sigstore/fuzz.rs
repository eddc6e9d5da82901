//! DSSE envelopes, read a second time by nobody's library.

use oci::Digest;
use serde_json::Value;

use super::{legacy, statement};

/// An envelope that opens: what is verified is the encoding of what is written, and what it is about is what any reader finds.
pub fn fuzz_dsse(data: &[u8]) {
    let Ok((envelope, _)) = legacy::attestation(data) else { return };
    let document: Value = serde_json::from_slice(data).expect("what was opened is JSON");
    let text = |name: &str| document.get(name).and_then(Value::as_str).expect("an envelope has a type and a payload");
    let (kind, said) = (text("payloadType"), decoded(text("payload")));
    assert_eq!(envelope.payload_type, kind, "another type than is written");
    assert_eq!(envelope.payload(), said, "another payload than is written");
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), said.len());
    assert_eq!(envelope.message(), [head.as_bytes(), &said].concat(), "not the pre-authentication encoding");
    let subject = Digest::sha256(b"signed");
    if statement::read(&envelope, &subject).is_ok() {
        let statement: Value = serde_json::from_slice(&said).expect("a statement is JSON");
        let subjects = statement.get("subject").and_then(Value::as_array).expect("a statement has subjects");
        let named = |entry: &Value| entry.pointer("/digest/sha256").and_then(Value::as_str) == Some(subject.hex());
        assert!(subjects.iter().any(named), "about a digest that it does not name");
    }
    assert_eq!(envelope.into_payload(), said, "another payload is handed on");
}

/// Base64 of either alphabet by hand: what is no digit of it is passed over.
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0_u32);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        (bits, count) = (((bits << 6) | u32::from(value)) & 0xFFFF, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.extend((bits >> count).to_le_bytes().first());
        }
    }
    bytes
}
