//! The corpus, by the crates alone: valid twins are accepted, and every flaw of proof is refused for what it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    image,
    verify::{Trust, Verified},
};
use crate::sigstore::{
    Catch, CorpusEntry, EntryKind, Flaw, Layout, Means, Part, Said, Shape, Signer, VirtualSigstore, corpus,
};

/// A piece of the corpus, and what the crates say of it.
type Judged = (CorpusEntry, Result<Verified, String>);

/// The corpus with what the crates say of each piece under its own trust root, minted once for all tests.
static CORPUS: LazyLock<Vec<Judged>> = LazyLock::new(|| {
    let sigstore = VirtualSigstore::new();
    let mut trusts: BTreeMap<String, Trust> = BTreeMap::new();
    let mut judge = |entry: CorpusEntry| {
        let root = entry.trusted_root.clone();
        let trust = trusts.entry(root).or_insert_with_key(|root| Trust::under(root));
        let verdict = match entry.shape.entry {
            EntryKind::IntotoV001 => trust.old_intoto(&entry),
            EntryKind::Usual | EntryKind::IntotoV002 | EntryKind::RekorV2 => trust.piece(&entry, &image()),
        };
        (entry, verdict)
    };
    corpus(&sigstore, &image()).into_iter().map(&mut judge).collect()
});

fn judged(catch: Option<Catch>) -> impl Iterator<Item = &'static Judged> {
    CORPUS.iter().filter(move |(entry, _)| entry.catch == catch)
}

#[test]
fn valid_twins_are_accepted_in_every_shape() {
    assert_eq!(judged(None).count(), Shape::ALL.len());
    for (entry, verdict) in judged(None) {
        assert_eq!(entry.flaw, None);
        let verified = verdict.as_ref().unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        let dates = usize::from(entry.shape.timestamp) + usize::from(entry.shape.entry != EntryKind::RekorV2);
        assert_eq!(verified.times.len(), dates, "{}", entry.name);
        match entry.shape.means {
            Means::Certificate => assert_eq!(verified.signer(), Signer::chainguard(), "{}", entry.name),
            Means::Key => assert!(entry.public_key.is_some(), "{}", entry.name),
        }
    }
}

#[test]
fn flaws_of_proof_are_refused_for_what_they_are() {
    assert!(judged(Some(Catch::Proof)).count() > 500);
    let mut unnoticed = BTreeSet::new();
    for (entry, verdict) in judged(Some(Catch::Proof)) {
        let flaw = entry.flaw.unwrap();
        // What is not about the entry is read by the crates in the other shapes.
        if entry.shape.entry == EntryKind::IntotoV001 && flaw.part() != Part::Log {
            continue;
        }
        match verdict {
            Ok(_) => {
                unnoticed.insert((flaw, entry.shape.entry == EntryKind::RekorV2));
            }
            Err(error) => {
                let complaints = complaints(flaw);
                let is_meant = complaints.iter().any(|complaint| error.contains(complaint));
                assert!(is_meant, "{}: {error}, and not one of {complaints:?}", entry.name);
            }
        }
    }
    // The crates trust what a trust root lists for as long as it is listed, and look at the time of a log's key in promises alone.
    let known = [
        (Flaw::LogEnded, true),
        (Flaw::LogNotBegun, true),
        (Flaw::IntermediateExpired, false),
        (Flaw::IntermediateExpired, true),
    ];
    assert_eq!(unnoticed, BTreeSet::from(known));
}

#[test]
fn flaws_of_form_that_the_crates_take_no_offence_at_are_these() {
    let mut unnoticed = BTreeSet::new();
    for (entry, verdict) in judged(Some(Catch::Form)) {
        if verdict.is_ok() && entry.shape.layout == Layout::Bundle {
            unnoticed.insert(entry.flaw.unwrap());
        }
    }
    let known = [Flaw::OldVersion, Flaw::Downgraded, Flaw::VersionMissing, Flaw::CertificateAndKey];
    assert_eq!(unnoticed, BTreeSet::from(known));
}

