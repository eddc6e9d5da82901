//! Keys of every kind, and timestamps where they are asked for. The whole corpus of flaws is judged in `tests/tests/flawed.rs`.

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use policy::{
    Assessment, Effect, Form, Judge, LoadContext, NoMatch, Origin, PolicySet, Reason, RegoBounds, Source, SourceText,
    TrustRoot, UntrustedEvidence, UntrustedPiece,
};
use serde_json::Value;

use super::{
    NOW, SIGSTORE, bundle, by_key, keyless, lifetimes, policy, repository,
    sigstore::{self, EntryKind, Flaw, KeyKind, KeySigner, Options, Signer, Version},
};

fn subject() -> Digest {
    Digest::sha256(b"the image")
}

fn judge(authority: &str, trusted_root: &str, documents: &[String]) -> Judge {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let policy = policy("proof", "enforce", "cgr.dev/**", authority);
    let documents = std::iter::once(&policy).chain(documents).cloned();
    let sources: Vec<_> =
        documents.enumerate().map(|(n, text)| SourceText { name: format!("{n}.yaml"), text }).collect();
    let loaded = PolicySet::load(&sources, &context).unwrap_or_else(|errors| panic!("{errors}"));
    let root = TrustRoot::parse(trusted_root.as_bytes()).unwrap();
    Judge::new(loaded.set, &root, lifetimes(), RegoBounds::default()).unwrap()
}

fn evidence(piece: UntrustedPiece) -> UntrustedEvidence {
    let asked = [Source::CosignTag, Source::CosignAttestationTag, Source::ReferrersApi, Source::ReferrersTag];
    let asked = asked.map(Origin::beside).to_vec();
    UntrustedEvidence { pieces: vec![piece], asked, ..UntrustedEvidence::default() }
}

/// What the piece is refused for; nothing where the image is served.
fn refused(judge: &Judge, piece: UntrustedPiece, name: &str) -> Option<(Reason, String)> {
    let Assessment::Complete(record) = judge.assess(&repository(), &subject(), &evidence(piece), NOW) else {
        panic!("{name}: not decided, though everybody answered")
    };
    match record.effect() {
        Effect::Serve => None,
        Effect::Refuse(refusal) | Effect::Absent(refusal) => Some((refusal.reason, refusal.message.clone())),
        Effect::Warn(warning) => panic!("{name}: {warning}"),
    }
}

/// A key of every kind, with and without the log; the log is told of P-384 signatures by SHA-384.
#[test]
fn keys_of_every_kind_are_served_with_their_log_entry() {
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let key = KeySigner::generate(kind);
        let other = KeySigner::generate(kind);
        // Cosign's policies say SHA-256 unless told otherwise; who signs for Rekor with P-384 does so by SHA-384.
        let hash = if kind == KeyKind::P384 { "      hashAlgorithm: sha384\n" } else { "" };
        let with = |key: &KeySigner| {
            let text = by_key(key, true).replace("    ctlog", &format!("{hash}    ctlog"));
            judge(&text, &SIGSTORE.trusted_root_json(), &[])
        };
        let legacy = |options: &Options| {
            let layer = key.sign_legacy("cgr.dev/x", &subject(), Some(&SIGSTORE), options);
            let bytes = Addressed::hash(Algorithm::Sha256, layer.payload);
            let form = Form::CosignSignature { annotations: layer.annotations };
            UntrustedPiece { bytes, form, origin: Origin::beside(Source::CosignTag) }
        };
        let bundle = |options: &Options| {
            let text = key.sign_bundle(&subject(), Some(&SIGSTORE), options);
            let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(text));
            UntrustedPiece { bytes, form: Form::Bundle, origin: Origin::beside(Source::ReferrersApi) }
        };
        // What the policy says is not widened: a bundle by P-384 is made with SHA-384.
        if kind == KeyKind::P384 {
            let said = by_key(&key, true).replace("    ctlog", "      hashAlgorithm: sha256\n    ctlog");
            let said = judge(&said, &SIGSTORE.trusted_root_json(), &[]);
            let (reason, _) = refused(&said, bundle(&Options::default()), "sha256").unwrap();
            assert_eq!(reason, Reason::SignatureInvalid);
            let silent = judge(&by_key(&key, true), &SIGSTORE.trusted_root_json(), &[]);
            assert_eq!(refused(&silent, bundle(&Options::default()), "none"), None);
        }
        let good = Options::default();
        let v2 = Options { entry: EntryKind::RekorV2, ..Options::default() };
        for (name, piece) in [("legacy", legacy(&good)), ("bundle", bundle(&good)), ("bundle, Rekor v2", bundle(&v2))] {
            assert_eq!(refused(&with(&key), piece.clone(), name), None, "{kind:?} {name}");
            let (reason, _) = refused(&with(&other), piece, name).unwrap();
            assert_eq!(reason, Reason::SignatureInvalid, "{kind:?} {name}");
        }
        for flaw in [sigstore::Flaw::EntryOfAnotherImage, sigstore::Flaw::SetForged, sigstore::Flaw::TimeChanged] {
            let (reason, message) = refused(&with(&key), legacy(&Options::flawed(flaw)), "flawed").unwrap();
            assert_eq!(reason, Reason::LogInvalid, "{kind:?} {flaw:?}: {message}");
        }
    }
}

