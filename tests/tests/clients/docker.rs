//! docker, which names pratique in the image reference: a registry mirror would be asked for Docker Hub only.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::{
    command::{Said, command, read, run},
    daemon::Daemon,
    needs,
    stage::{SIGNED, Stage, TEXT, UNSIGNED},
};

/// The programs of it.
pub const PROGRAMS: [&str; 2] = ["dockerd", "docker"];

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_what_is_signed_and_runs_it_and_shows_why_the_rest_is_refused() {
    if needs::are_met(&PROGRAMS, true) {
        let stage = Stage::http().await;
        check(&stage, &Docker::start(&stage).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_does_the_same_over_tls() {
    if needs::are_met(&PROGRAMS, true) {
        let stage = Stage::https().await;
        let docker = Docker::start(&stage).await;
        docker.pull(&stage.reference(SIGNED)).await.refused_with("certificate signed by unknown authority");
        let _trusted = Ours::ca(&stage);
        check(&stage, &docker).await;
        stage.check_upstream_calls();
        stage.note_http("docker").await;
    }
}

async fn check(stage: &Stage, docker: &Docker) {
    docker.pulls_and_runs(stage).await;
    let refused = docker.pull(&stage.reference(UNSIGNED)).await;
    refused.refused_with(&stage.reason);
    assert!(refused.text.contains("pull access denied"), "{}", refused.text);
    assert!(!docker.has(&stage.reference(UNSIGNED)).await, "a refused image is there");
}

/// A dockerd of its own, and the client that talks to it.
pub struct Docker {
    daemon: Daemon,
    /// dockerd 20.10 makes itself a key there, whatever it is told.
    _key: Ours,
}

impl Docker {
    /// Starts a dockerd that leaves the machine's networks and images alone.
    pub async fn start(stage: &Stage) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("daemon.json"), "{}").unwrap();
        let mut dockerd = command("dockerd");
        stage.point(&mut dockerd);
        for (flag, path) in
            [("--config-file", "daemon.json"), ("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            dockerd.arg(flag).arg(at(path));
        }
        dockerd.arg("--host").arg(format!("unix://{}", at("socket").display()));
        dockerd.args(["--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"]);
        let key = Ours::unless_there(["/etc/docker".into(), "/etc/docker/key.json".into()]);
        Self { daemon: Daemon::start(dockerd, directory, "API listen on").await, _key: key }
    }

    /// The client, with no configuration of anybody's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let directory = self.daemon.directory.path();
        let mut command = command("docker");
        command.arg("--config").arg(directory.join("client"));
        command.arg("--host").arg(format!("unix://{}", directory.join("socket").display())).args(arguments);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Said {
        run(self.command(arguments)).await
    }

    pub async fn pull(&self, reference: &str) -> Said {
        self.run(&["pull", reference]).await
    }

    /// Whether it has such an image.
    pub async fn has(&self, reference: &str) -> bool {
        self.run(&["image", "inspect", reference]).await.is_ok
    }

    /// Why no container runs here, if so: some sandboxes forbid what runc does.
    pub async fn cannot_run(&self, reference: &str) -> Option<String> {
        let said = self.run(&["run", "--rm", "--network=none", reference]).await;
        (!said.is_ok).then_some(said.text)
    }

    /// Pulls the signed image, compares what it got with upstream, and runs it.
    pub async fn pulls_and_runs(&self, stage: &Stage) {
        let reference = stage.reference(SIGNED);
        self.pull(&reference).await.well();
        let inspect = ["image", "inspect", "--format", "{{.Id}} {{json .RepoDigests}}", &reference];
        let (config, _) = stage.own().config().expect("an image has a config");
        // An image's id is the digest of its config, and that names the layers.
        let expected = format!("{config} [\"{}/{SIGNED}@{}\"]", stage.host, stage.image.digest);
        assert_eq!(self.run(&inspect).await.well().trimmed(), expected);
        let layer = &stage.own().layers()[0].1;
        assert!(
            self.saved_layers(&reference).await.iter().any(|saved| saved == layer),
            "the layer is not what upstream has"
        );

        let said = self.run(&["run", "--rm", "--network=none", &reference]).await;
        if said.is_ok {
            assert_eq!(said.trimmed(), TEXT);
        } else {
            support::needs::skip(&format!("no container runs here, only its content was compared: {}", said.text));
        }
    }

    /// The layers of an image, as tar files, from `docker save`.
    pub async fn saved_layers(&self, reference: &str) -> Vec<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("image.tar");
        self.run(&["save", "--output", &archive.display().to_string(), reference]).await.well();
        let mut tar = command("tar");
        tar.arg("-xf").arg(&archive).arg("-C").arg(directory.path());
        run(tar).await.well();
        let manifest: serde_json::Value =
            serde_json::from_slice(&read(&directory.path().join("manifest.json"))).unwrap();
        let layers = manifest[0]["Layers"].as_array().expect("a list of layers");
        layers.iter().map(|name| read(&directory.path().join(name.as_str().unwrap()))).collect()
    }
}

/// Files and directories beyond our own that are ours all the same, and go when this does; what was there before stays.
struct Ours(Vec<PathBuf>);

impl Ours {
    /// Those of these, parents first, that are not there yet.
    fn unless_there(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().filter(|path| !path.exists()).collect())
    }

    /// Places the private CA where dockerd looks for it.
    fn ca(stage: &Stage) -> Self {
        let from = stage.certificates().expect("a CA, over TLS").join("ca.crt");
        let directory = Path::new("/etc/docker/certs.d").join(&stage.host);
        let file = directory.join("ca.crt");
        let ours =
            Self::unless_there(["/etc/docker".into(), "/etc/docker/certs.d".into(), directory.clone(), file.clone()]);
        std::fs::create_dir_all(directory).unwrap();
        std::fs::copy(from, &file).unwrap();
        ours
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A directory stays where somebody else has put something meanwhile.
            let _ = if path.is_dir() { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
        }
    }
}
