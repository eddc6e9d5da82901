//! Real clients, as Debian packages them, against the real binary: what is signed arrives byte for byte, what is not is refused,
//! and whoever reads the client's output learns why.
//!
//! Each test has an upstream, a pratique and, where the client needs one, a daemon of its own. A test whose client is not installed
//! says `SKIPPED` on standard error; with `PRATIQUE_E2E=required`, as in CI, it fails (`support::needs`). Refusals in the clients' own words:
//! `cargo test -p tests --test clients -- --nocapture`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]
#![expect(clippy::print_stdout, reason = "what clients said is shown by --nocapture")]

#[path = "clients/command.rs"]
mod command;
#[path = "clients/container.rs"]
mod container;
#[path = "clients/containerd.rs"]
mod containerd;
#[path = "clients/cuts.rs"]
mod cuts;
#[path = "clients/daemon.rs"]
mod daemon;
#[path = "clients/docker.rs"]
mod docker;
#[path = "clients/hello.rs"]
mod hello;
#[path = "clients/needs.rs"]
mod needs;
#[path = "clients/podman.rs"]
mod podman;
#[path = "clients/provenance.rs"]
mod provenance;
#[path = "clients/relay.rs"]
mod relay;
#[path = "clients/skopeo.rs"]
mod skopeo;
#[path = "clients/stage.rs"]
mod stage;
#[path = "clients/tags.rs"]
mod tags;
#[path = "clients/tls.rs"]
mod tls;
