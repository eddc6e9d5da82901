//! How much memory one attestation of 100 MiB takes while it is judged, in a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise, and measures its own process"
)]

/// The workspace's virtual Sigstore, from its sources: it knows nothing of the rest of that crate, which knows of this one.
#[path = "../../tests/src"]
#[allow(dead_code, unused_imports, reason = "made for more than this")]
mod support {
    pub mod sigstore;
}

use std::{fs, path::Path, process::Command, time::Duration};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, UnixTime};
use policy::{
    Assessment, Effect, Form, Judge, LoadContext, NoMatch, Origin, PolicySet, RegoBounds, Source, SourceText,
    TrustRoot, UntrustedEvidence, UntrustedPiece, VerdictLifetimes,
};
use serde_json::json;
use support::sigstore::{Options, Signer, VirtualSigstore};

const NOW: UnixTime = UnixTime::from_millis(1_767_225_600_000);
const SPDX: &str = "https://spdx.dev/Document";
const FOLDER: &str = "PRATIQUE_TEST_LARGE_ATTESTATION";
/// What judging may take above what is there without it.
const LIMIT: u64 = 450 << 20;

fn subject() -> Digest {
    Digest::sha256(b"the image of a large attestation")
}

/// As an SBOM has them: many small values.
fn predicate(bytes: usize) -> serde_json::Value {
    let file = |n: usize| {
        json!({
            "SPDXID": format!("SPDXRef-File-{n}"),
            "fileName": format!("usr/lib/python3.14/site-packages/package_{n}/module.py"),
            "checksums": [{ "algorithm": "SHA256", "checksumValue": format!("{n:064x}") }],
        })
    };
    let files: Vec<_> = (0..bytes / 220).map(file).collect();
    json!({ "spdxVersion": "SPDX-2.3", "files": files })
}

fn judge(root: &str) -> Judge {
    let signer = Signer::chainguard();
    let text = format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: large\nspec:\n  images:\n  - glob: cgr.dev/**\n  \
         authorities:\n  - keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuer: {:?}\n        subject: {:?}\n    \
         attestations:\n    - name: sbom\n      predicateType: {SPDX}\n",
        signer.issuer, signer.subject
    );
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let set = PolicySet::load(&[SourceText { name: "large.yaml".to_owned(), text }], &context).unwrap().set;
    let lifetimes = VerdictLifetimes {
        absent_ttl: Duration::from_secs(30),
        refused_ttl: Duration::from_secs(300),
        clock_ttl: Duration::from_secs(60),
        trust_root_ends: None,
    };
    Judge::new(set, &TrustRoot::parse(root.as_bytes()).unwrap(), lifetimes, RegoBounds::default()).unwrap()
}

#[test]
#[ignore = "mints and judges 200 MiB: by hand, cargo test -p policy --test large -- --ignored"]
fn an_attestation_of_100_mib_is_judged_in_less_than_450() {
    let folder = std::env::temp_dir().join(format!("pratique-large-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let sigstore = VirtualSigstore::new();
    let (signer, options) = (Signer::chainguard(), Options::default());
    let predicate = predicate(74 << 20);
    let layer = sigstore.attest_legacy(&signer, &subject(), SPDX, &predicate, &options);
    fs::write(folder.join("root"), sigstore.trusted_root_json()).unwrap();
    fs::write(folder.join("layer"), &layer.payload).unwrap();
    fs::write(folder.join("annotations"), serde_json::to_vec(&layer.annotations).unwrap()).unwrap();
    fs::write(folder.join("bundle"), sigstore.attest_bundle(&signer, &subject(), SPDX, &predicate, &options)).unwrap();
    for layout in ["legacy", "bundle"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "judged_in_a_process_of_its_own", "--ignored", "--nocapture"]);
        let output = child.env(FOLDER, &folder).env("PRATIQUE_TEST_LAYOUT", layout).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        println!("{layout}: {}", String::from_utf8_lossy(&output.stdout));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
#[ignore = "is started by the test above"]
fn judged_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let judge = judge(&fs::read_to_string(folder.join("root")).unwrap());
    let before = peak();
    let (bytes, form, source) = if std::env::var("PRATIQUE_TEST_LAYOUT").unwrap() == "legacy" {
        let annotations = serde_json::from_slice(&fs::read(folder.join("annotations")).unwrap()).unwrap();
        (fs::read(folder.join("layer")).unwrap(), Form::CosignAttestation { annotations }, Source::CosignAttestationTag)
    } else {
        (fs::read(folder.join("bundle")).unwrap(), Form::Bundle, Source::ReferrersApi)
    };
    let size = bytes.len();
    assert!(size > 99 << 20, "{size}");
    let piece = UntrustedPiece {
        bytes: Addressed::hash(Algorithm::Sha256, Bytes::from(bytes)),
        form,
        origin: Origin::beside(source),
    };
    let asked = [Source::CosignAttestationTag, Source::ReferrersApi, Source::ReferrersTag].map(Origin::beside).to_vec();
    let evidence = UntrustedEvidence { pieces: vec![piece], asked, ..UntrustedEvidence::default() };
    let repository = "cgr.dev/chainguard/large".parse().unwrap();
    let Assessment::Complete(record) = judge.assess(&repository, &subject(), &evidence, NOW) else {
        panic!("not decided")
    };
    assert_eq!(record.effect(), &Effect::Serve);
    let taken = peak() - before;
    println!("{} MiB of attestation, {} MiB above what was there", size >> 20, taken >> 20);
    assert!(taken < LIMIT, "{} MiB", taken >> 20);
}

/// The most that this process ever held, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