/// What `rfc3161timestamp` asks for is there, good, and in time; then the log is not asked for, and where it is both are.
#[test]
fn a_timestamp_that_is_asked_for_must_be_there() {
    let root = SIGSTORE.trusted_root_json();
    let documents = [SIGSTORE.trust_root_document("virtual")];
    let stamp = "    rfc3161timestamp:\n      trustRootRef: virtual\n";
    let log = "    ctlog:\n      url: https://rekor.sigstore.dev\n";
    let pieces = |options: &Options| {
        let layer = SIGSTORE.sign_legacy(&Signer::chainguard(), "cgr.dev/x", &subject(), options);
        let bytes = Addressed::hash(Algorithm::Sha256, layer.payload);
        let form = Form::CosignSignature { annotations: layer.annotations };
        let legacy = UntrustedPiece { bytes, form, origin: Origin::beside(Source::CosignTag) };
        let text = SIGSTORE.sign_bundle(&Signer::chainguard(), &subject(), options);
        let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(text));
        [legacy, UntrustedPiece { bytes, form: Form::Bundle, origin: Origin::beside(Source::ReferrersApi) }]
    };
    let with = |rest: &str| judge(&format!("{}{rest}", keyless(&Signer::chainguard())), &root, &documents);
    let (stamped, both) = (with(stamp), with(&format!("{log}{stamp}")));
    let reason = |judge: &Judge, piece: UntrustedPiece| refused(judge, piece, "stamped").map(|(reason, _)| reason);
    let options = |timestamp, flaw: Option<sigstore::Flaw>| Options {
        timestamp,
        flaws: flaw.into_iter().collect(),
        ..Options::default()
    };
    for piece in pieces(&options(true, None)) {
        assert_eq!(reason(&stamped, piece.clone()), None);
        assert_eq!(reason(&both, piece), None);
    }
    for piece in pieces(&options(false, None)) {
        assert_eq!(reason(&stamped, piece.clone()), Some(Reason::TimeMissing));
        assert_eq!(reason(&both, piece), Some(Reason::TimeMissing));
    }
    for piece in pieces(&options(true, Some(sigstore::Flaw::NotLogged))) {
        assert_eq!(reason(&stamped, piece.clone()), None);
        assert_eq!(reason(&both, piece), Some(Reason::LogMissing));
    }
    for piece in pieces(&options(true, Some(sigstore::Flaw::UnknownLog))) {
        assert_eq!(reason(&stamped, piece.clone()), None, "a log that is not asked need not be known");
        assert_eq!(reason(&both, piece), Some(Reason::LogInvalid));
    }
    // Cosign 2 has the envelope of a legacy attestation dated, cosign 3 its signature.
    let attested = "    attestations:\n    - name: built\n      predicateType: slsaprovenance1\n";
    let attested = with(&format!("{stamp}{attested}"));
    for stamps_envelope in [false, true] {
        let piece = |flaw| {
            let options = Options { stamps_envelope, ..options(true, flaw) };
            let provenance = sigstore::predicate::provenance(sigstore::predicate::BUILDER);
            let signer = Signer::chainguard();
            let uri = sigstore::predicate::PROVENANCE;
            let layer = SIGSTORE.attest_legacy(&signer, &subject(), uri, &provenance, &options);
            let bytes = Addressed::hash(Algorithm::Sha256, layer.payload);
            let form = Form::CosignAttestation { annotations: layer.annotations };
            UntrustedPiece { bytes, form, origin: Origin::beside(Source::CosignAttestationTag) }
        };
        assert_eq!(refused(&attested, piece(None), "stamped"), None, "{stamps_envelope}");
        for flaw in [sigstore::Flaw::TimestampByStranger, sigstore::Flaw::TimestampOfAnotherSignature] {
            assert_eq!(reason(&attested, piece(Some(flaw))), Some(Reason::TimeMissing), "{flaw:?}");
        }
    }
    for flaw in [sigstore::Flaw::TimestampByStranger, sigstore::Flaw::TimestampOfAnotherSignature] {
        for piece in pieces(&options(true, Some(flaw))) {
            assert_eq!(reason(&stamped, piece), Some(Reason::TimeMissing), "{flaw:?}");
        }
    }
}

