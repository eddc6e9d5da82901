//! One image with everything that Chainguard publishes about it, and policies that ask for all of it.

use std::{fmt::Write as _, time::Duration};

use oci::{Addressed, Algorithm, ManifestLimits, Repository, UnixTime, UntrustedManifest};
use policy::{
    Form, Judge, Judgement, LoadContext, NoMatch, Origin, PolicySet, Readmission, Record, RegoBounds, Source,
    SourceText, TrustRoot, UntrustedEvidence, UntrustedPiece, VerdictLifetimes,
};
use support::{
    bare::{Bare, Read},
    image::{self, Image},
    sigstore::{Options, Signer, VirtualSigstore, predicate},
    upstream::noise,
};

/// 2026-01-01, some weeks after everything is signed.
const NOW: UnixTime = UnixTime::from_millis(1_767_225_600_000);
const LIMITS: ManifestLimits = ManifestLimits { layers_max: 100, manifests_max: 100, json_depth_max: 64 };

/// What each of the three attestations has to say: type, and the body of its rule.
const RULES: [(&str, &str); 3] = [
    (
        predicate::PROVENANCE,
        "input.predicate.runDetails.builder.id == \"https://github.com/chainguard-dev/terraform-provider-apko\"",
    ),
    (predicate::IMAGE_CONFIGURATION, "input.predicate.accounts[\"run-as\"] == \"65532\""),
    (predicate::SPDX, "input.predicate.packages[_].name == \"nginx\""),
];

/// An image, a signature and three attestations as bundles, a judge, and the same four pieces as the Sigstore crates read them.
pub struct Attested {
    judge: Judge,
    repository: Repository,
    image: Image,
    manifest: UntrustedManifest,
    evidence: UntrustedEvidence,
    bare: Bare,
    pieces: Vec<Read>,
}

impl Attested {
    /// Makes keys, image and evidence.
    ///
    /// # Panics
    /// When what is made here does not load.
    #[must_use]
    pub fn new() -> Self {
        let (sigstore, signer) = (VirtualSigstore::new(), Signer::chainguard());
        let image = image::single("linux/amd64", [noise(1000, 1)]);
        let (digest, options) = (&image.digest, Options::default());
        let mut bundles = vec![sigstore.sign_bundle(&signer, digest, &options)];
        for (kind, said) in predicate::chainguard(digest, &["amd64"]) {
            bundles.push(sigstore.attest_bundle(&signer, digest, kind, &said, &options));
        }
        let root = sigstore.trusted_root_json();
        let pieces = bundles.iter().map(|bundle| Read::new(bundle)).collect();
        Self {
            judge: judge(&signer, &root),
            repository: "cgr.dev/chainguard/nginx".parse().expect("a repository"),
            manifest: UntrustedManifest::parse(image.addressed(), Some(image.media_type.as_str()), &LIMITS)
                .expect("a manifest"),
            evidence: evidence(bundles),
            bare: Bare::new(&root),
            pieces,
            image,
        }
    }

    /// From evidence to verdict.
    #[must_use]
    pub fn admit(&self) -> Judgement {
        self.judge.admit(&self.repository, self.manifest.clone(), &self.evidence, NOW)
    }

    /// The verdict as it is stored.
    ///
    /// # Panics
    /// When the image is not admitted: then nothing is measured.
    #[must_use]
    pub fn record(&self) -> Record {
        let judgement = self.admit();
        assert!(matches!(judgement.outcome, policy::Outcome::Admitted(_)), "refused: {:?}", judgement.outcome);
        judgement.record.expect("decided")
    }

    /// From stored verdict to admission.
    #[must_use]
    pub fn readmit(&self, record: &Record) -> Readmission {
        self.judge.readmit(&self.repository, self.manifest.clone(), record, NOW)
    }

    /// The cryptography of the four pieces alone: how many are good.
    #[must_use]
    pub fn verify_bare(&self) -> usize {
        self.pieces.iter().filter(|piece| self.bare.verify(piece, &self.image.digest)).count()
    }
}

impl Default for Attested {
    fn default() -> Self {
        Self::new()
    }
}

fn evidence(bundles: Vec<String>) -> UntrustedEvidence {
    let origin = Origin::beside(Source::ReferrersApi);
    let piece = |bundle: String| UntrustedPiece {
        bytes: Addressed::hash(Algorithm::Sha256, bundle.into_bytes().into()),
        form: Form::Bundle,
        origin: origin.clone(),
    };
    let pieces = bundles.into_iter().map(piece).collect();
    UntrustedEvidence { pieces, asked: vec![origin.clone()], ..UntrustedEvidence::default() }
}

/// Two policies that both have to pass: one asks for the signature, the other for the three attestations.
fn judge(signer: &Signer, trusted_root: &str) -> Judge {
    let Signer { issuer, subject, .. } = signer;
    let policy = |name: &str| {
        format!(
            "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: {name}\nspec:\n  images:\n  - \
             glob: cgr.dev/**\n  authorities:\n  - name: release\n    keyless:\n      url: https://fulcio.sigstore.dev\n      \
             identities:\n      - issuer: {issuer:?}\n        subject: {subject:?}\n"
        )
    };
    let mut text = format!("{}---\n{}    attestations:\n", policy("signed"), policy("attested"));
    for (at, (kind, rule)) in RULES.iter().enumerate() {
        write!(
            text,
            "    - name: number-{at}\n      predicateType: {kind}\n      policy:\n        type: rego\n        data: |\n          \
             package sigstore\n          default isCompliant = false\n          isCompliant {{\n            {rule}\n          }}\n"
        )
        .expect("texts grow");
    }
    let upstreams = ["cgr.dev".parse().expect("a host")];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let source = SourceText { name: "bench.yaml".to_owned(), text };
    let policies = PolicySet::load(&[source], &context).expect("the policies above load").set;
    let root = TrustRoot::parse(trusted_root.as_bytes()).expect("the root loads");
    let ttl = Duration::from_secs(300);
    let lifetimes = VerdictLifetimes { absent_ttl: ttl, refused_ttl: ttl, clock_ttl: ttl, trust_root_ends: None };
    Judge::new(policies, &root, lifetimes, RegoBounds::default()).expect("policies and root make a judge")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_an_admission_by_four_good_pieces() {
        let attested = Attested::new();
        assert_eq!(attested.verify_bare(), 4);
        let record = attested.record();
        assert!(matches!(attested.readmit(&record), Readmission::Admitted(_)));
        // None of the four can be done without.
        for left_out in 0..4 {
            let mut evidence = attested.evidence.clone();
            evidence.pieces.remove(left_out);
            let judgement = attested.judge.admit(&attested.repository, attested.manifest.clone(), &evidence, NOW);
            assert!(!matches!(judgement.outcome, policy::Outcome::Admitted(_)), "admitted without piece {left_out}");
        }
    }
}
