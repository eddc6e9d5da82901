//! The commands that ask about images and policies, typed as a person types them: beside a server that owns the store and without
//! one, with the same words either way.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise"
)]

mod cache;
mod documented;
mod explain;
mod policies;
mod refusals;
mod socket;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use support::{
    image::{self, Image, Publisher},
    process::{self, Process},
    sigstore::{Layout, Options, Signer},
    upstream::noise,
    world::{Setup, World},
};
use tokio::process::Command;

const PUBLIC: &str = "chainguard/nginx";

/// What a command said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// `pratique <arguments>` with nothing but `variables` in its environment, to its end.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let binary = process::binary().await.unwrap();
    let mut command = Command::new(binary);
    command.args(arguments).env_clear().envs(variables.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output());
    let output = output.await.expect("it ends by itself").unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it speaks UTF-8");
    Said { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// What stands behind, and where its configuration is.
struct Stage {
    world: World,
    index: Image,
    config: PathBuf,
}

impl Stage {
    /// An index of two platforms, each of the three with a signature and three attestations by `signer`.
    async fn new(repository: &str, signer: &Signer, layout: Layout, setup: &Setup) -> Self {
        let world = World::new().await;
        let index = image::index([
            image::single("linux/amd64", [noise(1000, 1)]),
            image::single("linux/arm64", [noise(1000, 2)]),
        ]);
        publish(&world, repository, signer, layout, &index);
        let config = world.write(setup);
        Self { world, index, config }
    }

    /// Chainguard's public images, under the built-in policy.
    async fn public(layout: Layout) -> Self {
        Self::new(PUBLIC, &Signer::chainguard(), layout, &Setup::default()).await
    }

    /// With the configuration of this stage.
    async fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[]).await
    }

    async fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let config = self.config.to_string_lossy();
        let all: Vec<_> = arguments.iter().copied().chain(["--config", &*config]).collect();
        run(&all, variables).await
    }

    /// The same command beside a server, and then again without one. Both must say the same.
    async fn run_both(&self, arguments: &[&str]) -> Said {
        let server = Process::serve(&self.config).await.unwrap();
        let beside = self.run(arguments).await;
        assert_eq!(server.terminate().await.unwrap().status.code(), Some(0));
        let alone = self.run(arguments).await;
        assert_eq!(beside, alone, "{arguments:?}: beside a server, and alone");
        alone
    }

    /// A file beside the configuration.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.world.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// What was said, with what differs from one run to the next replaced: digests by a number each, the stage's directory, times of
    /// this run.
    fn plain(&self, text: &str) -> String {
        plain(text, self.world.directory.path())
    }
}

fn publish(world: &World, repository: &str, signer: &Signer, layout: Layout, image: &Image) {
    let publisher = Publisher { sigstore: &world.sigstore, signer, options: &Options::default(), layout };
    publisher.publish(&world.registry, repository, "latest", image);
}

fn plain(text: &str, directory: &Path) -> String {
    let text = text.replace(&*directory.to_string_lossy(), "<dir>");
    let mut known = BTreeMap::new();
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("sha256:") {
        let (before, digest) = rest.split_at(at);
        out.push_str(before);
        let end = "sha256:".len() + digest["sha256:".len()..].bytes().take_while(u8::is_ascii_hexdigit).count();
        let count = known.len() + 1;
        let number = known.entry(digest[..end].to_owned()).or_insert(count);
        let _ = write!(out, "sha256:<{number}>");
        rest = &digest[end..];
    }
    out.push_str(rest);
    // Everything signed here is signed in 2025; other times are those of this run.
    out.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || "-:".contains(c)))
        .map(|word| {
            let is_time = word.len() >= 20 && word.as_bytes()[4] == b'-' && word.contains('T') && word.contains('Z');
            if is_time && !word.starts_with("2025-") { format!("<now>{}", &word[20..]) } else { word.to_owned() }
        })
        .collect()
}
