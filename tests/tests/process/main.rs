//! The real binary as an operator meets it: starts that are refused, reloads, drains, restarts with and without warning, the admin
//! listener; and a slice of each campaign that `soak` runs for long.

#![allow(
    clippy::float_cmp,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise; counters are whole numbers"
)]

mod admin;
mod canaries;
mod drain;
mod failing;
mod framing;
mod full;
mod helpers;
mod log;
mod parallel;
mod proxies;
mod reload;
mod restart;
mod resumed;
mod rot;
mod slices;
mod slow;
mod start;
mod tags;
mod trust_root;

use std::path::Path;

use support::{
    client::{Answer, Client},
    image::{self, Image},
    policies, process,
    sigstore::Signer,
    upstream::noise,
    world::{Setup, World},
};
use tokio::process::Command;

const REPOSITORY: &str = "chainguard/nginx";

/// A signed index of two images, the first with a layer of that size.
async fn signed(layer_bytes: usize) -> (World, Image) {
    let world = World::new().await;
    let index = image::index([
        image::single("linux/amd64", [noise(layer_bytes, 1)]),
        image::single("linux/arm64", [noise(6, 2)]),
    ]);
    world.push_signed(REPOSITORY, "latest", &index);
    (world, index)
}

/// How a pratique ended that was not meant to serve.
struct Refused {
    code: Option<i32>,
    said: String,
}

/// `pratique serve --config <config> <flags>`, with nothing in its environment, to its end.
async fn serve_in_vain(config: &Path, flags: &[&str]) -> Refused {
    serve_in_vain_among(&[], config, flags).await
}

/// The same with these variables and no others.
async fn serve_in_vain_among(variables: &[(&str, &str)], config: &Path, flags: &[&str]) -> Refused {
    let binary = process::binary().await.unwrap();
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(config).args(flags).kill_on_drop(true);
    command.env_clear().envs(variables.iter().copied());
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), command.output());
    let output = output.await.expect("it ends by itself").unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    Refused { code: output.status.code(), said }
}

async fn get(url: &str) -> Answer {
    Client::plain().get(url, &[]).await.expect("an answer")
}

/// A policy under which this signer's images pass.
fn policy_for(name: &str, signer: &Signer) -> String {
    policies::keyless(name, "cgr.dev/chainguard/**", &signer.issuer, &signer.subject)
}

/// The usual policy with a regular expression on its last line, line 13, that nobody can read.
fn unreadable_policy() -> String {
    policy_for("broken", &Signer::new("https://issuer.example", "x"))
        .replace("subject: x", "subjectRegExp: \"^(unclosed$\"")
}

/// The same world with an admin listener.
fn administered() -> Setup {
    let setup = Setup::default();
    Setup { top: format!("{}\nadmin_listen = \"127.0.0.1:0\"", setup.top), ..setup }
}

/// Where the admin listener is; it is told before pratique says that it serves.
fn admin_url(process: &process::Process) -> String {
    process.admin_url().expect("a line about the admin listener")
}