/// A log's key that has ended vouches for nothing whose time nobody trusted tells, whatever the entry brings or leaves out.
#[test]
fn an_entry_without_its_promise_does_not_outlive_the_logs_key() {
    let key = KeySigner::generate(KeyKind::P256);
    let subject = subject();
    let bundles = [EntryKind::Usual, EntryKind::RekorV2].map(|entry| {
        let text = key.sign_bundle(&subject, Some(&SIGSTORE), &Options { entry, ..Options::default() });
        let mut bare: Value = serde_json::from_str(&text).unwrap();
        let entry = bare["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap();
        entry.remove("inclusionPromise");
        [text, bare.to_string()]
    });
    let verdicts = |flaws: &[Flaw]| {
        let judge = judge(&by_key(&key, true), &SIGSTORE.trusted_root_json_with(flaws), &[]);
        bundles.as_flattened().iter().map(|text| refused(&judge, bundle(text.clone()), "bare")).collect::<Vec<_>>()
    };
    assert!(verdicts(&[]).iter().all(Option::is_none), "{:?}", verdicts(&[]));
    for verdict in verdicts(&[Flaw::LogEnded]) {
        assert!(matches!(verdict, Some((Reason::LogInvalid, _))), "{verdict:?}");
    }
    // A timestamp tells the time, whether or not one is asked for; and one that tells nothing spoils nothing.
    let stamped = |flaws: &[Flaw]| {
        let options = Options { flaws: flaws.to_vec(), ..Options::rekor_v2() };
        bundle(key.sign_bundle(&subject, Some(&SIGSTORE), &options))
    };
    let ended = |end: &str| {
        let mut root: Value = serde_json::from_str(&SIGSTORE.trusted_root_json()).unwrap();
        for log in root["tlogs"].as_array_mut().unwrap() {
            log["publicKey"]["validFor"]["end"] = end.into();
        }
        judge(&by_key(&key, true), &root.to_string(), &[])
    };
    let reason = |judge: &Judge, piece| refused(judge, piece, "stamped").map(|(reason, _)| reason);
    assert_eq!(reason(&ended("2025-12-01T00:00:00Z"), stamped(&[])), None);
    assert_eq!(reason(&ended("2025-10-01T00:00:00Z"), stamped(&[])), Some(Reason::LogInvalid));
    let foreign = stamped(&[Flaw::TimestampByStranger]);
    assert_eq!(reason(&ended("2025-12-01T00:00:00Z"), foreign.clone()), Some(Reason::LogInvalid));
    assert_eq!(refused(&judge(&by_key(&key, true), &SIGSTORE.trusted_root_json(), &[]), foreign, "foreign"), None);
}

/// Who certifies signers, the trust root says: a bundle brings no authority of its own along, though it leads to a trusted one.
#[test]
fn an_intermediate_counts_by_the_trust_root_alone() {
    let mut root: Value = serde_json::from_str(&SIGSTORE.trusted_root_json()).unwrap();
    let authorities = root["certificateAuthorities"].as_array_mut().unwrap();
    let mut above = authorities[0].clone();
    let certificates = above["certChain"]["certificates"].as_array_mut().unwrap();
    certificates.remove(0);
    assert_eq!(certificates.len(), 1, "the root alone");
    // The intermediate was ended the day before, or never listed.
    let mut ended = authorities[0].clone();
    ended["validFor"]["end"] = "2025-10-08T00:00:00Z".into();
    let listed = authorities[0].clone();
    let signer = Signer::chainguard();
    for (authorities, is_good) in [(vec![listed], true), (vec![ended, above.clone()], false), (vec![above], false)] {
        root["certificateAuthorities"] = authorities.into();
        let judge = judge(&keyless(&signer), &root.to_string(), &[]);
        for version in [Version::V02, Version::V03] {
            let options = Options { version, ..Options::default() };
            let piece = bundle(SIGSTORE.sign_bundle(&signer, &subject(), &options));
            let reason = refused(&judge, piece, "retired").map(|(reason, _)| reason);
            assert_eq!(reason, (!is_good).then_some(Reason::CertificateUntrusted), "{version:?}");
        }
    }
}
