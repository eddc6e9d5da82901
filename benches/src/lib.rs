//! Measured paths. Each bench states its input; `benches/README.md` says how to run them and what to compare.

mod attested;

pub use attested::Attested;