#[test]
fn flaws_of_identity_are_good_proofs_by_somebody_else() {
    let wanted = Signer::chainguard();
    // The crates look at the first name, and at the current extension, only.
    let looks_right = [Flaw::TwoSubjects, Flaw::IssuersDisagree];
    for (entry, verdict) in judged(Some(Catch::Identity)) {
        let (flaw, name) = (entry.flaw.unwrap(), &entry.name);
        if flaw == Flaw::KeyInstead {
            assert!(verdict.as_ref().unwrap_err().contains("certificate"), "{name}");
            continue;
        }
        let verified = verdict.as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
        let certificate = verified.certificate.as_ref().unwrap();
        let subject = certificate.identity.as_ref().map(|subject| subject.as_str().to_owned());
        let is_wanted = certificate.issuer == Some(wanted.issuer.clone()) && subject == Some(wanted.subject.clone());
        assert_eq!(is_wanted, looks_right.contains(&flaw), "{name}: {subject:?}");
    }
}

#[test]
fn flaws_of_claim_change_what_is_signed() {
    let (mut valid, mut seen) = (BTreeMap::new(), 0);
    for (entry, _) in CORPUS.iter() {
        let signed = signed(entry);
        match entry.catch {
            None => {
                valid.insert(entry.shape.name(), signed);
            }
            Some(Catch::Claim) => {
                seen += 1;
                let changes = entry.flaw != Some(Flaw::PayloadTypeWrong) || !entry.shape.has_envelope();
                assert_eq!(valid[&entry.shape.name()] != signed, changes, "{}", entry.name);
            }
            Some(Catch::Proof | Catch::Form | Catch::Identity) => {}
        }
    }
    assert!(seen > 100, "only {seen} flawed claims");
}

/// What the signer's document says, or the whole piece where it has none.
fn signed(entry: &CorpusEntry) -> Vec<u8> {
    let document: Option<Value> = serde_json::from_slice(&entry.payload).ok();
    let pointer = if entry.shape.layout == Layout::Bundle { "/dsseEnvelope/payload" } else { "/payload" };
    let payload = document.and_then(|document| document.pointer(pointer)?.as_str().map(str::to_owned));
    payload.map_or_else(|| entry.payload.clone(), |payload| STANDARD.decode(payload).unwrap())
}

#[test]
fn every_flaw_is_in_the_corpus_and_every_advisory_that_is_about_evidence() {
    let names: HashSet<_> = CORPUS.iter().map(|(entry, _)| &entry.name).collect();
    assert_eq!(names.len(), CORPUS.len(), "a name is there twice");
    let flaws: HashSet<_> = CORPUS.iter().filter_map(|(entry, _)| entry.flaw).collect();
    assert_eq!(flaws.len(), Flaw::ALL.len());
    assert!(flaws.len() >= 90, "only {}", flaws.len());
    let known: BTreeSet<u8> = Flaw::ALL.iter().flat_map(|flaw| flaw.known_from()).copied().collect();
    // 15, 19, 21, 22 and 26 are about fetching and policies; so are 27–32, 35 and 45–47 of the scenarios.
    let wanted = (1..=14).chain([16, 17, 18, 20, 23, 24, 25]).chain([33, 34, 36, 37, 38, 39, 40, 41, 42, 43, 44]);
    assert_eq!(known, wanted.collect());
    for said in [Said::Signature, Said::Attestation] {
        for layout in [Layout::Legacy, Layout::Bundle] {
            for means in [Means::Certificate, Means::Key] {
                assert!(Shape::ALL.contains(&Shape::of(layout, means, said)));
            }
        }
    }
    assert!(Flaw::ALL.iter().all(|flaw| !flaw.told().is_empty() && flaw.told().ends_with('.')));
    assert_eq!(Flaw::SetFlipped.name(), "set-flipped");
}

