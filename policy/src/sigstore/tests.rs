#![expect(clippy::disallowed_methods, reason = "real data lies outside the project and is read by these tests alone")]

mod envelopes;
mod files;
mod identities;
mod keys;
mod memory;
mod old_intoto;
mod roots;
mod statements;
mod trees;

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sigstore_types::Sha256Hash;

use super::*;
use crate::verifier::{Names, Signer};

/// 2026-11-01: after every signature among the vectors.
const NOW: UnixTime = UnixTime::from_millis(1_793_491_200_000);
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// The folder of real data, or a line that says it is not there.
fn vectors() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var_os("PRATIQUE_VECTORS").map_or(beside, PathBuf::from);
    let there = folder.join("PROVENANCE.md").is_file();
    if !there {
        println!("skipped: no vectors in {} (set PRATIQUE_VECTORS)", folder.display());
    }
    there.then_some(folder)
}

fn sigstore(folder: &Path, root: &str) -> Sigstore {
    let bytes = std::fs::read(folder.join(format!("trusted-roots/{root}.trusted_root.json"))).unwrap();
    Sigstore::new(&TrustRoot::parse(&bytes).unwrap()).unwrap()
}

fn bundle_text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join("bundles").join(name)).unwrap()
}

fn signed_by(signed: &Signed) -> &str {
    match &signed.signer {
        Signer::Certificate { subject, .. } => subject,
        Signer::Key { .. } => panic!("signed by a key"),
    }
}

fn asked() -> Asked {
    Asked { log: true, timestamp: false, now: NOW }
}

fn statement_of(kind: &str, predicate: &str, subject: &str) -> String {
    format!(r#"{{"_type":"{kind}","predicateType":"{predicate}","subject":{subject},"predicate":{{}}}}"#)
}

fn names(algorithm: &str, hex: &str) -> String {
    format!(r#"[{{"name":"{hex}","digest":{{"{algorithm}":"{hex}"}}}}]"#)
}

/// An envelope as it is written, with a signature that nobody made.
fn written(payload_type: &str, payload: &[u8]) -> String {
    let payload = STANDARD.encode(payload);
    format!(r#"{{"payloadType":"{payload_type}","payload":"{payload}","signatures":[{{"sig":"dW51c2Vk"}}]}}"#)
}

fn open(text: &str) -> Result<envelope::Envelope, String> {
    let written = serde_json::from_str(text).map_err(|error| error.to_string())?;
    envelope::Envelope::open(written, None).map(|(envelope, _)| envelope)
}
