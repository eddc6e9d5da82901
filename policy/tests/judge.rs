//! Judging, with signatures made on the spot by a Sigstore of our own: good ones, and ones with one thing wrong each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise"
)]

#[path = "judge/attestations.rs"]
mod attestations;
#[path = "judge/children.rs"]
mod children;
#[path = "judge/configs.rs"]
mod configs;
#[path = "judge/earliest.rs"]
mod earliest;
#[path = "judge/flawed.rs"]
mod flawed;
#[path = "judge/proof.rs"]
mod proof;
#[path = "judge/properties.rs"]
mod properties;
#[path = "judge/served.rs"]
mod served;
/// The workspace's virtual Sigstore, from its sources: it knows nothing of the rest of that crate, which knows of this one.
#[path = "../../tests/src"]
#[allow(dead_code, unused_imports, reason = "made for more than this")]
mod support {
    pub mod sigstore;
}
#[path = "judge/verdicts.rs"]
mod verdicts;

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, ManifestLimits, Repository, UnixTime, UntrustedManifest};
use policy::{
    Admitted, Form, Judge, Judgement, LoadContext, Manifest, NoMatch, Origin, Outcome, PolicySet, Refusal, RegoBounds,
    Source, SourceText, TrustRoot, Unasked, UntrustedEvidence, UntrustedPiece, VerdictLifetimes,
};
use serde_json::{Value, json};
use support::sigstore::{self, KeySigner, LegacySignature, Options, Signer, VirtualSigstore};

/// 2026-01-01, some weeks after everything is signed.
const NOW: UnixTime = UnixTime::from_millis(1_767_225_600_000);
const ABSENT_TTL: Duration = Duration::from_secs(30);
const REFUSED_TTL: Duration = Duration::from_secs(300);
const CLOCK_TTL: Duration = Duration::from_secs(60);
const LIMITS: ManifestLimits = ManifestLimits { layers_max: 100, manifests_max: 100, json_depth_max: 32 };
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// One for all tests: making its keys takes a while.
static SIGSTORE: LazyLock<VirtualSigstore> = LazyLock::new(VirtualSigstore::new);

fn trust_root() -> TrustRoot {
    TrustRoot::parse(SIGSTORE.trusted_root_json().as_bytes()).unwrap()
}

fn repository() -> Repository {
    "cgr.dev/chainguard/nginx".parse().unwrap()
}

fn at(millis: u64) -> UnixTime {
    UnixTime::from_millis(NOW.as_millis() + millis)
}

fn lifetimes() -> VerdictLifetimes {
    VerdictLifetimes { absent_ttl: ABSENT_TTL, refused_ttl: REFUSED_TTL, clock_ttl: CLOCK_TTL, trust_root_ends: None }
}

/// One policy: name, mode, glob, and its authorities as YAML list items indented by two.
fn policy(name: &str, mode: &str, glob: &str, authorities: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: {name}\nspec:\n  mode: {mode}\n  images:\n  - \
         glob: '{glob}'\n  authorities:\n{authorities}"
    )
}

fn keyless(signer: &Signer) -> String {
    format!(
        "  - name: release\n    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuer: {:?}\n        subject: {:?}\n",
        signer.issuer, signer.subject
    )
}

fn by_key(signer: &KeySigner, log: bool) -> String {
    let pem = signer.public_pem().trim().replace('\n', "\n        ");
    let log = if log { "    ctlog:\n      url: https://rekor.sigstore.dev\n" } else { "" };
    format!("  - name: key\n    key:\n      data: |\n        {pem}\n{log}")
}

const STATIC_PASS: &str = "  - name: open\n    static:\n      action: pass\n";
const STATIC_FAIL: &str =
    "  - name: shut\n    static:\n      action: fail\n      message: withdrawn, see the advisory\n";

fn judge_of(policies: &[String], no_match: NoMatch) -> Judge {
    judge_with(policies, no_match, lifetimes())
}

fn judge_with(policies: &[String], no_match: NoMatch, lifetimes: VerdictLifetimes) -> Judge {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match, custom_trust_root: true };
    let source = |(index, text): (usize, &String)| SourceText { name: format!("{index}.yaml"), text: text.clone() };
    let sources: Vec<_> = policies.iter().enumerate().map(source).collect();
    let loaded = PolicySet::load(&sources, &context).unwrap_or_else(|errors| panic!("{errors}"));
    Judge::new(loaded.set, &trust_root(), lifetimes, RegoBounds::default()).unwrap()
}

