//! containerd by `ctr`, with a hosts.toml that cannot fall back: `server` and the only host are both pratique.

use std::path::PathBuf;

use tokio::process::Command;

use crate::{
    command::{Said, command, run},
    daemon::Daemon,
    needs,
    stage::{SIGNED, Stage, UNSIGNED},
};

/// The programs of it.
pub const PROGRAMS: [&str; 2] = ["containerd", "ctr"];

#[tokio::test(flavor = "multi_thread")]
async fn containerd_pulls_what_is_signed_byte_for_byte_and_is_refused_the_rest() {
    if needs::are_met(&PROGRAMS, true) {
        let stage = Stage::http().await;
        let url = format!("http://{}", stage.host);
        check(&Containerd::start(&stage, &url, &url, "").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containerd_does_the_same_over_tls() {
    if needs::are_met(&PROGRAMS, true) {
        let stage = Stage::https().await;
        let url = format!("https://{}", stage.host);
        let containerd = Containerd::start(&stage, &url, &url, "").await;
        containerd.pull(SIGNED).await.refused_with("certificate signed by unknown authority");
        let directory = stage.certificates().expect("a CA, over TLS");
        let ca = format!("ca = \"{}\"", directory.join("ca.crt").display());
        containerd.write_hosts(&url, &url, &ca);
        check(&containerd).await;
        stage.check_upstream_calls();
        stage.note_http("containerd").await;
    }
}

/// Why README tells everybody to name pratique twice.
#[tokio::test(flavor = "multi_thread")]
async fn containerd_passes_by_a_pratique_that_is_only_a_mirror() {
    if needs::are_met(&PROGRAMS, true) {
        let stage = Stage::http().await;
        let upstream = stage.world.registry.url();
        let containerd = Containerd::start(&stage, &upstream, &format!("http://{}", stage.host), "").await;
        stage.world.registry.clear_calls();
        containerd.pull(UNSIGNED).await.well();
        assert!(
            stage.world.registry.count(|call| call.mentions("containerd/")) > 0,
            "containerd itself asked upstream"
        );
    }
}

async fn check(containerd: &Containerd<'_>) {
    let stage = containerd.stage;
    containerd.pull(SIGNED).await.well();
    let digest = &stage.image.digest;
    let listed = run(containerd.ctr(&["images", "list"])).await.well().text;
    let row = listed.lines().find(|line| line.starts_with(&named(SIGNED))).unwrap_or_else(|| panic!("{listed}"));
    assert!(row.contains(&digest.to_string()), "{row}");
    for (digest, bytes) in stage.content() {
        let kept = run(containerd.ctr(&["content", "get", &digest.to_string()])).await.well();
        assert!(kept.output == bytes, "{digest} is not what upstream has");
    }

    // containerd 1.6 shows the status of a refusal and no more.
    containerd.pull(UNSIGNED).await.refused_with("403 Forbidden");
    let listed = run(containerd.ctr(&["images", "list"])).await.well().text;
    assert!(!listed.contains(UNSIGNED), "{listed}");
    let unsigned = &stage.unsigned;
    for digest in
        unsigned.digests().iter().chain(unsigned.children.iter().flat_map(|it| it.blobs.iter().map(|it| &it.0)))
    {
        if stage.content().iter().all(|(known, _)| known != digest) {
            let kept = run(containerd.ctr(&["content", "get", &digest.to_string()])).await;
            assert!(!kept.is_ok, "{digest} of a refused image is there");
        }
    }
}

/// A containerd of its own, and the client that talks to it.
pub struct Containerd<'a> {
    stage: &'a Stage,
    daemon: Daemon,
}

impl<'a> Containerd<'a> {
    /// Starts a containerd that finds cgr.dev at `host`, and has a snapshotter that works everywhere.
    pub async fn start(stage: &'a Stage, server: &str, host: &str, ca: &str) -> Self {
        Self::start_with(stage, server, host, ca, "").await
    }

    /// The same with more configuration.
    pub async fn start_with(stage: &'a Stage, server: &str, host: &str, ca: &str, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        // Without the plugins that need a network, a snapshotter's device or a kubelet.
        let config = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \
                      \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.aufs\", \
                      \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.internal.v1.opt\"]\n";
        std::fs::write(at("config.toml"), format!("{config}{more}")).unwrap();
        let mut command = command("containerd");
        // From version 2 on it is the daemon that asks.
        stage.point(&mut command);
        command.arg("--config").arg(at("config.toml")).arg("--root").arg(at("root")).arg("--state").arg(at("state"));
        command.arg("--address").arg(at("socket"));
        let daemon = Daemon::start(command, directory, "containerd successfully booted").await;
        let containerd = Self { stage, daemon };
        containerd.write_hosts(server, host, ca);
        containerd
    }

    fn hosts(&self) -> PathBuf {
        self.stage.files.path().join("hosts")
    }

    fn write_hosts(&self, server: &str, host: &str, ca: &str) {
        let text =
            format!("server = \"{server}\"\n{ca}\n[host.\"{host}\"]\ncapabilities = [\"pull\", \"resolve\"]\n{ca}\n");
        self.stage.file("hosts/cgr.dev/hosts.toml", &text);
    }

    /// Its client.
    pub fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = command("ctr");
        self.stage.point(&mut command);
        command.arg("--address").arg(self.daemon.directory.path().join("socket")).args(arguments);
        command
    }

    /// The tag `latest`, for all platforms.
    pub async fn pull(&self, repository: &str) -> Said {
        let mut command = self.ctr(&["images", "pull", "--snapshotter", "native", "--all-platforms", "--hosts-dir"]);
        command.arg(self.hosts()).arg(named(repository));
        run(command).await
    }
}

/// Its version: major and minor.
pub async fn version() -> (u32, u32) {
    let mut asked = command("containerd");
    asked.arg("--version");
    let said = run(asked).await.well().trimmed();
    let words = said.split_whitespace().map(|word| word.trim_start_matches('v'));
    let mut numbers = words.filter_map(|word| {
        let (major, rest) = word.split_once('.')?;
        Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?))
    });
    numbers.next().unwrap_or_else(|| panic!("no version: {said}"))
}

fn named(repository: &str) -> String {
    format!("cgr.dev/{repository}:latest")
}
