//! The whole thing on one machine, without network or account: a stand-in for cgr.dev holding images signed by a virtual Sigstore,
//! pratique in front, and pulls that are served and refused, each with its reason. Then it stays up for your own `docker pull`.

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a demonstration speaks to the person who runs it, and knows its own cast"
)]

mod cast;
mod table;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use cast::{Expected, Part};
use support::{
    client::Client,
    pull::pull,
    world::{Setup, World},
};
use table::Row;

/// Where clients are told to pull from, if the port is free.
const ADDRESS: &str = "127.0.0.1:5000";

#[tokio::main]
async fn main() -> ExitCode {
    let once = std::env::args().any(|argument| argument == "--once");
    let started = Instant::now();
    let world = World::new().await;
    let parts = cast::push(&world);
    let setup = Setup {
        top: format!("listen = \"{}\"\n[log]\nfilter = \"off\"", address(once)),
        policies: vec![("policies.yaml".to_owned(), cast::policies(&parts))],
        ..Setup::default()
    };
    let pratique = world.pratique(&setup).await;
    println!("A stand-in for cgr.dev at {}, pratique in front of it at {}.", world.registry.url(), pratique.url());
    println!("Every image below is pulled through pratique, manifest and blobs.\n");
    let client = Client::plain();
    let mut rows = Vec::new();
    for part in &parts {
        let outcome = pull(&client, &pratique.url(), &part.repository, "latest").await;
        rows.push(Row::new(part, outcome));
    }
    table::print(&rows);
    let wrong = rows.iter().filter(|row| !row.as_expected).count();
    println!("\n{} images pulled in {:.1} s, {wrong} not as expected.", rows.len(), started.elapsed().as_secs_f64());
    if !once {
        invite(&pratique.url(), &parts);
        let _ = tokio::signal::ctrl_c().await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(5), pratique.stop()).await;
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The usual address, so that commands can be typed as they stand; any other where it is taken, and for a run that only checks.
fn address(once: bool) -> &'static str {
    let free = !once && std::net::TcpListener::bind(ADDRESS).is_ok();
    if free { ADDRESS } else { "127.0.0.1:0" }
}

fn invite(url: &str, parts: &[Part]) {
    let host = url.trim_start_matches("http://");
    println!("\nIt stays up. Try, in another terminal:\n");
    for part in parts.iter().filter(|part| part.expected == Expected::Served).take(2) {
        println!("  docker pull {host}/{}", part.repository);
    }
    for part in parts.iter().filter(|part| part.expected == Expected::Refused).take(1) {
        println!("  docker pull {host}/{}    # refused, and docker says why", part.repository);
    }
    println!("  skopeo inspect --tls-verify=false docker://{host}/{}", parts[0].repository);
    println!("  curl -s http://{host}/v2/{}/tags/list", parts[0].repository);
    println!("\nCtrl-C ends it.");
}