/// A judge with one enforced policy for everything on cgr.dev.
fn judge(authorities: &str) -> Judge {
    judge_of(&[policy("release", "enforce", "cgr.dev/**", authorities)], NoMatch::Deny)
}

fn chainguard() -> Judge {
    judge(&keyless(&Signer::chainguard()))
}

fn pointer(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes).to_string(), "size": bytes.len() })
}

fn parse(document: &Value) -> UntrustedManifest {
    parse_as(Algorithm::Sha256, document)
}

fn parse_as(algorithm: Algorithm, document: &Value) -> UntrustedManifest {
    let bytes = Bytes::from(document.to_string());
    UntrustedManifest::parse(Addressed::hash(algorithm, bytes), None, &LIMITS).unwrap()
}

/// An image with a config and one layer, told apart by `name`.
fn image(name: &str) -> UntrustedManifest {
    parse(&json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": pointer("application/vnd.oci.image.config.v1+json", format!("config of {name}").as_bytes()),
        "layers": [pointer("application/vnd.oci.image.layer.v1.tar+gzip", format!("layer of {name}").as_bytes())],
    }))
}

fn index(children: &[&UntrustedManifest]) -> UntrustedManifest {
    let entry = |child: &&UntrustedManifest| pointer(child.media_type().as_str(), child.addressed().bytes());
    let manifests: Vec<_> = children.iter().map(entry).collect();
    parse(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
}

fn legacy(LegacySignature { payload, annotations, .. }: LegacySignature) -> UntrustedPiece {
    let payload = Addressed::hash(Algorithm::Sha256, payload);
    UntrustedPiece {
        bytes: payload,
        form: Form::CosignSignature { annotations },
        origin: Origin::beside(Source::CosignTag),
    }
}

fn bundle(text: String) -> UntrustedPiece {
    let bytes = Addressed::hash(Algorithm::Sha256, text.into());
    UntrustedPiece { bytes, form: Form::Bundle, origin: Origin::beside(Source::ReferrersApi) }
}

/// A good signature by Chainguard's identity.
fn good(digest: &Digest) -> UntrustedPiece {
    legacy(SIGSTORE.sign_legacy(&Signer::chainguard(), "cgr.dev/chainguard/nginx", digest, &Options::default()))
}

/// A piece of nothing.
fn rubbish() -> UntrustedPiece {
    let payload = Addressed::hash(Algorithm::Sha256, Bytes::from_static(b"{}"));
    let form = Form::CosignSignature { annotations: BTreeMap::new() };
    UntrustedPiece { bytes: payload, form, origin: Origin::beside(Source::CosignTag) }
}

fn evidence(pieces: Vec<UntrustedPiece>) -> UntrustedEvidence {
    UntrustedEvidence {
        pieces,
        asked: vec![Origin::beside(Source::CosignTag), Origin::beside(Source::ReferrersApi)],
        ..UntrustedEvidence::default()
    }
}

/// The same, with one place that did not answer.
fn cut_off(pieces: Vec<UntrustedPiece>) -> UntrustedEvidence {
    let unasked =
        vec![Unasked { origin: Origin::beside(Source::ReferrersApi), why: "timed out after 5.0 s".to_owned() }];
    UntrustedEvidence { unasked, ..evidence(pieces) }
}

fn judged(judge: &Judge, manifest: &UntrustedManifest, evidence: &UntrustedEvidence) -> Judgement {
    judge.admit(&repository(), manifest.clone(), evidence, NOW)
}

fn admitted(judgement: Judgement) -> Admitted<Manifest> {
    match judgement.outcome {
        Outcome::Admitted(admitted) => admitted,
        other => panic!("not admitted: {other:?}"),
    }
}

/// The refusal, and whether it is for want of evidence.
fn refused(judgement: Judgement) -> (bool, Refusal) {
    match judgement.outcome {
        Outcome::Refused(refusal) => (false, refusal),
        Outcome::Absent(refusal) => (true, refusal),
        other => panic!("not refused: {other:?}"),
    }
}
