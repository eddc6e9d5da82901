//! podman, which is told that `cgr.dev` is to be found at pratique.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use crate::{
    command::{Said, command, read, run},
    needs,
    stage::{SIGNED, Stage, TEXT, UNSIGNED},
};

#[tokio::test(flavor = "multi_thread")]
async fn podman_pulls_what_is_signed_byte_for_byte_and_shows_why_the_rest_is_refused() {
    if needs::are_met(&["podman"], true) {
        let stage = Stage::http().await;
        check(&Podman::new(&stage, &in_place(&stage))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_does_the_same_over_tls() {
    if needs::are_met(&["podman"], true) {
        let stage = Stage::https().await;
        let podman = Podman::new(&stage, &in_place(&stage));
        let mut stranger = podman.command(&["pull"]);
        stranger.arg(named(SIGNED));
        run(stranger).await.refused_with("certificate signed by unknown authority");
        check(&podman).await;
        stage.check_upstream_calls();
        stage.note_http("podman").await;
    }
}

/// Why README tells everybody to write `location`, not a mirror.
#[tokio::test(flavor = "multi_thread")]
async fn podman_passes_by_a_pratique_that_is_only_a_mirror() {
    if needs::are_met(&["podman"], true) {
        let stage = Stage::http().await;
        let upstream = stage.world.registry.host_port();
        let mirror = format!(
            "[[registry]]\nprefix = \"cgr.dev\"\nlocation = \"{upstream}\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
            stage.host
        );
        let podman = Podman::new(&stage, &mirror);
        stage.world.registry.clear_calls();
        podman.pull(UNSIGNED).await.well();
        let asked = |text: &'static str| stage.world.registry.count(|call| call.mentions(text));
        assert!(asked("containers/") > 0, "podman itself asked upstream");
    }
}

/// The configuration that cannot fall back: the place is another one, and there is no mirror.
fn in_place(stage: &Stage) -> String {
    let insecure = stage.tls.is_none();
    format!("[[registry]]\nprefix = \"cgr.dev\"\nlocation = \"{}\"\ninsecure = {insecure}\n", stage.host)
}

async fn check(podman: &Podman<'_>) {
    let stage = podman.stage;
    podman.pull(SIGNED).await.well();
    let mut inspect = podman.command(&["image", "inspect"]);
    inspect.arg(named(SIGNED));
    let said = run(inspect).await.well();
    let told: Value = serde_json::from_slice(&said.output).unwrap();
    let told = &told[0];
    let (config, _) = stage.own().config().expect("an image has a config");
    assert_eq!(told["Id"], config.hex());
    let digests = [&stage.image.digest, &stage.own().digest].map(|digest| format!("cgr.dev/{SIGNED}@{digest}"));
    for digest in &digests {
        let listed = told["RepoDigests"].as_array().unwrap();
        assert!(listed.iter().any(|it| it == digest.as_str()), "{digest} is not in {listed:?}");
    }
    // podman keeps manifests and config as they came.
    let kept = files(&podman.at("root/vfs-images").join(config.hex()));
    let own = stage.own();
    for bytes in [&stage.image.manifest, &own.manifest, &own.blobs[0].1] {
        assert!(kept.iter().any(|file| file == bytes), "not kept as upstream has it: {bytes:?}");
    }
    podman.run_it().await;

    podman.pull(UNSIGNED).await.refused_with(&stage.reason);
    let mut exists = podman.command(&["image", "exists"]);
    exists.arg(named(UNSIGNED));
    assert!(!run(exists).await.is_ok, "a refused image is there");
}

/// podman with its own storage.
struct Podman<'a> {
    stage: &'a Stage,
}

impl<'a> Podman<'a> {
    fn new(stage: &'a Stage, registries: &str) -> Self {
        stage.file("podman/registries.conf", registries);
        stage.file("podman/auth.json", "{}");
        stage.file("podman/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
        Self { stage }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.stage.files.path().join("podman").join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command("podman");
        self.stage.point(&mut command);
        command.env("CONTAINERS_REGISTRIES_CONF", self.at("registries.conf"));
        command.env("REGISTRY_AUTH_FILE", self.at("auth.json"));
        for directory in ["root", "runroot", "tmpdir", "network-config-dir"] {
            command.arg(format!("--{directory}")).arg(self.at(directory));
        }
        command.args(["--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"]);
        command.args(arguments);
        command
    }

    async fn pull(&self, repository: &str) -> Said {
        let mut command = self.command(&["pull", "--signature-policy"]);
        command.arg(self.at("policy.json"));
        if let Some(directory) = self.stage.certificates() {
            command.arg("--cert-dir").arg(directory);
        }
        command.arg(named(repository));
        run(command).await
    }

    /// With runc where it is installed: crun wants cgroups of one version, which not every machine has.
    async fn run_it(&self) {
        let runtime = if needs::program("runc").is_some() { "runc" } else { "crun" };
        let mut command = self.command(&["--runtime", runtime, "run", "--rm", "--network=none"]);
        command.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]).arg(named(SIGNED));
        let said = run(command).await;
        if said.is_ok {
            assert_eq!(said.trimmed(), TEXT);
        } else {
            support::needs::note(&format!("NOTE: podman cannot run containers here ({})", said.text.trim()));
        }
    }
}

fn named(repository: &str) -> String {
    format!("cgr.dev/{repository}:latest")
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| read(&entry.unwrap().path())).collect()
}
