//! The container image: the last stage of the repository's Dockerfile around a static binary, read-only, serving a real
//! `docker pull`.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

use support::process::{self, Process};
use tokio::process::Command;

use crate::{
    command::{command, read, run},
    docker::{Docker, PROGRAMS},
    needs,
    stage::{SIGNED, Stage, UNSIGNED},
};

const DOCKERFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Dockerfile");
const IMAGE: &str = "pratique:under-test";

#[tokio::test(flavor = "multi_thread")]
async fn the_container_image_holds_the_binary_alone_and_serves_a_docker_pull_read_only() {
    if !needs::are_met(&PROGRAMS, true) {
        return;
    }
    let made = tempfile::tempdir().unwrap();
    let binary = match process::static_binary(made.path()).await {
        Ok(binary) => binary,
        Err(error) => return support::needs::skip(&format!("no static binary can be linked here: {error}")),
    };
    let mut stage = Stage::http().await;
    let docker = Docker::start(&stage).await;
    build(&docker, &binary).await;
    check_content(&docker).await;

    let in_container = match run_in_container(&docker, &stage).await {
        Ok(process) => process,
        Err(error) if docker.cannot_run(IMAGE).await.is_some() => {
            return support::needs::skip(&format!(
                "the image was built and its content checked, but no container runs here: {error}"
            ));
        }
        Err(error) => panic!("the container does not serve: {error}"),
    };
    stage.host = in_container.host_port();
    docker.pulls_and_runs(&stage).await;
    docker.pull(&stage.reference(UNSIGNED)).await.refused_with(&stage.reason);
    assert!(
        stage.world.registry.count(support::upstream::Call::is_blob) > 0,
        "{SIGNED} came from upstream through the container"
    );

    let ended = in_container.terminate().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.log.iter().any(|line| line.contains("\"stopped\"")), "{ended:?}");
}

/// `docker build` of the last stage, which takes from the context what the first stage would have made.
async fn build(docker: &Docker, binary: &Path) {
    let context = tempfile::tempdir().unwrap();
    let at = |name: &str| context.path().join(name);
    let dockerfile = String::from_utf8(read(Path::new(DOCKERFILE))).unwrap();
    let (_, last_stage) = dockerfile.rsplit_once("\nFROM ").expect("a Dockerfile of several stages");
    assert!(last_stage.contains("--from=build"), "the last stage copies from the first");
    std::fs::write(at("Dockerfile"), format!("FROM {}", last_stage.replace("--from=build ", ""))).unwrap();
    std::fs::create_dir_all(at("out/var-lib/pratique")).unwrap();
    std::fs::set_permissions(at("out/var-lib/pratique"), Permissions::from_mode(0o700)).unwrap();
    std::fs::copy(binary, at("out/pratique")).unwrap();
    let mut command = docker.command(&["build", "--tag", IMAGE]);
    // The builder inside dockerd: the other one is a plug-in that distributions package apart.
    command.env("DOCKER_BUILDKIT", "0").arg(context.path());
    run(command).await.well();
}

/// Nothing but the binary, and a directory to store in that the user of the image owns.
async fn check_content(docker: &Docker) {
    let user = docker.run(&["image", "inspect", "--format", "{{.Config.User}}", IMAGE]).await.well().trimmed();
    assert_eq!(user, "65532:65532");
    let mut found = Vec::new();
    for layer in docker.saved_layers(IMAGE).await {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("layer.tar");
        std::fs::write(&file, layer).unwrap();
        let mut tar = command("tar");
        tar.args(["--numeric-owner", "--list", "--verbose", "--file"]).arg(&file);
        for line in run(tar).await.well().trimmed().lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            // mode, owner, size, date, time, name
            found.push((words[5].to_owned(), words[0].to_owned(), words[1].to_owned()));
        }
    }
    let names: std::collections::BTreeSet<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["pratique", "var/", "var/lib/", "var/lib/pratique/"].into());
    let store = found.iter().find(|(name, ..)| name == "var/lib/pratique/");
    assert_eq!(store, Some(&("var/lib/pratique/".into(), "drwx------".into(), "65532/65532".into())));
}

/// With all that docker-compose.yml takes away from it, and the network of this machine to reach upstream by.
async fn run_in_container(docker: &Docker, stage: &Stage) -> Result<Process, process::NotServing> {
    let configuration = stage.world.directory.path();
    // For the container's user; everything in there is thrown away.
    std::fs::set_permissions(configuration, Permissions::from_mode(0o755)).unwrap();
    let mut command: Command = docker.command(&["run", "--rm", "--read-only", "--network=host", "--cap-drop=ALL"]);
    command.args(["--security-opt=no-new-privileges:true", "--env", "PRATIQUE_LOG__FORMAT=json"]);
    command.args(["--volume", "store:/var/lib/pratique", "--volume"]);
    command.arg(format!("{}:/etc/pratique:ro", configuration.display()));
    command.args([IMAGE, "serve", "--config", "/etc/pratique/pratique.toml", "--storage", "/var/lib/pratique"]);
    Process::spawn(command, &configuration.join("pratique.toml")).await
}
