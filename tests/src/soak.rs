//! Long campaigns against the real binary: kill it, overload it, measure it, lie to it, and parse what nobody would write.
//!
//! ```text
//!   Bounds ──> campaign ──> Tally        kills · power · load · reloads · memory · manifests · quota · scale · evidence · corrupt · breaks · fuzz ·
//!                │                     model (in one process, on a clock of its own) · diff (in one process)
//!                │
//!              Stage: a world and the binary in front of it
//!              Truth: what is right under every path, so that each complete answer can be told right from wrong
//! ```
//!
//! A campaign ends by itself, speaks to loopback only, and is the same again for the same seed as far as a schedule of the operating
//! system lets it be. The binary `soak` runs them for long; `tests/process` runs a slice of each.

mod audit;
pub mod breaks;
pub mod corrupt;
pub mod diff;
pub mod durability;
pub mod evidence;
pub mod fuzz;
pub mod kills;
pub mod load;
pub mod manifests;
pub mod memory;
pub mod model;
pub mod quota;
mod random;
pub mod reloads;
pub mod scale;
mod stage;
mod tally;
mod truth;

use std::time::{Duration, Instant};

pub use audit::audit;
pub use random::Random;
pub use stage::{Stage, server_log};
pub use tally::{Say, Tally};
pub use truth::{Got, Page, Truth, ask};

/// When a campaign ends: at whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// After so many rounds.
    pub rounds: Option<u64>,
    /// No round begins after so much time.
    pub time: Option<Duration>,
    /// Where its chance begins.
    pub seed: u64,
}

impl Bounds {
    /// So many rounds, however long they take.
    #[must_use]
    pub fn rounds(rounds: u64) -> Self {
        Self { rounds: Some(rounds), time: None, seed: 1 }
    }

    /// So much time, whatever fits in.
    #[must_use]
    pub fn time(time: Duration) -> Self {
        Self { rounds: None, time: Some(time), seed: 1 }
    }

    /// Numbers of rounds, from 0, until a bound is reached.
    pub fn each(self) -> impl Iterator<Item = u64> {
        let started = Instant::now();
        (0..self.rounds.unwrap_or(u64::MAX)).take_while(move |_| self.time.is_none_or(|time| started.elapsed() < time))
    }
}

/// One clause for what should not have happened.
pub(crate) fn failed(what: &str, error: impl std::fmt::Display) -> String {
    format!("{what}: {error}")
}
