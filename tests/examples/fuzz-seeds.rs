//! Mints the seeds of the targets in `policy/fuzz` and `storage/oci/fuzz` anew, with a Sigstore whose keys end with this process:
//! `cargo run -p tests --example fuzz-seeds`. They are committed, so that every run attacks the same bytes.

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a tool speaks to the person who runs it, and stops at the first surprise"
)]

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use oci::{Algorithm, Digest};
use serde_json::json;
use support::{
    image,
    sigstore::{KeyKind, KeySigner, LegacySignature, Options, Signer, VirtualSigstore, predicate},
};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (policy, oci) = (root.join("policy/fuzz"), root.join("storage/oci/fuzz/seeds"));
    let sigstore = VirtualSigstore::new();
    write(&policy.join("trusted_root.json"), sigstore.trusted_root_json().as_bytes());
    let policy = policy.join("seeds");
    signatures(&sigstore, &policy);
    attestations(&sigstore, &policy);
    bundles(&sigstore, &policy);
    policies(&sigstore, &policy);
    inputs(&policy);
    manifests(&oci);
    names(&oci);
}

/// What the targets know as signed.
fn signed() -> Digest {
    Digest::sha256(b"signed")
}

fn signatures(sigstore: &VirtualSigstore, seeds: &Path) {
    let plain = Options::default();
    let variants = [
        ("chain", plain.clone()),
        ("no-chain", Options { chain: false, ..plain.clone() }),
        ("timestamp", Options { timestamp: true, ..plain.clone() }),
        ("annotated", Options { annotations: [("team".to_owned(), "release".to_owned())].into(), ..plain }),
    ];
    for (name, options) in variants {
        let signature = sigstore.sign_legacy(&Signer::chainguard(), "cgr.dev/chainguard/nginx", &signed(), &options);
        write(&seeds.join(format!("signature/{name}.json")), &layer(&signature));
    }
}

fn attestations(sigstore: &VirtualSigstore, seeds: &Path) {
    let (kind, said) = (predicate::PROVENANCE, predicate::provenance(predicate::BUILDER));
    for (name, options) in
        [("provenance", Options::default()), ("timestamp", Options { timestamp: true, ..Options::default() })]
    {
        let attested = sigstore.attest_legacy(&Signer::chainguard(), &signed(), kind, &said, &options);
        write(&seeds.join(format!("attestation/{name}.json")), &layer(&attested));
        write(&seeds.join(format!("dsse/{name}.json")), &attested.payload);
    }
    let spdx = predicate::spdx(&signed());
    let attested =
        sigstore.attest_legacy(&Signer::chainguard(), &signed(), predicate::SPDX, &spdx, &Options::default());
    write(&seeds.join("dsse/spdx.json"), &attested.payload);
    // The other alphabet, without padding.
    let written = String::from_utf8_lossy(&attested.payload).into_owned();
    let mut envelope: serde_json::Value = serde_json::from_str(&written).expect("an envelope is JSON");
    let payload = envelope["payload"].as_str().expect("a payload").replace('+', "-").replace('/', "_");
    envelope["payload"] = json!(payload.trim_end_matches('='));
    write(&seeds.join("dsse/url-safe.json"), envelope.to_string().as_bytes());
}

fn bundles(sigstore: &VirtualSigstore, seeds: &Path) {
    let (signer, digest) = (Signer::chainguard(), signed());
    let (kind, said) = (predicate::PROVENANCE, predicate::provenance(predicate::BUILDER));
    let made = [
        ("signature", sigstore.sign_bundle(&signer, &digest, &Options::default())),
        ("signature-v2-log", sigstore.sign_bundle(&signer, &digest, &Options::rekor_v2())),
        ("provenance", sigstore.attest_bundle(&signer, &digest, kind, &said, &Options::default())),
    ];
    for (name, bundle) in made {
        write(&seeds.join(format!("bundle/{name}.json")), bundle.as_bytes());
    }
}

