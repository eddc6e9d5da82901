//! The conformance client over real bundles: each is accepted or refused as its provenance says, by exit code.
//!
//! The data is not part of the project: it is read from `$PRATIQUE_VECTORS`, or from `shared/vectors` beside the checkout, and where
//! neither is there each test says so and passes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use support::sigstore::{KeyKind, KeySigner, Options, Signer, VirtualSigstore};

const CONDA: &str = "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f";
const OCI: &str = "sha256:732112270d7e59418a8c080b134b24cabd67d250d0d0147a97ed95ba5c280aa4";
const NPM: &str = "sha512:7bea9f6e7ff37f5fab0b36bf061200fff03099fd2fd696b91d04bc5e4f225eb9fd6e0cadcad54ba980f43fb352a99e8810b4e0abeb5c0ef2cf9108cd1f258b36";
const GITHUB: &str = "https://token.actions.githubusercontent.com";
const LOGIN: &str = "https://github.com/login/oauth";
const ACTION: &str = "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";

fn client(arguments: &[&str]) -> Output {
    let client = env!("CARGO_BIN_EXE_sigstore-conformance");
    Command::new(client).arg("verify-bundle").args(arguments).output().unwrap()
}

/// Whether it was accepted; a client that did not even begin is neither that nor a refusal.
fn accepted(output: &Output) -> bool {
    match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{output:?}"),
    }
}

fn by_identity(root: &[&str], bundle: &Path, (identity, issuer): (&str, &str), artifact: &str) -> Output {
    let bundle = bundle.to_str().unwrap();
    let identity =
        ["--bundle", bundle, "--certificate-identity", identity, "--certificate-oidc-issuer", issuer, artifact];
    client(&[root, &identity].concat())
}

#[test]
fn real_bundles_are_accepted_under_their_root_by_their_signer_about_their_artifact_alone() {
    let Some(folder) = support::vectors::folder() else { return };
    let staging = folder.join("trusted-roots/staging.trusted_root.json");
    let public = folder.join("trusted-roots/public-good.trusted_root.json");
    let (staging, public) = (staging.to_str().unwrap(), public.to_str().unwrap());
    let blob = folder.join("bundles/cosign-v3-blob.txt");
    let blob_digest = format!("sha256:{}", hex::encode(Sha256::digest(fs::read(&blob).unwrap())));
    let dehamer = ("brian@dehamer.com", LOGIN);
    let vollprecht = ("w.vollprecht@gmail.com", "https://github.com/login/oauth");
    let mut counted = 0;
    for (name, signer, artifact, root) in [
        ("bundleV01-dsse-with-proof.sigstore", dehamer, NPM, &[][..]),
        ("bundleV02-dsse.sigstore", dehamer, NPM, &[]),
        ("bundleV03-dsse.sigstore", dehamer, NPM, &[]),
        ("bundleV03-intoto.sigstore", dehamer, NPM, &[]),
        ("conda-attestation.sigstore.json", (ACTION, GITHUB), CONDA, &["--trusted-root", public]),
        ("conda-attestation-rekor2.sigstore.json", ("jku@goto.fi", LOGIN), CONDA, &["--staging"]),
        ("conda-attestation-rekor2.sigstore.json", ("jku@goto.fi", LOGIN), CONDA, &["--trusted-root", staging]),
        ("cosign-v3-blob.sigstore.json", vollprecht, blob.to_str().unwrap(), &[]),
        ("cosign-v3-blob.sigstore.json", vollprecht, &blob_digest, &[]),
        ("cosign-v3-oci-attestation.sigstore.json", ("cody@soyland.com", LOGIN), OCI, &[]),
    ] {
        let bundle = folder.join("bundles").join(name);
        let judged = |root: &[&str], signer, artifact| by_identity(root, &bundle, signer, artifact);
        let output = judged(root, signer, artifact);
        assert!(accepted(&output), "{name}: {output:?}");
        let refused = |output: Output, why: &str| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!accepted(&output) && said.contains(why), "{name}: {why} is not in {said:?}");
        };
        let other = if root.contains(&"--staging") || root.contains(&staging) { &[][..] } else { &["--staging"] };
        refused(judged(other, signer, artifact), "log-invalid");
        refused(judged(root, ("somebody@example.com", signer.1), artifact), "identity-mismatch");
        refused(judged(root, (signer.0, "https://accounts.example.com"), artifact), "identity-mismatch");
        let another = format!("sha256:{}", hex::encode(Sha256::digest("another")));
        refused(judged(root, signer, &another), "digest-mismatch");
        counted += 1;
    }
    // The suite gives both options where a case has a trust root of its own, which counts.
    let bundle = folder.join("bundles/conda-attestation.sigstore.json");
    let both = by_identity(&["--staging", "--trusted-root", public], &bundle, (ACTION, GITHUB), CONDA);
    assert!(accepted(&both), "{both:?}");
    println!("{counted} real bundles, each accepted once and refused four times");
}

