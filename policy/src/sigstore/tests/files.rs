//! Bundles that lie in files, of the real Sigstore: what is good is good, and everything that is changed is not.

use sigstore_types::Bundle;
use sigstore_verify::VerificationPolicy;

use super::*;

const CONDA: &str = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
const OCI: &str = "sha256:732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4";
const NPM: &str = "sha512:7bea9f6e7ff37f5fab0b36bf061200fff03099fd2fd696b91d04bc5e4f225eb9fd6e0cadcad54ba980f43fb352a99e8810b4e0abeb5c0ef2cf9108cd1f258b36";

fn verify(sigstore: &Sigstore, text: &str, digest: &str) -> Result<Signed, Flaw> {
    let digest = digest.parse().unwrap();
    sigstore.verify_file(text.as_bytes(), &Signable::Digest(&digest), &Hand::Certificate, NOW)
}

#[test]
fn real_bundles_of_every_version_verify_and_say_who_signed() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    for (name, digest, signer) in [
        ("conda-attestation.sigstore.json", CONDA, "https://github.com/prefix-dev/sigstore-example/"),
        ("cosign-v3-oci-attestation.sigstore.json", OCI, "cody@soyland.com"),
        ("bundleV01-dsse-with-proof.sigstore", NPM, "brian@dehamer.com"),
        ("bundleV02-dsse.sigstore", NPM, "brian@dehamer.com"),
        ("bundleV03-dsse.sigstore", NPM, "brian@dehamer.com"),
        ("bundleV03-intoto.sigstore", NPM, "brian@dehamer.com"),
    ] {
        let signed =
            verify(&sigstore, &bundle_text(&folder, name), digest).unwrap_or_else(|flaw| panic!("{name}: {flaw:?}"));
        assert!(signed_by(&signed).starts_with(signer), "{name}");
        assert!(signed.at.is_some_and(|at| at < NOW), "{name}");
    }
    let (text, blob) =
        (bundle_text(&folder, "cosign-v3-blob.sigstore.json"), folder.join("bundles/cosign-v3-blob.txt"));
    let blob = std::fs::read(blob).unwrap();
    let bytes = Signable::Bytes(&blob);
    let signed = sigstore.verify_file(text.as_bytes(), &bytes, &Hand::Certificate, NOW).unwrap();
    assert_eq!(signed_by(&signed), "w.vollprecht@gmail.com");
    assert!(verify(&sigstore, &text, &Digest::sha256(&blob).to_string()).is_ok());
    assert_eq!(verify(&sigstore, &text, &Digest::sha256(b"").to_string()).unwrap_err().reason, Reason::DigestMismatch);
}

#[test]
fn rekor_v2_with_a_timestamp_verifies_under_its_own_root_alone() {
    let Some(folder) = vectors() else { return };
    let text = bundle_text(&folder, "conda-attestation-rekor2.sigstore.json");
    assert!(verify(&sigstore(&folder, "staging"), &text, CONDA).unwrap().at.is_some());
    assert_eq!(verify(&sigstore(&folder, "public-good"), &text, CONDA).unwrap_err().reason, Reason::LogInvalid);
    let mut untimed: Value = serde_json::from_str(&text).unwrap();
    *untimed.pointer_mut("/verificationMaterial/timestampVerificationData").unwrap() = json!({});
    let flaw = verify(&sigstore(&folder, "staging"), &untimed.to_string(), CONDA).unwrap_err();
    assert_eq!(flaw.reason, Reason::TimeMissing);
}

