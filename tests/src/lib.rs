//! What scenarios are made of: a throw-away Sigstore, an upstream that can be told to misbehave, images, clients, and the whole
//! world with pratique in front of it.
//!
//! Everything here signs for real; nothing in the product knows that it is being tested.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "test support: a surprise ends the test that met it"
)]

pub mod bare;
pub mod canary;
pub mod client;
pub mod forward;
pub mod frames;
pub mod image;
pub mod judging;
pub mod needs;
pub mod policies;
pub mod process;
pub mod pull;
pub mod raw;
pub mod sigstore;
#[cfg(test)]
mod sigstore_tests;
pub mod soak;
pub mod tuf;
pub mod upstream;
pub mod vectors;
pub mod world;