fn policies(sigstore: &VirtualSigstore, seeds: &Path) {
    let head = |name: &str| {
        format!("apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: {name}\nspec:\n")
    };
    let images = "  images:\n  - glob: \"cgr.dev/chainguard/**\"\n  - glob: cgr.dev/*/nginx@sha256:*\n  authorities:\n";
    let keyless = "  - name: release\n    keyless:\n      url: https://fulcio.sigstore.dev\n      insecureIgnoreSCT: true\n      identities:\n      \
                   - issuer: https://token.actions.githubusercontent.com\n        subjectRegExp: ^https://github\\.com/chainguard-images/.*$\n    \
                   ctlog:\n      url: https://rekor.sigstore.dev\n";
    let attested = "    attestations:\n    - name: provenance\n      predicateType: https://slsa.dev/provenance/v1\n      policy:\n        \
                    type: rego\n        data: |\n          package sigstore\n          default isCompliant = false\n          isCompliant {\n            \
                    input.predicate.buildDefinition.buildType == \"https://apko.dev/slsa-build-type@v1\"\n          }\n    - name: sbom\n      \
                    predicateType: spdxjson\n";
    let all_of = "  policy:\n    type: rego\n    data: |\n      package sigstore\n      isCompliant {\n        \
                  input.authorityMatches[\"release\"]\n      }\n";
    let pem = KeySigner::generate(KeyKind::P256).public_pem().trim().replace('\n', "\n        ");
    let key = format!("  - key:\n      hashAlgorithm: sha256\n      data: |\n        {pem}\n");
    let fixed = "  - static:\n      action: fail\n      message: withdrawn\n";
    let files = [
        ("warn", format!("{}  mode: warn\n{images}{key}", head("warned"))),
        ("several", format!("{}{images}{keyless}---\n{}{images}{fixed}", head("first"), head("second"))),
        ("all", format!("{}{images}{keyless}{key}{fixed}", head("all"))),
        ("attested", format!("{}{images}{keyless}{attested}", head("attested"))),
        ("whole-rule", format!("{}{images}{keyless}{all_of}", head("whole"))),
        ("trust-root", sigstore.trust_root_document("own")),
    ];
    for (name, text) in files {
        write(&seeds.join(format!("policy/{name}.yaml")), text.as_bytes());
    }
}

/// Statements as content rules are shown them, of each kind that has a shape, and of none.
fn inputs(seeds: &Path) {
    let completeness = json!({ "parameters": true, "environment": false, "materials": false });
    let slsa = json!({
        "builder": { "id": "https://example.test/builder" },
        "buildType": "https://example.test/type",
        "invocation": { "configSource": { "uri": "git+https://example.test", "digest": { "sha1": "00" }, "entryPoint": "build" } },
        "metadata": { "buildStartedOn": "2025-10-09T08:50:00Z", "buildFinishedOn": null, "completeness": completeness, "reproducible": false },
        "materials": [{ "uri": "git+https://example.test", "digest": { "sha1": "00" } }],
        "ok": true,
    });
    let link = json!({ "_type": "link", "name": "build", "materials": {}, "products": { "out": { "sha256": "00" } }, "byproducts": { "stdout": "" }, "command": ["make"], "environment": {}, "ok": true });
    let vulnerabilities = json!({
        "invocation": { "parameters": [], "uri": "", "event_id": "", "builder.id": "" },
        "scanner": { "uri": "https://example.test", "version": "1", "db": { "uri": "", "version": "" }, "result": {} },
        "metadata": { "scanStartedOn": "2025-10-09T08:50:00Z", "scanFinishedOn": "2025-10-09T08:53:20Z" },
        "ok": true,
    });
    let said = [
        ("yes", json!({ "ok": true })),
        ("no", json!({ "ok": false, "deep": [[{ "ok": true }]] })),
        ("slsa", slsa),
        ("link", link),
        ("vulnerabilities", vulnerabilities),
        ("spdx", predicate::spdx(&signed())),
    ];
    for (name, predicate) in said {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://example.test/fuzzed",
            "subject": [{ "name": "cgr.dev/chainguard/nginx", "digest": { "sha256": signed().hex() } }],
            "predicate": predicate,
        });
        write(&seeds.join(format!("rego_input/{name}.json")), statement.to_string().as_bytes());
    }
}

fn manifests(seeds: &Path) {
    let single = image::single("linux/arm64/v8", [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
    let index = image::index([single.clone(), image::single("linux/amd64", [])]);
    let docker = image::Builder::new("linux/amd64").flavor(image::Flavor::Docker).layer("three").build();
    let referrer = image::bundle_referrer(&single.descriptor(), "{}");
    for (name, image) in [("image", single), ("index", index), ("docker", docker), ("referrer", referrer)] {
        write(&seeds.join(format!("manifest/{name}.json")), &image.manifest);
    }
}

fn names(seeds: &Path) {
    let (short, long) = (Digest::sha256(b"").to_string(), Digest::of(Algorithm::Sha512, b"").to_string());
    let names = [
        ("sha256", short.as_str()),
        ("sha512", &long),
        ("tag", "latest"),
        ("tag-signs", "1.2.3_-x"),
        ("path", "chainguard/nginx"),
        ("path-signs", "a__b/c---d/e.f"),
        ("port", "localhost:5000/a/b"),
        ("library", "docker.io/library/alpine"),
        ("host", "cgr.dev"),
        ("address", "[::1]:5000"),
    ];
    for (name, text) in names {
        write(&seeds.join(format!("names/{name}")), text.as_bytes());
    }
}

/// A layer with its annotations as one document.
fn layer(signature: &LegacySignature) -> Vec<u8> {
    let payload = String::from_utf8_lossy(&signature.payload);
    let annotations: &BTreeMap<String, String> = &signature.annotations;
    json!({ "payload": payload, "annotations": annotations }).to_string().into_bytes()
}

fn write(path: &Path, bytes: &[u8]) {
    let folder = path.parent().expect("a file is in a folder");
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).expect("the working tree can be written");
    println!("{} bytes  {}", bytes.len(), path.display());
}
