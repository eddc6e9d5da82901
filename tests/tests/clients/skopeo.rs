//! skopeo: it copies all platforms, and keeps every byte where it can be looked at.

use std::path::Path;

use tokio::process::Command;

use crate::{
    command::{Said, command, read, run},
    needs,
    stage::{SIGNED, Stage, UNSIGNED},
};

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_what_is_signed_byte_for_byte_and_shows_why_the_rest_is_refused() {
    if needs::are_met(&["skopeo"], false) {
        check(&Stage::http().await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_does_the_same_over_tls() {
    if needs::are_met(&["skopeo"], false) {
        let stage = Stage::https().await;
        let stranger = run(skopeo(&stage, &["inspect", "--raw", &source(&stage, SIGNED)])).await;
        stranger.refused_with("certificate signed by unknown authority");
        check(&stage).await;
        stage.check_upstream_calls();
        stage.note_http("skopeo").await;
    }
}

async fn check(stage: &Stage) {
    let target = stage.files.path().join("signed");
    copy(stage, &source(stage, SIGNED), &target).await.well();
    compare(stage, &target);

    let by_digest = stage.files.path().join("by-digest");
    let reference = format!("docker://{}/{SIGNED}@{}", stage.host, stage.image.digest);
    copy(stage, &reference, &by_digest).await.well();
    compare(stage, &by_digest);

    let target = stage.files.path().join("unsigned");
    copy(stage, &source(stage, UNSIGNED), &target).await.refused_with(&stage.reason);
    assert!(!target.join("manifest.json").exists(), "a refused image left a manifest");
    let digest = &stage.unsigned.children[0].digest;
    let child = format!("docker://{}/{UNSIGNED}@{digest}", stage.host);
    copy(stage, &child, &target).await.refused_with("refused by policy chainguard-public: ");
}

/// All platforms, as they are.
pub async fn copy(stage: &Stage, source: &str, target: &Path) -> Said {
    let target = format!("dir:{}", target.display());
    let mut command = skopeo(stage, &["copy", "--all", "--preserve-digests"]);
    match stage.certificates() {
        Some(directory) => command.arg("--src-cert-dir").arg(directory),
        None => command.arg("--src-tls-verify=false"),
    };
    command.args([source, &target]);
    run(command).await
}

fn source(stage: &Stage, repository: &str) -> String {
    format!("docker://{}", stage.reference(repository))
}

/// Without the machine's own policy, credentials and registries.
fn skopeo(stage: &Stage, arguments: &[&str]) -> Command {
    let mut command = command("skopeo");
    stage.point(&mut command);
    command.env("REGISTRY_AUTH_FILE", stage.file("auth.json", "{}"));
    command.env("CONTAINERS_REGISTRIES_CONF", stage.file("registries.conf", ""));
    command.arg("--insecure-policy").args(arguments);
    command
}

/// The directory is `manifest.json` for the index, `<hex>.manifest.json` for the images and `<hex>` for blobs.
fn compare(stage: &Stage, directory: &Path) {
    for (digest, bytes) in stage.content() {
        let is_manifest = stage.image.digests().contains(&digest);
        let name = match is_manifest {
            true if digest == stage.image.digest => "manifest.json".to_owned(),
            true => format!("{}.manifest.json", digest.hex()),
            false => digest.hex().to_owned(),
        };
        assert!(read(&directory.join(&name)) == bytes, "{name} is not what upstream has");
    }
}
