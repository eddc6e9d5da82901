//! Statements: what they are about and of which type, in one way only.

use super::*;

const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// What a payload says of the image whose bytes are `image`.
fn read(payload: &str) -> Result<Claim, Flaw> {
    statement::read(&open(&written(PAYLOAD_TYPE, payload.as_bytes())).unwrap(), &Digest::sha256(b"image"))
}

fn refused(payload: &str) -> Option<Reason> {
    read(payload).err().map(|flaw| flaw.reason)
}

fn this() -> String {
    names("sha256", Digest::sha256(b"image").hex())
}

#[test]
fn only_the_statement_of_cosign_sign_is_a_signature() {
    for kind in [STATEMENT, "https://in-toto.io/Statement/v0.1"] {
        let Claim::Signature { predicate_type, .. } = read(&statement_of(kind, SIGN, &this())).unwrap() else {
            panic!("no signature")
        };
        assert_eq!(predicate_type.as_deref(), Some(SIGN));
    }
    for other in [PROVENANCE, "https://sigstore.dev/cosign/sign/v1/", "https://sigstore.dev/cosign/sign/v2", ""] {
        let claim = read(&statement_of(STATEMENT, other, &this())).unwrap();
        let expected = Claim::Attestation {
            predicate_type: other.to_owned(),
            annotations: std::collections::BTreeMap::new(),
            names: [Digest::sha256(b"image").hex()].into_iter().collect(),
        };
        assert_eq!(claim, expected);
    }
}

#[test]
fn another_type_of_payload_is_no_statement() {
    let text = statement_of(STATEMENT, SIGN, &this());
    for payload_type in ["text/plain", "", "application/vnd.in-toto+json ", "Application/vnd.in-toto+json"] {
        let envelope = open(&written(payload_type, text.as_bytes())).unwrap();
        let flaw = statement::read(&envelope, &Digest::sha256(b"image")).unwrap_err();
        assert_eq!(flaw.reason, Reason::NotASignature, "{payload_type}");
    }
}

#[test]
fn a_statement_that_does_not_name_the_image_is_refused() {
    let hex = Digest::sha256(b"image").hex().to_owned();
    for subject in [
        names("sha256", Digest::sha256(b"other").hex()),
        names("sha256", &hex.to_uppercase()),
        names("sha512", &hex),
        names("SHA256", &hex),
        "[]".to_owned(),
    ] {
        let reason = refused(&statement_of(STATEMENT, SIGN, &subject));
        assert_eq!(reason, Some(Reason::DigestMismatch), "{subject}");
    }
}

#[test]
fn a_statement_that_cannot_be_read_in_one_way_is_refused() {
    let good = statement_of(STATEMENT, SIGN, &this());
    let many = format!("[{}]", vec![r#"{"digest":{"sha256":"x"}}"#; 10_001].join(","));
    for payload in [
        good.replacen('{', &format!(r#"{{"predicateType":"{SIGN}","#), 1),
        good.replace("{}", &format!("{}{}", "[".repeat(100), "]".repeat(100))),
        good.replace("{}", r#"{"a":1,"a":2}"#),
        good.replace("{}", "[{}]"),
        good.replace("{}", "\"text\""),
        good.replace("{}", "7"),
        good.replace("{}", "true"),
        statement_of("https://in-toto.io/Statement/v2", SIGN, &this()),
        statement_of(STATEMENT, SIGN, &many),
        "not json".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"subject":1}"#.to_owned(),
        format!("\u{feff}{good}"),
        format!("{good}{{}}"),
    ] {
        assert_eq!(refused(&payload), Some(Reason::EvidenceUnreadable), "{}", payload.get(..60).unwrap_or(&payload));
    }
}

#[test]
fn a_statement_with_ten_thousand_subjects_is_read_with_the_annotations_of_the_one_that_is_meant() {
    let digest = Digest::sha256(b"image");
    let mut subjects = vec![r#"{"digest":{"sha256":"x"},"annotations":{"sha":"other"}}"#.to_owned(); 9_999];
    subjects.insert(7, format!(r#"{{"digest":{{"sha256":"{}"}},"annotations":{{"sha":"this"}}}}"#, digest.hex()));
    let claim = read(&statement_of(STATEMENT, SIGN, &format!("[{}]", subjects.join(",")))).unwrap();
    assert_eq!(claim.annotations().get("sha").and_then(Value::as_str), Some("this"));
}

#[test]
fn a_simple_signing_payload_says_what_its_signer_added() {
    let digest = Digest::sha256(b"image");
    let payload = |optional: &str| {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":{optional}}}"#
        )
    };
    let claim = legacy::claim(payload(r#"{"sha":"49ce","n":1}"#).as_bytes(), &digest).unwrap();
    assert_eq!(claim.annotations().get("sha").and_then(Value::as_str), Some("49ce"));
    assert_eq!(claim.predicate_type(), None);
    assert!(legacy::claim(payload("null").as_bytes(), &digest).unwrap().annotations().is_empty());
    assert!(legacy::claim(payload("[]").as_bytes(), &digest).is_err());
    assert!(legacy::claim(payload(r#"{"a":"1","a":"2"}"#).as_bytes(), &digest).is_err());
    let large = payload(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1 << 20)));
    assert_eq!(legacy::claim(large.as_bytes(), &digest).unwrap_err().reason, Reason::EvidenceUnreadable);
}

#[test]
fn a_statement_names_the_image_by_every_subject_that_is_it() {
    let this = Digest::sha256(b"image");
    let entry = |name: &str, hex: &str| format!(r#"{{"name":{name},"digest":{{"sha256":"{hex}"}}}}"#);
    let named = |subjects: &[String]| {
        let claim = read(&statement_of(STATEMENT, SIGN, &format!("[{}]", subjects.join(",")))).unwrap();
        claim.names().iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let other = entry("\"cgr.dev/x/other\"", Digest::sha256(b"other").hex());
    let [first, second] = ["\"b\"", "\"cgr.dev/x/a\""].map(|name| entry(name, this.hex()));
    assert_eq!(named(&[second.clone(), other, first.clone(), second]), ["b", "cgr.dev/x/a"]);
    // What is no name spoils no statement.
    for odd in ["7", "null", "{}", "[1]", "true", "\"\""] {
        assert_eq!(named(&[entry(odd, this.hex()), first.clone()]), ["b"], "{odd}");
    }
    assert_eq!(named(&[format!(r#"{{"digest":{{"sha256":"{}"}}}}"#, this.hex())]), Vec::<String>::new());
}

#[test]
fn names_are_bounded_in_number_and_length() {
    let names: Vec<String> = (0..40).map(|n| format!("{n}{}", "ä".repeat(400))).collect();
    let kept: Names = names.iter().map(String::as_str).collect();
    assert_eq!(kept.iter().count(), 16);
    assert!(kept.iter().all(|name| (511..=512).contains(&name.len())));
}

#[test]
fn a_simple_signing_payload_names_the_image_by_its_docker_reference() {
    let digest = Digest::sha256(b"image");
    for (reference, expected) in [("cgr.dev/x/nginx:latest", vec!["cgr.dev/x/nginx:latest"]), ("", vec![])] {
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{reference}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let claim = legacy::claim(payload.as_bytes(), &digest).unwrap();
        assert_eq!(claim.names().iter().collect::<Vec<_>>(), expected);
    }
}
