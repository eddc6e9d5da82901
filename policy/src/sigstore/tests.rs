#![expect(clippy::disallowed_methods, reason = "real data lies outside the project and is read by these tests alone")]

use std::path::{Path, PathBuf};

use sigstore_crypto::KeyPair;

use super::*;
use crate::{authority::HashAlgorithm, verifier::Signer};

const CONDA: &str = "54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";

/// The folder of real data, or a line that says it is not there.
fn vectors() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var_os("PRATIQUE_VECTORS").map_or(beside, PathBuf::from);
    let there = folder.join("PROVENANCE.md").is_file();
    if !there {
        println!("skipped: no vectors in {} (set PRATIQUE_VECTORS)", folder.display());
    }
    there.then_some(folder)
}

fn sigstore(folder: &Path, root: &str) -> Sigstore {
    let bytes = std::fs::read(folder.join(format!("trusted-roots/{root}.trusted_root.json"))).unwrap();
    Sigstore::new(&TrustRoot::parse(&bytes).unwrap()).unwrap()
}

fn bundle_text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join("bundles").join(name)).unwrap()
}

fn subject(hex: &str) -> Artifact<'static> {
    Artifact::Subject(Sha256Hash::from_hex(hex).unwrap())
}

/// Verifies the cryptography of a bundle whatever it says: the part that comes after the statement's own checks.
fn crypto(sigstore: &Sigstore, text: &str, artifact: &Artifact<'_>) -> Result<Signed, Flaw> {
    let bundle = bundle::read(text.as_bytes())?;
    bundle::check_log(&bundle)?;
    sigstore.by_certificate(&bundle, artifact, true)
}

fn signed_by(signed: &Signed) -> &str {
    match &signed.signer {
        Signer::Certificate { subject, .. } => subject,
        Signer::Key { .. } => panic!("signed by a key"),
    }
}

#[test]
fn the_compiled_in_root_is_the_published_one() {
    let Some(folder) = vectors() else { return };
    let published = std::fs::read_to_string(folder.join("trusted-roots/public-good.trusted_root.json")).unwrap();
    assert_eq!(published, PUBLIC_GOOD);
}

#[test]
fn real_bundles_verify_and_say_who_signed() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    let conda = crypto(&sigstore, &bundle_text(&folder, "conda-attestation.sigstore.json"), &subject(CONDA)).unwrap();
    assert!(signed_by(&conda).starts_with("https://github.com/prefix-dev/sigstore-example/"));
    let oci = subject("732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4");
    let oci = crypto(&sigstore, &bundle_text(&folder, "cosign-v3-oci-attestation.sigstore.json"), &oci).unwrap();
    assert_eq!(signed_by(&oci), "cody@soyland.com");
    let blob = std::fs::read(folder.join("bundles/cosign-v3-blob.txt")).unwrap();
    let blob =
        crypto(&sigstore, &bundle_text(&folder, "cosign-v3-blob.sigstore.json"), &Artifact::Payload(&blob)).unwrap();
    assert_eq!(signed_by(&blob), "w.vollprecht@gmail.com");
}

#[test]
fn rekor_v2_with_a_timestamp_verifies_under_its_own_root_alone() {
    let Some(folder) = vectors() else { return };
    let text = bundle_text(&folder, "conda-attestation-rekor2.sigstore.json");
    assert!(crypto(&sigstore(&folder, "staging"), &text, &subject(CONDA)).unwrap().at.is_some());
    assert!(crypto(&sigstore(&folder, "public-good"), &text, &subject(CONDA)).is_err());
    let mut untimed: serde_json::Value = serde_json::from_str(&text).unwrap();
    *untimed.pointer_mut("/verificationMaterial/timestampVerificationData").unwrap() = serde_json::json!({});
    let flaw = crypto(&sigstore(&folder, "staging"), &untimed.to_string(), &subject(CONDA)).unwrap_err();
    assert_eq!(flaw.reason, Reason::TimeMissing);
}

#[test]
fn each_flawed_bundle_is_refused_for_its_own_reason() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    for (name, reason) in [
        ("bundle_no_log_entry.txt.sigstore", Reason::EvidenceUnreadable),
        ("dsse-2sigs.sigstore.json", Reason::EvidenceUnreadable),
        ("bundleV01-dsse-with-proof.sigstore", Reason::EvidenceUnreadable),
        ("bundle_no_checkpoint.txt.sigstore", Reason::LogInvalid),
        ("bundle_v3_no_signed_time.txt.sigstore.json", Reason::TimeMissing),
        ("bundle_cve_2022_36056.txt.sigstore", Reason::LogInvalid),
    ] {
        let text = bundle_text(&folder, name);
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let digest = document.pointer("/messageSignature/messageDigest/digest").and_then(|digest| digest.as_str());
        let digest = digest.map_or(Sha256Hash::new([0; 32]), |digest| Sha256Hash::from_base64(digest).unwrap());
        let flaw = crypto(&sigstore, &text, &Artifact::Subject(digest)).unwrap_err();
        assert_eq!(flaw.reason, reason, "{name}: {}", flaw.detail);
    }
}

