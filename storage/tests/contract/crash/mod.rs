//! Crashes of a writer, and of the machine under it, at moments of our choosing; then a look at what it left behind.
//!
//! Shared by the contract, which runs a slice, and by the long campaigns of `soak`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "tests work behind the store's back, and each user takes what it needs"
)]

use std::process::{Command, Stdio};

pub mod ledger;
pub mod power;
pub mod steps;

/// How to start a writer.
pub type Start = dyn Fn() -> Command;

/// Chance that is the same again for the same seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }
}

/// What a tool of the system said when it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} does not start: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
