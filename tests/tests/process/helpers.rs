//! Credential helpers whose passwords do not last.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, time::Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use support::{
    image,
    process::Process,
    sigstore::Signer,
    upstream::noise,
    world::{Setup, World},
};

use crate::{admin_url, administered, get, policy_for};

#[tokio::test]
async fn what_a_helper_handed_out_is_renewed_at_its_end_without_a_reload_and_the_metric_follows() {
    let world = World::new().await;
    let bin = world.directory.path().join("bin");
    fs::create_dir(&bin).unwrap();
    // It ended in 2001, the next one ends in 2286.
    let token = |ends: u64| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{ends}}}")));
    let (ended, lasting) = (token(1_000_000_000), token(9_999_999_999));
    let script = format!(
        "#!/bin/sh\ncd \"${{0%/*}}\"\nif [ -e asked ]; then secret={lasting}; else secret={ended}; fi\n: > asked\necho \"{{\\\"Username\\\":\\\"robot\\\",\\\"Secret\\\":\\\"$secret\\\"}}\"\n",
    );
    let program = bin.join("docker-credential-short");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let document = format!("{{\"credHelpers\":{{\"{}\":\"short\"}}}}", world.registry.host_port());
    fs::write(world.directory.path().join("docker.json"), document).unwrap();
    let setup = Setup { upstream: "docker_config = \"docker.json\"".to_owned(), ..administered() };
    let config = world.write(&setup);
    let process = Process::serve_among(&[("PATH", bin.to_str().unwrap())], &config).await.unwrap();
    let renewed = "its credential helper has handed out another password";
    let line = process.logged(renewed, |line| line["message"] == renewed).await.unwrap();
    assert_eq!(line["upstream"], "cgr.dev");
    // The metric is told right after that.
    let ends_in = async || {
        let metrics = get(&format!("{}/metrics", admin_url(&process))).await.text();
        let told = metrics
            .lines()
            .find_map(|line| line.strip_prefix("pratique_credentials_end_seconds{upstream=\"cgr.dev\"} "));
        told.map(|seconds| seconds.parse::<f64>().unwrap())
    };
    let mut seconds = None;
    for _ in 0..1000 {
        seconds = ends_in().await;
        if seconds.is_some() {
            break;
        }
    }
    assert!(seconds.is_some_and(|seconds| seconds > 1e9), "{seconds:?}");
    assert_eq!(world.registry.calls().len(), 0, "nobody has pulled");
    let log = process.terminate().await.unwrap().log.join("\n");
    assert!(!log.contains("has ended") && !log.contains(&ended) && !log.contains(&lasting), "{log}");
}

/// A pratique whose helper hands out a password, and does `again` when it is asked again.
async fn helped(again: &str) -> (World, PathBuf, Process) {
    let world = World::new().await;
    world.push_signed("chainguard/nginx", "latest", &image::single("linux/amd64", [noise(100, 1)]));
    let bin = world.directory.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\ncd \"${{0%/*}}\"\nif [ -e asked ]; then : > again; {again}; fi\n: > asked\necho '{{\"Username\":\"robot\",\"Secret\":\"secret\"}}'\n"
    );
    let program = bin.join("docker-credential-odd");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let document = format!("{{\"credHelpers\":{{\"{}\":\"odd\"}}}}", world.registry.host_port());
    fs::write(world.directory.path().join("docker.json"), document).unwrap();
    let setup = Setup { upstream: "docker_config = \"docker.json\"".to_owned(), ..administered() };
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let process = Process::serve_among(&[("PATH", &path)], &world.write(&setup)).await.unwrap();
    (world, bin, process)
}

/// A reload waits for the helper. Who ends the process meanwhile need not.
#[tokio::test]
async fn a_helper_that_hangs_in_a_reload_does_not_hold_up_the_end() {
    let (_world, bin, process) = helped("sleep 9").await;
    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    while !bin.join("again").exists() {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let ended = process.terminate().await.unwrap();
    assert!(ended.status.success(), "{}", ended.status);
    assert!(began.elapsed().as_secs() < 6, "{:?}", began.elapsed());
}

/// A policy that refuses what it let in before must not wait for somebody's password service.
#[tokio::test]
async fn a_helper_that_fails_at_a_reload_does_not_keep_the_former_policy_in_force() {
    let (world, bin, process) = helped("exit 1").await;
    let url = format!("http://{}/v2/chainguard/nginx/manifests/latest", process.address);
    assert_eq!(get(&url).await.status, 200);
    let policy = policy_for("ours", &Signer::fork());
    let setup = Setup { upstream: "docker_config = \"docker.json\"".to_owned(), ..Setup::with_policy(&policy) };
    world.write(&Setup { top: administered().top, ..setup });
    process.reload().await.unwrap();
    assert!(bin.join("again").exists());
    assert_eq!(get(&url).await.status, 403);
    let log = process.terminate().await.unwrap().log.join("\n");
    assert!(log.contains("its former password stays: docker-credential-odd has nothing for"), "{log}");
}