#[test]
fn what_a_bundle_leaves_out_is_refused_for_its_own_reason() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    let good = bundle_text(&folder, "conda-attestation.sigstore.json");
    let entry = "/verificationMaterial/tlogEntries/0";
    let without = |pointer: &str, key: &str| {
        let mut document: serde_json::Value = serde_json::from_str(&good).unwrap();
        document.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        crypto(&sigstore, &document.to_string(), &subject(CONDA)).unwrap_err().reason
    };
    assert_eq!(without("/verificationMaterial", "tlogEntries"), Reason::LogMissing);
    assert_eq!(without(entry, "inclusionProof"), Reason::LogMissing);
    assert_eq!(without(entry, "inclusionPromise"), Reason::TimeMissing);
    assert_eq!(without(&format!("{entry}/inclusionProof"), "checkpoint"), Reason::LogInvalid);
    assert_eq!(without("/verificationMaterial", "certificate"), Reason::EvidenceUnreadable);
    assert_eq!(without("", "dsseEnvelope"), Reason::EvidenceUnreadable);
}

#[test]
fn a_proven_entry_does_not_carry_an_unproven_one_along() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    let mut document: serde_json::Value =
        serde_json::from_str(&bundle_text(&folder, "conda-attestation.sigstore.json")).unwrap();
    let entries = document.pointer_mut("/verificationMaterial/tlogEntries").unwrap().as_array_mut().unwrap();
    let mut unproven = entries.first().unwrap().clone();
    unproven.as_object_mut().unwrap().remove("inclusionProof");
    entries.push(unproven);
    assert_eq!(crypto(&sigstore, &document.to_string(), &subject(CONDA)).unwrap_err().reason, Reason::LogMissing);
    let entries = document.pointer_mut("/verificationMaterial/tlogEntries").unwrap().as_array_mut().unwrap();
    entries.truncate(1);
    *entries = vec![entries.first().unwrap().clone(); 9];
    assert_eq!(
        crypto(&sigstore, &document.to_string(), &subject(CONDA)).unwrap_err().reason,
        Reason::EvidenceUnreadable
    );
}

#[test]
fn a_flipped_bit_anywhere_in_a_bundle_is_refused() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    let good = bundle_text(&folder, "cosign-v3-oci-attestation.sigstore.json");
    let digest = subject("732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4");
    let document: serde_json::Value = serde_json::from_str(&good).unwrap();
    let entry = "/verificationMaterial/tlogEntries/0";
    for pointer in [
        "/dsseEnvelope/payload".to_owned(),
        "/dsseEnvelope/signatures/0/sig".to_owned(),
        "/verificationMaterial/certificate/rawBytes".to_owned(),
        format!("{entry}/canonicalizedBody"),
        format!("{entry}/inclusionPromise/signedEntryTimestamp"),
        format!("{entry}/inclusionProof/rootHash"),
        format!("{entry}/inclusionProof/hashes/0"),
        format!("{entry}/logId/keyId"),
    ] {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let bytes = STANDARD.decode(document.pointer(&pointer).unwrap().as_str().unwrap()).unwrap();
        for at in (0..bytes.len()).step_by(23) {
            let mut flipped = bytes.clone();
            *flipped.get_mut(at).unwrap() ^= 1;
            let mut changed = document.clone();
            *changed.pointer_mut(&pointer).unwrap() = STANDARD.encode(flipped).into();
            assert!(crypto(&sigstore, &changed.to_string(), &digest).is_err(), "{pointer} at {at}");
        }
    }
}

#[test]
fn keys_are_checked_before_they_are_used() {
    let pem = |key: &KeyPair| key.public_key_der().unwrap().to_pem();
    let with = |pem: String, hash| check_key(&Key { pem, hash, log: false });
    let p256 = pem(&KeyPair::generate_ecdsa_p256().unwrap());
    assert!(with(p256.clone(), HashAlgorithm::Sha256).is_ok());
    assert!(with(p256.clone(), HashAlgorithm::Sha512).is_err());
    assert!(with(format!("{p256}\n{p256}"), HashAlgorithm::Sha256).is_err());
    assert!(with(p256.replace("PUBLIC", "PRIVATE"), HashAlgorithm::Sha256).is_err());
    assert!(with(p256.replace("PUBLIC KEY", "CERTIFICATE"), HashAlgorithm::Sha256).is_err());
    assert!(with(p256.replace("MFkw", "MFkx"), HashAlgorithm::Sha256).is_err());
    assert!(with(String::new(), HashAlgorithm::Sha256).is_err());
}

fn envelope(payload_type: &str, payload: &str) -> sigstore_types::DsseEnvelope {
    let signature = sigstore_types::DsseSignature::new(b"unused".as_slice().into(), sigstore_types::KeyId::default());
    sigstore_types::DsseEnvelope::new(payload_type, payload.as_bytes().into(), signature)
}

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

