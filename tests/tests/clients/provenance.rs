//! A real image with its real provenance, from a real registry, to a real client: the complete layout that slsa-verifier publishes, loaded
//! into Debian's docker-registry by skopeo, pulled through pratique.

use std::{net::TcpListener, path::Path};

use serde_json::{Value, json};
use support::process::Process;
use tempfile::TempDir;

use crate::{
    command::{command, read, run},
    daemon::Daemon,
    needs,
};

/// The index, and the `.att` that speaks about it.
const INDEX: &str = "234e2c830c2fb31ac5671789d22adfe44d30c3ee831d01beae5e237841a13122";
const ATTESTATIONS: &str = "21454caf3a160dfbe6359f0501aa8401c6c0f2c7a8b71380ea21f8c4b48b64fe";
const REPOSITORY: &str = "slsa-framework/example";
/// The workflow that made the provenance, and is its builder.
const GENERATOR: &str =
    "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_image_is_served_for_its_real_provenance_and_refused_under_another_workflow() {
    // Data that is not ours to commit: its absence is told, and is no failure of a client.
    let Some(vectors) = support::vectors::folder() else { return };
    let layout = vectors.join("layouts/slsa-container-v2.1.0");
    if !needs::are_met(&["skopeo", "docker-registry"], false) {
        return;
    }
    let (registry, port) = registry().await;
    load(&layout, port).await;

    let good =
        pratique(port, &policy(&format!("{GENERATOR}@refs/tags/v2.1.0"), &format!("{GENERATOR}@refs/tags/v2.1.0")))
            .await;
    let target = good.1.path().join("pulled");
    copy(&good.0, &target).await.well();
    assert_eq!(read(&target.join("manifest.json")), read(&layout.join("blobs/sha256").join(INDEX)));

    for (identity, builder, why) in [
        (format!("{GENERATOR}@refs/tags/v1.0.0"), format!("{GENERATOR}@refs/tags/v2.1.0"), "identity does not match"),
        (
            format!("{GENERATOR}@refs/tags/v2.1.0"),
            format!("{GENERATOR}@refs/tags/v1.0.0"),
            "the rule of attestation \"provenance\" says no",
        ),
    ] {
        let refusing = pratique(port, &policy(&identity, &builder)).await;
        copy(&refusing.0, &refusing.1.path().join("pulled")).await.refused_with(why);
    }
    drop(registry);
}

/// Debian's docker-registry with a store of its own.
async fn registry() -> (Daemon, u16) {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = json!({
        "version": 0.1,
        "log": { "level": "info" },
        "storage": { "filesystem": { "rootdirectory": directory.path().join("registry") } },
        "http": { "addr": format!("127.0.0.1:{port}") },
    });
    // Every JSON document is a YAML document.
    let path = directory.path().join("config.yml");
    std::fs::write(&path, settings.to_string()).unwrap();
    let mut server = command("docker-registry");
    server.arg("serve").arg(path);
    (Daemon::start(server, directory, "listening on").await, port)
}

/// Pushes index and attestations, each under its tag, as the publisher's registry has them.
async fn load(layout: &Path, port: u16) {
    let files = tempfile::tempdir().unwrap();
    let source = files.path().join("layout");
    std::fs::create_dir_all(source.join("blobs")).unwrap();
    std::os::unix::fs::symlink(layout.canonicalize().unwrap().join("blobs/sha256"), source.join("blobs/sha256"))
        .unwrap();
    std::fs::copy(layout.join("oci-layout"), source.join("oci-layout")).unwrap();
    let mut index: Value = serde_json::from_slice(&read(&layout.join("index.json"))).unwrap();
    let tags = [(INDEX, "v2.1.0".to_owned()), (ATTESTATIONS, format!("sha256-{INDEX}.att"))];
    for manifest in index["manifests"].as_array_mut().unwrap() {
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        let (_, tag) = tags.iter().find(|(hex, _)| digest.ends_with(hex)).unwrap();
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    }
    std::fs::write(source.join("index.json"), index.to_string()).unwrap();
    for (_, tag) in &tags {
        let mut copy = command("skopeo");
        copy.args(["--insecure-policy", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:{tag}", source.display()))
            .arg(format!("docker://127.0.0.1:{port}/{REPOSITORY}:{tag}"));
        run(copy).await.well();
    }
}

/// A policy that demands SLSA provenance by this workflow, about this builder.
fn policy(identity: &str, builder: &str) -> String {
    format!(
        r#"apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: provenance
spec:
  images:
  - glob: registry.example/**
  authorities:
  - name: generator
    keyless:
      url: https://fulcio.sigstore.dev
      identities:
      - issuer: https://token.actions.githubusercontent.com
        subject: {identity}
    attestations:
    - name: provenance
      predicateType: https://slsa.dev/provenance/v0.2
      policy:
        type: rego
        data: |
          package sigstore
          default isCompliant = false
          isCompliant {{
            input.predicate.builder.id == "{builder}"
          }}
"#
    )
}

/// pratique in front of the registry under this policy, with the public-good trust root.
async fn pratique(port: u16, policy: &str) -> (Process, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("policy.yaml"), policy).unwrap();
    let settings = format!(
        "listen = \"127.0.0.1:0\"\n[storage]\npath = \"store\"\n[policy]\nfiles = [\"policy.yaml\"]\n[[upstreams]]\nname = \
         \"registry.example\"\nurl = \"http://127.0.0.1:{port}\"\nprefix = \"\"\n"
    );
    let path = directory.path().join("pratique.toml");
    std::fs::write(&path, settings).unwrap();
    (Process::serve(&path).await.unwrap(), directory)
}

/// All platforms, as they are.
async fn copy(pratique: &Process, target: &Path) -> crate::command::Said {
    let mut copy = command("skopeo");
    copy.args(["--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false"]);
    copy.arg(format!("docker://{}/{REPOSITORY}:v2.1.0", pratique.host_port())).arg(format!("dir:{}", target.display()));
    run(copy).await
}
