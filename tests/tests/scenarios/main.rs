//! Whole pulls through a pratique that runs in this process, started from a configuration file as an operator would start it.
//!
//! A scenario asserts the answer, and where it matters how many calls upstream got.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::case_sensitive_file_extension_comparisons,
    clippy::wildcard_enum_match_arm,
    reason = "a test may stop at the first surprise, and says so where it skips"
)]

mod arriving;
mod attestations;
mod clocks;
mod conditions;
mod crowds;
mod differences;
mod doors;
mod fills;
mod guards;
mod hardening;
mod hostile;
mod meanwhile;
mod memory;
mod messages;
mod migrated;
mod misbehaving;
mod model;
mod offline;
mod order;
mod outcomes;
mod quota;
mod rejudged;
mod reload;
mod repositories;
mod serving;
mod tags;
mod tls;
mod trust_root;
mod vectors;

use support::{
    client::{Answer, Client},
    image::{self, Image},
    policies::{decided as static_policy, keyless as keyless_policy},
};

/// An image with one layer of these many bytes.
fn sized(bytes: usize, seed: u64) -> Image {
    image::single("linux/amd64", [support::upstream::noise(bytes, seed)])
}

async fn get(url: &str) -> Answer {
    Client::plain().get(url, &[]).await.expect("an answer")
}

/// A policy that accepts Chainguard's public identity for `glob`.
fn chainguard_policy(name: &str, glob: &str) -> String {
    let signer = support::sigstore::Signer::chainguard();
    keyless_policy(name, glob, &signer.issuer, &signer.subject)
}