#[test]
fn each_flawed_bundle_is_refused_for_its_own_reason() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    for (name, reason) in [
        ("bundle_no_log_entry.txt.sigstore", Reason::LogMissing),
        ("dsse-2sigs.sigstore.json", Reason::EvidenceUnreadable),
        ("bundle_no_checkpoint.txt.sigstore", Reason::LogInvalid),
        ("bundle_v3_no_signed_time.txt.sigstore.json", Reason::TimeMissing),
        ("bundle_cve_2022_36056.txt.sigstore", Reason::LogInvalid),
    ] {
        let text = bundle_text(&folder, name);
        let document: Value = serde_json::from_str(&text).unwrap();
        let digest = document.pointer("/messageSignature/messageDigest/digest").and_then(Value::as_str);
        let digest = digest.map_or(Sha256Hash::new([0; 32]), |digest| Sha256Hash::from_base64(digest).unwrap());
        let flaw = verify(&sigstore, &text, &format!("sha256:{}", digest.to_hex())).unwrap_err();
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
        let mut document: Value = serde_json::from_str(&good).unwrap();
        document.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        verify(&sigstore, &document.to_string(), CONDA).unwrap_err().reason
    };
    assert_eq!(without("/verificationMaterial", "tlogEntries"), Reason::LogMissing);
    assert_eq!(without(entry, "inclusionProof"), Reason::LogMissing);
    assert_eq!(without(entry, "inclusionPromise"), Reason::TimeMissing);
    assert_eq!(without(&format!("{entry}/inclusionProof"), "checkpoint"), Reason::LogInvalid);
    assert_eq!(without("/verificationMaterial", "certificate"), Reason::EvidenceUnreadable);
    assert_eq!(without("", "dsseEnvelope"), Reason::EvidenceUnreadable);
    // Version 0.1, which nobody signed, is no way around the proof, nor around the promise.
    let old = good.replace(
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
    );
    assert!(verify(&sigstore, &old, CONDA).is_ok());
    for key in ["inclusionProof", "inclusionPromise"] {
        let mut document: Value = serde_json::from_str(&old).unwrap();
        document.pointer_mut(entry).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert!(verify(&sigstore, &document.to_string(), CONDA).is_err(), "{key}");
    }
    assert!(bundle::read(old.as_bytes(), bundle::From::Registry).is_err(), "from a registry it is not read at all");
}

#[test]
fn a_proven_entry_does_not_carry_an_unproven_one_along() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    let mut document: Value = serde_json::from_str(&bundle_text(&folder, "conda-attestation.sigstore.json")).unwrap();
    let with = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut document = document.clone();
        change(document.pointer_mut("/verificationMaterial/tlogEntries").unwrap().as_array_mut().unwrap());
        verify(&sigstore, &document.to_string(), CONDA).map_err(|flaw| flaw.reason)
    };
    let unproven = |entries: &mut Vec<Value>| {
        let mut entry = entries.first().unwrap().clone();
        entry.as_object_mut().unwrap().remove("inclusionProof");
        entries.push(entry);
    };
    assert_eq!(with(&unproven), Err(Reason::LogMissing));
    let times = |n: usize| move |entries: &mut Vec<Value>| *entries = vec![entries.first().unwrap().clone(); n];
    assert!(with(&times(8)).is_ok());
    assert_eq!(with(&times(9)), Err(Reason::EvidenceUnreadable));
    let nine = json!(vec![json!({ "signedTimestamp": "" }); 9]);
    document.pointer_mut("/verificationMaterial").unwrap()["timestampVerificationData"] =
        json!({ "rfc3161Timestamps": nine });
    assert_eq!(verify(&sigstore, &document.to_string(), CONDA).unwrap_err().reason, Reason::EvidenceUnreadable);
}

/// The crates' own verdict on the whole bundle, with their own check of the log.
fn by_the_crates_alone(verifier: &sigstore_verify::Verifier, text: &str, digest: &str) -> bool {
    let Ok(bundle) = Bundle::from_json(text) else { return false };
    let artifact = Artifact::from_digest(sealed::artifact_digest(&digest.parse().unwrap()).unwrap());
    verifier.verify(artifact, &bundle, &VerificationPolicy::any_identity()).is_ok()
}

/// Flips bits all over bundles of all kinds of entry: we never say yes where the crates say no. Nor does anything that is changed
/// pass, but for what counts for nothing: the copies of what Rekor v2 signs elsewhere, and what nobody signs in a timestamp's wrapping.
#[test]
fn a_flipped_bit_anywhere_is_refused_and_nothing_passes_that_the_crates_refuse() {
    let Some(folder) = vectors() else { return };
    for (root, name, digest) in [
        ("public-good", "cosign-v3-oci-attestation.sigstore.json", OCI),
        ("public-good", "conda-attestation.sigstore.json", CONDA),
        ("public-good", "bundleV03-intoto.sigstore", NPM),
        ("staging", "conda-attestation-rekor2.sigstore.json", CONDA),
    ] {
        let sigstore = sigstore(&folder, root);
        let text = std::fs::read_to_string(folder.join(format!("trusted-roots/{root}.trusted_root.json"))).unwrap();
        let crates = sigstore_verify::Verifier::new(&TrustedRoot::from_json(&text).unwrap()).unwrap();
        let good = bundle_text(&folder, name);
        assert!(by_the_crates_alone(&crates, &good, digest));
        let document: Value = serde_json::from_str(&good).unwrap();
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
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp".to_owned(),
        ] {
            let Some(original) = document.pointer(&pointer).and_then(Value::as_str) else { continue };
            let bytes = STANDARD.decode(original).unwrap();
            for at in (0..bytes.len()).step_by(23) {
                let mut flipped = bytes.clone();
                *flipped.get_mut(at).unwrap() ^= 1;
                let mut changed = document.clone();
                *changed.pointer_mut(&pointer).unwrap() = STANDARD.encode(flipped).into();
                let changed = changed.to_string();
                if verify(&sigstore, &changed, digest).is_ok() {
                    let copied = root == "staging" && (pointer.ends_with("rootHash") || pointer.ends_with("keyId"));
                    let counts_for_nothing = copied || pointer.ends_with("signedTimestamp");
                    assert!(counts_for_nothing, "{name}: {pointer} at {at}");
                    assert!(by_the_crates_alone(&crates, &changed, digest), "{name}: {pointer} at {at}");
                }
            }
        }
    }
}

