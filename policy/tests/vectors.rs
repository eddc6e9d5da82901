//! Real signatures of the real Sigstore, by the public interface.
//!
//! The data is not part of the project: it is read from `$PRATIQUE_VECTORS`, or from `shared/vectors` beside the checkout, and where
//! neither is there each test says so and passes.
//!
//! Where an image's own manifest is at hand (cosign-legacy) the path is whole: manifest and evidence in, admission out. Of
//! Chainguard's images only the signatures are at hand, so there it starts at the digest, with `Judge::assess`, which `admit`
//! consists of.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise, and reads its data itself"
)]

#[path = "vectors/attestations.rs"]
mod attestations;
#[path = "vectors/bundles.rs"]
mod bundles;
#[path = "vectors/chainguard.rs"]
mod chainguard;
#[path = "vectors/cosign_legacy.rs"]
mod cosign_legacy;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, Repository, UnixTime};
use policy::{
    Assessment, Form, Judge, LoadContext, NoMatch, Origin, PolicySet, Refusal, RegoBounds, Source, SourceText,
    TrustRoot, UntrustedEvidence, UntrustedPiece, VerdictLifetimes,
};

/// 2026-11-01: after every signature among the vectors.
const NOW: UnixTime = UnixTime::from_millis(1_793_491_200_000);

/// The folder of vectors, or a line that says it is not there.
fn vectors() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var_os("PRATIQUE_VECTORS").map_or(beside, PathBuf::from);
    if folder.join("PROVENANCE.md").is_file() {
        return Some(folder);
    }
    println!("skipped: no vectors in {} (set PRATIQUE_VECTORS)", folder.display());
    None
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn repository() -> Repository {
    "cgr.dev/chainguard/vector".parse().unwrap()
}

fn trust_root(vectors: &Path, name: &str) -> TrustRoot {
    TrustRoot::parse(&read(&vectors.join(format!("trusted-roots/{name}.trusted_root.json")))).unwrap()
}

fn judge_with(policy: Option<&str>, root: &TrustRoot) -> Judge {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: false };
    let loaded = match policy {
        Some(text) => {
            let source = SourceText { name: "vectors.yaml".to_owned(), text: text.to_owned() };
            PolicySet::load(&[source], &context)
        }
        None => PolicySet::built_in(&context),
    };
    let lifetimes = VerdictLifetimes {
        absent_ttl: Duration::from_secs(30),
        refused_ttl: Duration::from_secs(300),
        clock_ttl: Duration::from_secs(300),
        trust_root_ends: None,
    };
    Judge::new(loaded.unwrap().set, root, lifetimes, RegoBounds::default()).unwrap()
}

/// A policy for every image of cgr.dev with one authority, written as in the file.
fn policy_of(authority: &str) -> String {
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: vectors\nspec:\n  images:\n  - glob: \
         cgr.dev/**\n  authorities:\n  - name: signer\n{authority}"
    )
}

fn keyless(issuer: &str, subject: &str) -> String {
    policy_of(&format!(
        "    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuer: {issuer:?}\n        subject: {subject:?}\n"
    ))
}

fn piece(payload: &[u8], annotations: BTreeMap<String, String>) -> UntrustedPiece {
    let payload = Addressed::hash(Algorithm::Sha256, Bytes::copy_from_slice(payload));
    UntrustedPiece {
        bytes: payload,
        form: Form::CosignSignature { annotations },
        origin: Origin::beside(Source::CosignTag),
    }
}

fn evidence(pieces: Vec<UntrustedPiece>) -> UntrustedEvidence {
    UntrustedEvidence { pieces, asked: vec![Origin::beside(Source::CosignTag)], ..UntrustedEvidence::default() }
}

fn assess(judge: &Judge, digest: &Digest, pieces: Vec<UntrustedPiece>) -> Result<policy::Record, Box<Refusal>> {
    let Assessment::Complete(record) = judge.assess(&repository(), digest, &evidence(pieces), NOW) else {
        panic!("not decided, though every source answered");
    };
    record.refusal().cloned().map_or(Ok(record), |refusal| Err(Box::new(refusal)))
}