/// What is said of each flaw that is for cryptography to notice, so that none is refused for the sake of another.
fn complaints(flaw: Flaw) -> &'static [&'static str] {
    match flaw {
        Flaw::NotLogged => &["no annotation dev.sigstore.cosign/bundle", "must have an inclusion proof"],
        Flaw::ProofMissing => &["must have an inclusion proof"],
        Flaw::EntryOfAnotherImage | Flaw::EntryHashDiffers | Flaw::SecondEntryUnrelated => &[
            "artifact hash mismatch for hashedrekord",
            "DSSE payload hash mismatch",
            "DSSE payload hash does not match intoto",
            "old intoto: hash",
        ],
        Flaw::EntryOfAnotherSigner | Flaw::EntryOfAnotherSignature | Flaw::EntryVerifierDiffers => &[
            "does not match certificate in Rekor",
            "does not match managed key",
            "does not match any signature in Rekor",
            "does not match the intoto Rekor",
            "does not match signature in Rekor",
            "does not match the Rekor verifier",
            "old intoto: hash",
            "old intoto: verifier",
        ],
        Flaw::EntryKindDiffers => &["failed to parse Rekor body"],
        Flaw::SetFlipped | Flaw::SetOfAnotherEntry | Flaw::TimeChanged | Flaw::SetForged | Flaw::SetEmpty => {
            &["SET verification failed"]
        }
        Flaw::UnknownLog => &["No log key valid at integrated time", "No matching Rekor key found"],
        Flaw::LogIdDiffers | Flaw::LogEnded | Flaw::LogNotBegun => &["No log key valid at integrated time"],
        Flaw::LoggedInTheFuture => &["is in the future"],
        Flaw::NoSignedTime | Flaw::TimestampMissing => &["no verified timestamp"],
        Flaw::ProofBroken | Flaw::ProofOfAnotherEntry => &["root hash mismatch"],
        Flaw::ProofShortened | Flaw::ProofLengthened | Flaw::ProofSizeWrong => &["proof hashes, got"],
        Flaw::ProofIndexWrong => &["root hash mismatch", "proof hashes, got"],
        Flaw::CheckpointForged => &["No valid Rekor signature found on checkpoint"],
        Flaw::CheckpointOlder => &["does not match checkpoint root hash", "out of range for tree size"],
        other => complaints_about_the_holder(other),
    }
}

/// Likewise, of timestamps, certificates and keys.
fn complaints_about_the_holder(flaw: Flaw) -> &'static [&'static str] {
    match flaw {
        Flaw::TimestampOfAnotherSignature | Flaw::TimestampTimeChanged => &["Timestamp message hash mismatch"],
        Flaw::TimestampByStranger | Flaw::TimestampEmbedsAnother => &["does not match any trusted TSA certificate"],
        Flaw::TimestampForged | Flaw::TimestampFlipped => &["Failed to verify timestamp signature: Verification"],
        Flaw::TimestampForOtherUse => &["TSA certificate chain validation failed: RequiredEkuNotFound"],
        Flaw::TimestampHashWeak => &["unsupported hash algorithm: 1.3.14.3.2.26"],
        Flaw::TimestampNotGranted => &["Timestamp request not granted"],
        Flaw::TimestampAuthorityEnded => &["outside the validity period of the authority"],
        Flaw::OutsideValidity | Flaw::TimestampLate => &["CertExpired"],
        Flaw::LoggedEarly | Flaw::TimestampEarly => &["CertNotValidYet"],
        Flaw::SctMissing => &["missing SCT extension"],
        Flaw::SctByUnknownLog | Flaw::CtLogEnded => &["key not found or not valid"],
        Flaw::SctForged | Flaw::SctOfAnotherCertificate => {
            &["SCT signature verification failed: Verification error: ECDSA"]
        }
        Flaw::ForeignCa => &["InvalidSignatureForPublicKey"],
        Flaw::CaEnded => &["no trusted certificate authority is valid"],
        Flaw::SelfSigned => &["UnknownIssuer"],
        Flaw::IssuedByLeaf => &["UnknownIssuer", "EndEntityUsedAsCa"],
        Flaw::IntermediateForOtherUse => &["UnknownIssuer", "RequiredEkuNotFound"],
        Flaw::WrongKeyUsage => &["RequiredEkuNotFound"],
        Flaw::LeafIsCa => &["CaUsedAsEndEntity"],
        Flaw::UnknownCriticalExtension => &["UnsupportedCriticalExtension"],
        Flaw::CertificateSwapped
        | Flaw::SignatureWrong
        | Flaw::SignedWithoutType
        | Flaw::PayloadSwapped
        | Flaw::PayloadTypeRetold
        | Flaw::OtherKey
        | Flaw::OtherCurve => &["signature verification failed"],
        Flaw::CertificateInstead => &["signature verification failed", "contains a certificate"],
        other => panic!("{other:?} is not for cryptography to notice"),
    }
}
