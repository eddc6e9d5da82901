//! The registry that clients speak to: HTTP in front, upstreams behind, admission between.
//!
//! This crate owns every effect: sockets, the clock, the log. It decides nothing about images itself; what it serves, the `policy`
//! crate admitted. The walk of a request, in the order of the modules:
//!
//! ```text
//! listen ─> stack ─> route ─> handle ─> resolve ─> admission ─> respond ─> body
//!                                          │           │
//!                                       upstream   collect, evidence, policy
//! ```

pub mod admin;
pub mod admission;
pub mod app;
pub mod body;
pub mod clock;
pub mod collect;
pub mod command;
pub mod control;
mod descriptors;
pub mod error;
pub mod evidence;
pub mod evidence_tag;
pub mod expiry;
pub mod fill;
pub mod flight;
pub mod handle;
pub mod keeping;
pub mod limits;
pub mod listen;
pub mod manifest_room;
mod memory;
pub mod meters;
pub mod patience;
pub mod refresh;
mod rejudge;
pub mod resolve;
pub mod respond;
pub mod route;
mod scrub;
mod seldom;
pub mod server;
pub mod stack;
mod supervise;
pub mod telemetry;
pub mod trust;
pub mod upstream;
