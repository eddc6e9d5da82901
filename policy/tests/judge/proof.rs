//! Keys of every kind, and timestamps where they are asked for. The whole corpus of flaws is judged in `tests/tests/flawed.rs`.

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use policy::{
    Assessment, Effect, Form, Judge, LoadContext, NoMatch, Origin, PolicySet, Reason, RegoBounds, Source, SourceText,
    TrustRoot, UntrustedEvidence, UntrustedPiece,
};

use super::{
    NOW, SIGSTORE, by_key, keyless, lifetimes, policy, repository,
    sigstore::{self, EntryKind, KeyKind, KeySigner, Options, Signer},
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
