//! Judging one piece of the corpus under the policy it was made for.

use std::time::Duration;

use bytes::Bytes;
use oci::{Addressed, Algorithm, ManifestLimits, UnixTime, UntrustedManifest};
use policy::{
    Judge, LoadContext, NoMatch, Origin, Outcome, PolicySet, Reason, RegoBounds, Source, SourceText, TrustRoot,
    UntrustedEvidence, UntrustedPiece, VerdictLifetimes,
};

use crate::{
    image::Image,
    sigstore::{CorpusEntry, Form, Signer},
};

/// 2026-01-01, some weeks after everything is signed.
const NOW: UnixTime = UnixTime::from_millis(1_767_225_600_000);
const LIMITS: ManifestLimits = ManifestLimits { layers_max: 100, manifests_max: 100, json_depth_max: 32 };

/// A judge by one policy and one trust root.
///
/// # Panics
/// When either cannot be used.
#[must_use]
pub fn judge(policy: &str, trusted_root: &str) -> Judge {
    let upstreams = ["cgr.dev".parse().expect("a name")];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let source = SourceText { name: "policy.yaml".to_owned(), text: policy.to_owned() };
    let loaded = PolicySet::load(&[source], &context).unwrap_or_else(|errors| panic!("{errors}"));
    let root = TrustRoot::parse(trusted_root.as_bytes()).expect("a usable trust root");
    let ttl = Duration::from_secs(1);
    let lifetimes = VerdictLifetimes { absent_ttl: ttl, refused_ttl: ttl, clock_ttl: ttl, trust_root_ends: None };
    Judge::new(loaded.set, &root, lifetimes, RegoBounds::default()).expect("a judge")
}

/// What the piece is made to satisfy: its key with the log, or the wanted signer; a signature, or an attestation of its type.
#[must_use]
pub fn policy(entry: &CorpusEntry) -> String {
    let authority = if let Some(pem) = &entry.public_key {
        format!(
            "    key:\n      data: |\n        {}\n    ctlog:\n      url: https://rekor.sigstore.dev\n",
            pem.trim().replace('\n', "\n        ")
        )
    } else {
        let Signer { issuer, subject, .. } = Signer::chainguard();
        format!(
            "    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuer: {issuer:?}\n        \
             subject: {subject:?}\n"
        )
    };
    let attestations = entry.predicate_type.map_or_else(String::new, |predicate_type| {
        format!("    attestations:\n    - name: said\n      predicateType: {predicate_type}\n")
    });
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: release\nspec:\n  images:\n  - \
         glob: 'cgr.dev/**'\n  authorities:\n  - name: release\n{authority}{attestations}"
    )
}

/// What the judge makes of an image with this one piece: nothing where it is admitted.
///
/// # Panics
/// When it cannot be decided: everything was asked.
#[must_use]
pub fn verdict(judge: &Judge, image: &Image, entry: &CorpusEntry) -> Option<Reason> {
    let repository = "cgr.dev/chainguard/nginx".parse().expect("a repository");
    let manifest = UntrustedManifest::parse(image.addressed(), None, &LIMITS).expect("a manifest");
    match judge.admit(&repository, manifest, &evidence(entry), NOW).outcome {
        Outcome::Admitted(_) => None,
        Outcome::Refused(refusal) | Outcome::Absent(refusal) => Some(refusal.reason),
        Outcome::Undecided(undecided) => panic!("{}: {undecided}", entry.name),
    }
}

fn evidence(entry: &CorpusEntry) -> UntrustedEvidence {
    let bytes = Addressed::hash(Algorithm::Sha256, Bytes::from(entry.payload.clone()));
    let annotations = entry.annotations.clone();
    let (form, source) = match entry.form {
        Form::CosignSignature => (policy::Form::CosignSignature { annotations }, Source::CosignTag),
        Form::CosignAttestation => (policy::Form::CosignAttestation { annotations }, Source::CosignAttestationTag),
        Form::Bundle => (policy::Form::Bundle, Source::ReferrersApi),
    };
    let origin = Origin::beside(source);
    let pieces = vec![UntrustedPiece { bytes, form, origin: origin.clone() }];
    UntrustedEvidence { pieces, asked: vec![origin], ..UntrustedEvidence::default() }
}