#[test]
fn flawed_bundles_are_refused_each_for_its_own_reason() {
    let Some(folder) = support::vectors::folder() else { return };
    for (name, why) in [
        ("bundle_no_log_entry.txt.sigstore", "log-missing"),
        ("bundle_v3_no_signed_time.txt.sigstore.json", "time-missing"),
        ("bundle_cve_2022_36056.txt.sigstore", "log-invalid"),
        ("bundle_no_checkpoint.txt.sigstore", "log-invalid"),
        ("dsse-2sigs.sigstore.json", "evidence-unreadable"),
    ] {
        let bundle = folder.join("bundles").join(name);
        let document: Value = serde_json::from_slice(&fs::read(&bundle).unwrap()).unwrap();
        let digest = document.pointer("/messageSignature/messageDigest/digest").and_then(Value::as_str);
        let digest = digest.map_or_else(|| vec![0; 32], |digest| STANDARD.decode(digest).unwrap());
        let digest = format!("sha256:{}", hex::encode(digest));
        let output = by_identity(&[], &bundle, ("anybody", "https://accounts.example.com"), &digest);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!accepted(&output) && said.contains(why), "{name}: {why} is not in {said:?}");
    }
}

/// Both means, minted on the spot: keys of every kind, and a private instance's certificates.
#[test]
fn a_private_instance_is_believed_by_its_trusted_root() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let sigstore = VirtualSigstore::new();
    let root = file("root.json", sigstore.trusted_root_json().as_bytes());
    let (artifact, other) = (file("artifact", b"signed"), file("other", b"something else"));
    for options in [Options::default(), Options::rekor_v2()] {
        for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa2048] {
            let (signer, stranger) = (KeySigner::generate(kind), KeySigner::generate(kind));
            let bundle = file("bundle", signer.sign_blob(b"signed", Some(&sigstore), &options).as_bytes());
            let judged = |signer: &KeySigner, artifact: &str| {
                let key = file("key", signer.public_pem().as_bytes());
                client(&["--bundle", &bundle, "--key", &key, "--trusted-root", &root, artifact])
            };
            let output = judged(&signer, &artifact);
            assert!(accepted(&output), "{kind:?}: {output:?}");
            assert!(!accepted(&judged(&stranger, &artifact)), "{kind:?}");
            assert!(!accepted(&judged(&signer, &other)), "{kind:?}");
        }
        let signer = Signer::chainguard();
        let bundle = file("bundle", sigstore.sign_blob(&signer, b"signed", &options).as_bytes());
        let bundle = Path::new(&bundle);
        let identity = (signer.subject.as_str(), signer.issuer.as_str());
        let rooted = ["--trusted-root", root.as_str()];
        let output = by_identity(&rooted, bundle, identity, &artifact);
        assert!(accepted(&output), "{output:?}");
        assert!(!accepted(&by_identity(&rooted, bundle, identity, &other)));
        assert!(!accepted(&by_identity(&[], bundle, identity, &artifact)));
        let key = file("key", KeySigner::generate(KeyKind::P256).public_pem().as_bytes());
        let bundle = bundle.to_str().unwrap();
        assert!(!accepted(&client(&["--bundle", bundle, "--key", &key, "--trusted-root", &root, &artifact])));
    }
}

#[test]
fn a_call_that_says_nothing_about_the_signer_is_no_verdict() {
    for arguments in [
        &["--bundle", "b", "artifact"][..],
        &["--bundle", "b", "--certificate-identity", "i", "artifact"],
        &["--bundle", "b", "--key", "k", "--certificate-identity", "i", "--certificate-oidc-issuer", "u", "artifact"],
        &["--key", "k", "artifact"],
        &["--bundle", "b", "--key", "k"],
    ] {
        assert_eq!(client(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = client(&["--bundle", "/nowhere", "--key", "/nowhere", "artifact"]);
    assert_eq!(output.status.code(), Some(1));
}
