//! The whole corpus of the virtual Sigstore, judged: every valid twin is served, and of everything else nothing is, each for the reason
//! that is written down in the snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use policy::{
    Assessment, Effect, Form, Judge, LoadContext, NoMatch, Origin, PolicySet, Reason, RegoBounds, Source, SourceText,
    TrustRoot, UntrustedEvidence, UntrustedPiece,
};

use super::{
    NOW, SIGSTORE, keyless, lifetimes, policy, repository,
    sigstore::{self, Catch, CorpusEntry, EntryKind, KeyKind, KeySigner, Options, Shape, Signer, corpus},
};

fn subject() -> Digest {
    Digest::sha256(b"the image of the corpus")
}

/// The authority that an entry is to satisfy: the wanted signer, or the key with its log, and what is to be attested.
fn authority(public_key: Option<&str>, predicate_type: Option<&str>) -> String {
    let mut text = match public_key {
        None => keyless(&Signer::chainguard()),
        Some(pem) => {
            let pem = pem.trim().replace('\n', "\n        ");
            format!(
                "  - name: key\n    key:\n      data: |\n        {pem}\n    ctlog:\n      url: https://rekor.sigstore.dev\n"
            )
        }
    };
    if let Some(predicate_type) = predicate_type {
        write!(text, "    attestations:\n    - name: wanted\n      predicateType: {predicate_type}\n").unwrap();
    }
    text
}

fn judge(authority: &str, trusted_root: &str, documents: &[String]) -> Judge {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let policy = policy("corpus", "enforce", "cgr.dev/**", authority);
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

fn piece(entry: &CorpusEntry) -> UntrustedPiece {
    let annotations = entry.annotations.clone();
    let (form, source) = match entry.form {
        sigstore::Form::CosignSignature => (Form::CosignSignature { annotations }, Source::CosignTag),
        sigstore::Form::CosignAttestation => (Form::CosignAttestation { annotations }, Source::CosignAttestationTag),
        sigstore::Form::Bundle => (Form::Bundle, Source::ReferrersApi),
    };
    let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(entry.payload.clone()));
    UntrustedPiece { bytes, form, origin: Origin::beside(source) }
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

#[test]
fn every_valid_twin_is_served_and_no_flaw_is() {
    let mut judges: BTreeMap<String, Judge> = BTreeMap::new();
    let (mut served, mut reasons) = (0, BTreeMap::<_, BTreeSet<&str>>::new());
    for entry in corpus(&SIGSTORE, &subject()) {
        let authority = authority(entry.public_key.as_deref(), entry.predicate_type);
        let known = judges.entry(format!("{authority}{}", entry.trusted_root));
        let judge = known.or_insert_with(|| judge(&authority, &entry.trusted_root, &[]));
        match (entry.flaw, refused(judge, piece(&entry), &entry.name)) {
            (None, None) => served += 1,
            (Some(flaw), Some((reason, _))) => {
                let told = (entry.catch.map(|catch| format!("{catch:?}")).unwrap(), flaw.name());
                reasons.entry(told).or_default().insert(reason.as_str());
                // A signer who is another is told as that, unless the certificate speaks for nobody.
                let identity = [Reason::IdentityMismatch, Reason::CertificateUntrusted, Reason::SignerUnsuitable];
                assert!(entry.catch != Some(Catch::Identity) || identity.contains(&reason), "{}: {reason}", entry.name);
                assert!(entry.catch == Some(Catch::Identity) || reason != Reason::IdentityMismatch, "{}", entry.name);
            }
            (None, Some((_, message))) => panic!("{}: {message}", entry.name),
            (Some(_), None) => panic!("{} was served", entry.name),
        }
    }
    assert_eq!(served, Shape::ALL.len());
    let mut table = String::new();
    for ((catch, flaw), reasons) in reasons {
        let reasons: Vec<_> = reasons.into_iter().collect();
        writeln!(table, "{catch}: {flaw}: {}", reasons.join(", ")).unwrap();
    }
    insta::assert_snapshot!(table);
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
            let text = authority(Some(&key.public_pem()), None).replace("    ctlog", &format!("{hash}    ctlog"));
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
    for flaw in [sigstore::Flaw::TimestampByStranger, sigstore::Flaw::TimestampOfAnotherSignature] {
        for piece in pieces(&options(true, Some(flaw))) {
            assert_eq!(reason(&stamped, piece), Some(Reason::TimeMissing), "{flaw:?}");
        }
    }
}
