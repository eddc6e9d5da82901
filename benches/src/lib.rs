//! Measured paths. Each bench states its input; `benches/README.md` says how to run them and what to compare.

mod attested;
pub mod side_by_side;

pub use attested::Attested;
