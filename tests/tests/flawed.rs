//! The corpus of flawed evidence, judged as a policy judges it: each piece is refused for a named reason of its own, and each valid twin is
//! admitted, so that nothing is refused for the wrong cause.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use policy::{Judge, Reason};
use support::{
    image::{self, Image},
    judging,
    sigstore::{Catch, CorpusEntry, Layout, Shape, VirtualSigstore, corpus},
};

/// Looked over by a person; whoever changes a reason changes it here.
const REASONS: &str = include_str!("flawed/reasons.txt");

static IMAGE: LazyLock<Image> = LazyLock::new(|| image::single("linux/amd64", [image::filler(10, 1)]));

/// What the policy made of a piece: nothing where it admitted the image.
type Verdict = Option<Reason>;

static VERDICTS: LazyLock<Vec<(CorpusEntry, Verdict)>> = LazyLock::new(|| {
    let mut judges: BTreeMap<(String, String), Judge> = BTreeMap::new();
    let judged = |entry: CorpusEntry| {
        let key = (judging::policy(&entry), entry.trusted_root.clone());
        let judge = judges.entry(key).or_insert_with_key(|(policy, root)| judging::judge(policy, root));
        let verdict = judging::verdict(judge, &IMAGE, &entry);
        (entry, verdict)
    };
    corpus(&VirtualSigstore::new(), &IMAGE.digest).into_iter().map(judged).collect()
});

#[test]
fn valid_twins_are_admitted() {
    let twins: Vec<_> = VERDICTS.iter().filter(|(entry, _)| entry.flaw.is_none()).collect();
    assert_eq!(twins.len(), Shape::ALL.len());
    for (entry, verdict) in twins {
        assert_eq!(*verdict, None, "{}", entry.name);
    }
}

#[test]
fn flawed_evidence_is_refused() {
    let flawed = VERDICTS.iter().filter(|(entry, _)| entry.flaw.is_some());
    assert!(flawed.clone().count() > 1900);
    let admitted = flawed.filter(|(_, verdict)| verdict.is_none()).map(|(entry, _)| entry.name.as_str());
    assert_eq!(admitted.collect::<BTreeSet<_>>(), BTreeSet::new());
}

/// A signer who is another is told as that, unless the certificate speaks for nobody; and nothing else is.
#[test]
fn only_who_is_somebody_else_is_refused_for_his_identity() {
    let identity = [Reason::IdentityMismatch, Reason::CertificateUntrusted, Reason::SignerUnsuitable];
    for (entry, verdict) in VERDICTS.iter() {
        let Some(reason) = verdict else { continue };
        let is_another = entry.catch == Some(Catch::Identity);
        assert!(!is_another || identity.contains(reason), "{}: {reason}", entry.name);
        assert!(is_another || *reason != Reason::IdentityMismatch, "{}", entry.name);
    }
}

/// `flawed/reasons.txt` names, for each flaw, the reasons it is refused for: one, or one for each kind of evidence in which it shows
/// somewhere else.
#[test]
fn each_flaw_is_refused_for_its_own_reason() {
    let mut reasons: BTreeMap<String, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
    for (entry, verdict) in VERDICTS.iter() {
        let (Some(flaw), Some(reason)) = (entry.flaw, verdict) else { continue };
        let said = if entry.predicate_type.is_some() { "attestation" } else { "signature" };
        let layout = if entry.shape.layout == Layout::Bundle { "bundle" } else { "legacy" };
        let kinds = reasons.entry(flaw.name()).or_default().entry(reason.as_str()).or_default();
        kinds.insert(format!("{layout} {said}"));
    }
    let line = |(flaw, reasons): (String, BTreeMap<&str, BTreeSet<String>>)| {
        let told: Vec<_> = match reasons.len() {
            1 => reasons.into_keys().map(str::to_owned).collect(),
            _ => reasons
                .into_iter()
                .map(|(reason, kinds)| format!("{reason} ({})", kinds.into_iter().collect::<Vec<_>>().join(", ")))
                .collect(),
        };
        format!("{flaw}: {}", told.join("; "))
    };
    let found: Vec<String> = reasons.into_iter().map(line).collect();
    let expected: Vec<_> = REASONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(found == expected, "found:\n{}", found.join("\n"));
}