fn statement_of(kind: &str, predicate: &str, subject: &str) -> String {
    format!(r#"{{"_type":"{kind}","predicateType":"{predicate}","subject":{subject},"predicate":{{}}}}"#)
}

fn names(algorithm: &str, hex: &str) -> String {
    format!(r#"[{{"name":"{hex}","digest":{{"{algorithm}":"{hex}"}}}}]"#)
}

/// What a statement is refused for as a signature of the image whose bytes are `image`.
fn statement_reason(payload: &str) -> Option<Reason> {
    let envelope = envelope("application/vnd.in-toto+json", payload);
    statement::check(&envelope, &Digest::sha256(b"image")).err().map(|flaw| flaw.reason)
}

#[test]
fn only_the_statement_of_cosign_sign_is_a_signature() {
    let this = names("sha256", Digest::sha256(b"image").hex());
    assert_eq!(statement_reason(&statement_of(STATEMENT, SIGN, &this)), None);
    assert_eq!(statement_reason(&statement_of("https://in-toto.io/Statement/v0.1", SIGN, &this)), None);
    for other in [
        "https://slsa.dev/provenance/v1",
        "https://sigstore.dev/cosign/sign/v1/",
        "https://sigstore.dev/cosign/sign/v2",
        "",
    ] {
        let reason = statement_reason(&statement_of(STATEMENT, other, &this));
        assert_eq!(reason, Some(Reason::NotASignature), "{other}");
    }
    let good = envelope("text/plain", &statement_of(STATEMENT, SIGN, &this));
    let flaw = statement::check(&good, &Digest::sha256(b"image")).unwrap_err();
    assert_eq!(flaw.reason, Reason::NotASignature);
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
        let reason = statement_reason(&statement_of(STATEMENT, SIGN, &subject));
        assert_eq!(reason, Some(Reason::DigestMismatch), "{subject}");
    }
}

#[test]
fn a_statement_that_cannot_be_read_in_one_way_is_refused() {
    let this = names("sha256", Digest::sha256(b"image").hex());
    let good = statement_of(STATEMENT, SIGN, &this);
    let many = format!("[{}]", vec![r#"{"digest":{"sha256":"x"}}"#; 10_001].join(","));
    for payload in [
        good.replacen('{', &format!(r#"{{"predicateType":"{SIGN}","#), 1),
        good.replace("{}", &format!("{}{}", "[".repeat(100), "]".repeat(100))),
        statement_of("https://in-toto.io/Statement/v2", SIGN, &this),
        statement_of(STATEMENT, SIGN, &many),
        "not json".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"subject":1}"#.to_owned(),
    ] {
        assert_eq!(statement_reason(&payload), Some(Reason::EvidenceUnreadable));
    }
}

#[test]
fn a_statement_with_ten_thousand_subjects_is_read() {
    let digest = Digest::sha256(b"image");
    let mut subjects = vec![r#"{"digest":{"sha256":"x"}}"#.to_owned(); 9_999];
    subjects.push(format!(r#"{{"digest":{{"sha256":"{}"}}}}"#, digest.hex()));
    let payload = format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://sigstore.dev/cosign/sign/v1","subject":[{}]}}"#,
        subjects.join(",")
    );
    assert_eq!(statement::check(&envelope("application/vnd.in-toto+json", &payload), &digest), Ok(()));
}

#[test]
fn an_authority_is_trusted_no_longer_than_its_certificates_are_valid() {
    let mut document: serde_json::Value = serde_json::from_str(PUBLIC_GOOD).unwrap();
    let all = document.get_mut("certificateAuthorities").unwrap().as_array_mut().unwrap();
    for authority in all.iter_mut() {
        *authority.get_mut("validFor").unwrap() = serde_json::json!({ "start": "2000-01-01T00:00:00Z" });
    }
    let root = root::load(&document.to_string()).unwrap();
    for authority in &root.certificate_authorities {
        let window = authority.valid_for.unwrap();
        assert!(window.start.to_string().as_str() >= "2021-03-07");
        assert!(window.end.unwrap().to_string().as_str() <= "2031-10-06");
        assert_eq!(authority.cert_chain.certificates.len(), 1);
    }
    let never = serde_json::json!({ "start": "1999-01-01T00:00:00Z", "end": "2000-01-01T00:00:00Z" });
    let all = document.get_mut("certificateAuthorities").unwrap().as_array_mut().unwrap();
    *all.first_mut().unwrap().get_mut("validFor").unwrap() = never;
    assert!(root::load(&document.to_string()).unwrap_err().contains("valid at no time"));
}

#[test]
fn a_log_whose_key_had_ended_is_not_asked() {
    let Some(folder) = vectors() else { return };
    let text = bundle_text(&folder, "conda-attestation-rekor2.sigstore.json");
    let mut root: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("trusted-roots/staging.trusted_root.json")).unwrap())
            .unwrap();
    for log in root.get_mut("tlogs").unwrap().as_array_mut().unwrap() {
        let window = log.pointer_mut("/publicKey/validFor").unwrap();
        *window = serde_json::json!({ "start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z" });
    }
    let sigstore = Sigstore::new(&TrustRoot::parse(root.to_string().as_bytes()).unwrap()).unwrap();
    assert_eq!(crypto(&sigstore, &text, &subject(CONDA)).unwrap_err().reason, Reason::LogInvalid);
}