#[test]
fn a_log_whose_key_had_ended_or_not_begun_is_not_believed() {
    let Some(folder) = vectors() else { return };
    for (name, root) in
        [("conda-attestation-rekor2.sigstore.json", "staging"), ("conda-attestation.sigstore.json", "public-good")]
    {
        let text = bundle_text(&folder, name);
        let mut document: Value = serde_json::from_slice(
            &std::fs::read(folder.join(format!("trusted-roots/{root}.trusted_root.json"))).unwrap(),
        )
        .unwrap();
        for window in [
            json!({ "start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z" }),
            json!({ "start": "2040-01-01T00:00:00Z" }),
        ] {
            for log in document.get_mut("tlogs").unwrap().as_array_mut().unwrap() {
                *log.pointer_mut("/publicKey/validFor").unwrap() = window.clone();
            }
            let sigstore = Sigstore::new(&TrustRoot::parse(document.to_string().as_bytes()).unwrap()).unwrap();
            assert_eq!(verify(&sigstore, &text, CONDA).unwrap_err().reason, Reason::LogInvalid, "{name} {window}");
        }
    }
}

#[test]
fn nothing_was_signed_after_now() {
    let Some(folder) = vectors() else { return };
    let sigstore = sigstore(&folder, "public-good");
    let text = bundle_text(&folder, "conda-attestation.sigstore.json");
    let signed = verify(&sigstore, &text, CONDA).unwrap().at.unwrap();
    let digest = CONDA.parse().unwrap();
    let at = |millis: u64| {
        let now = UnixTime::from_millis(millis);
        sigstore.verify_file(text.as_bytes(), &Signable::Digest(&digest), &Hand::Certificate, now)
    };
    assert!(at(signed.as_millis() + 60_000).is_ok());
    assert_eq!(at(signed.as_millis() - 1000).unwrap_err().reason, Reason::TimeMissing);
}

/// A log that nobody asks for need not be known, and its time counts for nothing.
#[test]
fn where_the_log_is_not_asked_for_a_timestamp_is() {
    let Some(folder) = vectors() else { return };
    let text = bundle_text(&folder, "conda-attestation-rekor2.sigstore.json");
    let mut root: Value =
        serde_json::from_slice(&std::fs::read(folder.join("trusted-roots/staging.trusted_root.json")).unwrap())
            .unwrap();
    *root.get_mut("tlogs").unwrap() = json!([]);
    let sigstore = Sigstore::new(&TrustRoot::parse(root.to_string().as_bytes()).unwrap()).unwrap();
    let sealed = bundle::read(text.as_bytes(), bundle::From::Registry).unwrap().statement().unwrap();
    let by = |log, timestamp| sigstore.by_certificate(&sealed, true, Asked { log, timestamp, ..asked() });
    assert!(by(false, true).is_ok());
    assert_eq!(by(true, true).unwrap_err().reason, Reason::LogInvalid);
    assert_eq!(by(true, false).unwrap_err().reason, Reason::LogInvalid);
    let untimed = Sealed { timestamps: Vec::new(), ..sealed };
    let by = |log, timestamp| sigstore.by_certificate(&untimed, true, Asked { log, timestamp, ..asked() });
    assert_eq!(by(false, true).unwrap_err().reason, Reason::TimeMissing);
    assert_eq!(by(false, false).unwrap_err().reason, Reason::TimeMissing);
}
