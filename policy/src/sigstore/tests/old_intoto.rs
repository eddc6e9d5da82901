//! `intoto 0.0.1`, which says least of all kinds of entry: the digest of the envelope's very bytes and who signed.

use sigstore_crypto::KeyPair;
use sigstore_types::{CanonicalizedBody, DerPublicKey, LogId, LogIndex, LogKeyId};

use super::*;
use crate::sigstore::sealed::{Entry, KindVersion};

struct Case {
    key: KeyPair,
    layer: String,
}

impl Case {
    fn new() -> Self {
        let key = KeyPair::generate_ecdsa_p256().unwrap();
        let payload = statement_of(STATEMENT, "https://slsa.dev/provenance/v1", &names("sha256", "00"));
        let signature = key.sign(&sigstore_types::pae(PAYLOAD_TYPE, payload.as_bytes())).unwrap();
        let layer = written(PAYLOAD_TYPE, payload.as_bytes()).replace("dW51c2Vk", &signature.to_base64());
        Self { key, layer }
    }

    fn public(&self) -> DerPublicKey {
        self.key.public_key_der().unwrap()
    }

    fn body(&self) -> Value {
        let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": sigstore_crypto::sha256(bytes).to_hex() });
        let payload = open(&self.layer).unwrap();
        json!({
            "apiVersion": "0.0.1",
            "kind": "intoto",
            "spec": {
                "content": { "hash": hash(self.layer.as_bytes()), "payloadHash": hash(payload.payload()) },
                "publicKey": STANDARD.encode(self.public().to_pem()),
            },
        })
    }

    fn check(&self, body: &Value, found: bool) -> Result<(), Flaw> {
        let (mut envelope, signature) = legacy::attestation(self.layer.as_bytes()).unwrap();
        if !found {
            envelope.found = None;
        }
        let entry = Entry {
            log_index: LogIndex::default(),
            log_id: LogId::new(LogKeyId::new(vec![0; 32])),
            kind_version: KindVersion { kind: "intoto".to_owned(), version: "0.0.1".to_owned() },
            integrated_time: LogIndex::default(),
            inclusion_promise: None,
            inclusion_proof: None,
            canonicalized_body: CanonicalizedBody::new(body.to_string().into_bytes()),
        };
        let sealed = Sealed {
            content: Content::Envelope(envelope),
            signature,
            certificates: Vec::new(),
            entries: Vec::new(),
            proven: false,
            timestamps: Vec::new(),
            written: None,
        };
        body::check(&entry, &sealed, &Holder::Key(&self.public()))
    }
}

#[test]
fn an_entry_about_the_very_envelope_is_good() {
    let case = Case::new();
    case.check(&case.body(), true).unwrap();
    // Older entries do not say what the payload's digest is; it is within the envelope's.
    let mut older = case.body();
    older.pointer_mut("/spec/content").unwrap().as_object_mut().unwrap().remove("payloadHash").unwrap();
    case.check(&older, true).unwrap();
}

#[test]
fn where_the_envelopes_bytes_are_not_at_hand_the_entry_says_nothing() {
    let case = Case::new();
    let flaw = case.check(&case.body(), false).unwrap_err();
    assert_eq!(flaw.reason, Reason::LogInvalid);
    assert!(flaw.detail.contains("intoto 0.0.1"), "{}", flaw.detail);
}

#[test]
fn an_entry_about_anything_else_is_not_good() {
    let case = Case::new();
    let other = KeyPair::generate_ecdsa_p256().unwrap().public_key_der().unwrap();
    for (pointer, value) in [
        ("/spec/content/hash/value", json!("00".repeat(32))),
        ("/spec/content/hash/value", json!("")),
        ("/spec/content/hash/algorithm", json!("sha512")),
        ("/spec/content/hash/algorithm", json!("md5")),
        ("/spec/content/payloadHash/value", json!("00".repeat(32))),
        ("/spec/publicKey", json!(STANDARD.encode(other.to_pem()))),
        ("/spec/publicKey", json!(STANDARD.encode(format!("{}{}", case.public().to_pem(), other.to_pem())))),
        ("/spec/publicKey", json!("")),
        ("/apiVersion", json!("0.0.2")),
        ("/kind", json!("dsse")),
    ] {
        let mut body = case.body();
        *body.pointer_mut(pointer).unwrap() = value.clone();
        let flaw = case.check(&body, true).unwrap_err();
        assert_eq!(flaw.reason, Reason::LogInvalid, "{pointer} = {value}");
    }
}
