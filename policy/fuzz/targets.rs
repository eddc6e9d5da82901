//! What is attacked: plain functions of bytes from outside that panic where what must hold does not.
//!
//! Run by cargo-fuzz (beside this file), over the committed seeds and some mutations of them by `policy/tests/fuzz_seeds.rs`, and for
//! long by `soak fuzz`. The seeds are good evidence of one digest by one signer under `trusted_root.json`, whose keys nobody has any more.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, Repository, UnixTime};
use policy::{
    Assessment, Effect, Form, Judge, LoadContext, NoMatch, Origin, PolicySet, RegoBounds, Source, SourceText,
    TrustRoot, UntrustedEvidence, UntrustedPiece, VerdictLifetimes,
};
use serde::Deserialize;

pub use policy::fuzz::{dsse, rego_input};

/// 2026-01-01, some weeks after everything is signed.
const NOW: UnixTime = UnixTime::from_millis(1_767_225_600_000);
/// The signer of all seeds, and somebody who never signed anything.
const SIGNER: [&str; 2] = [
    "https://token.actions.githubusercontent.com",
    "https://github.com/chainguard-images/images/.github/workflows/release.yaml@refs/heads/main",
];
const STRANGER: [&str; 2] = [
    "https://token.actions.githubusercontent.com",
    "https://github.com/somebody/else/.github/workflows/release.yaml@refs/heads/main",
];

static JUDGE: LazyLock<Judge> = LazyLock::new(|| judge(SIGNER));
static STRANGERS: LazyLock<Judge> = LazyLock::new(|| judge(STRANGER));

/// A layer of cosign's tags, written down as one document so that it can be bent as one.
#[derive(Deserialize)]
struct Layer {
    payload: String,
    annotations: BTreeMap<String, String>,
}

/// A layer of `.sig`: the simple signing payload and its annotations.
pub fn signature(data: &[u8]) {
    judged(signature_piece(data));
}

/// A layer of `.att`: the envelope and its annotations.
pub fn attestation(data: &[u8]) {
    judged(attestation_piece(data));
}

/// A Sigstore bundle.
pub fn bundle(data: &[u8]) {
    judged(bundle_piece(data));
}

/// Policy documents: what loads has policies in it, of which every question can be asked; what does not, says where.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let upstreams = ["cgr.dev", "docker.io"].map(|name| name.parse().expect("a name"));
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let source = SourceText { name: "fuzzed.yaml".to_owned(), text: text.to_owned() };
    let loaded = match PolicySet::load(&[source], &context) {
        Ok(loaded) => loaded,
        Err(errors) => {
            assert!(errors.to_string().contains("fuzzed.yaml"), "an error that does not say where: {errors}");
            return;
        }
    };
    assert!(!loaded.set.policies().is_empty(), "a set without policies");
    for policy in loaded.set.policies() {
        assert!(!policy.authorities().is_empty(), "a policy that nobody has to satisfy");
    }
    let repository = repository();
    if !loaded.set.matching(&repository, &signed()).is_empty() {
        assert!(loaded.set.may_match_repository(&repository), "matches an image and not its repository");
    }
}

/// What tells the seeds from rubbish: whether a good judge admits the signed digest by it.
#[allow(dead_code, reason = "asked of the seeds alone")]
pub fn admits_the_signed(target: &str, data: &[u8]) -> bool {
    let piece = match target {
        "signature" => signature_piece(data),
        "attestation" => attestation_piece(data),
        _ => bundle_piece(data),
    };
    admits(&JUDGE, &signed(), piece)
}

fn signature_piece(data: &[u8]) -> UntrustedPiece {
    let Layer { payload, annotations } = layer(data);
    let origin = Origin::beside(Source::CosignTag);
    UntrustedPiece { bytes: hashed(payload), form: Form::CosignSignature { annotations }, origin }
}

fn attestation_piece(data: &[u8]) -> UntrustedPiece {
    let Layer { payload, annotations } = layer(data);
    let origin = Origin::beside(Source::CosignAttestationTag);
    UntrustedPiece { bytes: hashed(payload), form: Form::CosignAttestation { annotations }, origin }
}

fn bundle_piece(data: &[u8]) -> UntrustedPiece {
    let bytes = Addressed::hash(Algorithm::Sha256, Bytes::copy_from_slice(data));
    UntrustedPiece { bytes, form: Form::Bundle, origin: Origin::beside(Source::ReferrersApi) }
}

/// What is no longer a layer is a payload as a whole.
fn layer(data: &[u8]) -> Layer {
    let whole = |_| Layer { payload: String::from_utf8_lossy(data).into_owned(), annotations: BTreeMap::new() };
    serde_json::from_slice(data).unwrap_or_else(whole)
}

fn hashed(text: String) -> Addressed {
    Addressed::hash(Algorithm::Sha256, Bytes::from(text.into_bytes()))
}

/// Bent evidence may still be good of what was signed: blanks, a chain that nobody needs. It is never good of anything else, and
/// never somebody else's.
fn judged(piece: UntrustedPiece) {
    // Only not to panic.
    let _ = admits(&JUDGE, &signed(), piece.clone());
    assert!(!admits(&JUDGE, &Digest::sha256(b"never signed"), piece.clone()), "admitted what nobody signed");
    assert!(!admits(&STRANGERS, &signed(), piece), "admitted by somebody who signed nothing");
}

fn admits(judge: &Judge, digest: &Digest, piece: UntrustedPiece) -> bool {
    let asked = [Source::CosignTag, Source::CosignAttestationTag, Source::ReferrersApi].map(Origin::beside).to_vec();
    let evidence = UntrustedEvidence { pieces: vec![piece], asked, ..UntrustedEvidence::default() };
    match judge.assess(&repository(), digest, &evidence, NOW) {
        Assessment::Complete(record) | Assessment::Partial(record) => {
            !matches!(record.effect(), Effect::Refuse(_) | Effect::Absent(_))
        }
        Assessment::Undecided(_) => false,
    }
}

/// Two ways in: a signature, or an attestation whose words a rule likes.
fn judge([issuer, subject]: [&str; 2]) -> Judge {
    let keyless = format!(
        "    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuer: {issuer}\n        subject: {subject}\n"
    );
    let text = format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: fuzzed\nspec:\n  images:\n  - \
         glob: cgr.dev/**\n  authorities:\n  - name: signed\n{keyless}  - name: attested\n{keyless}    attestations:\n    - \
         name: provenance\n      predicateType: https://slsa.dev/provenance/v1\n      policy:\n        type: rego\n        data: |\n          \
         package sigstore\n          isCompliant {{\n            startswith(input.predicate.runDetails.builder.id, \"https://\")\n          }}\n"
    );
    let upstreams = ["cgr.dev".parse().expect("a name")];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let source = SourceText { name: "fuzzed.yaml".to_owned(), text };
    let policies = PolicySet::load(&[source], &context).expect("the policy above loads").set;
    let root = TrustRoot::parse(include_bytes!("trusted_root.json")).expect("a good trust root");
    let ttl = Duration::from_secs(1);
    let lifetimes = VerdictLifetimes { absent_ttl: ttl, refused_ttl: ttl, clock_ttl: ttl, trust_root_ends: None };
    Judge::new(policies, &root, lifetimes, RegoBounds::default()).expect("the policy above has no keys")
}

/// The one digest that was ever signed.
fn signed() -> Digest {
    Digest::sha256(b"signed")
}

fn repository() -> Repository {
    "cgr.dev/chainguard/nginx".parse().expect("a repository")
}
