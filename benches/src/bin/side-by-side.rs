//! pratique, nginx and distribution in front of one upstream, measured in turns; `benches/README.md` says what the figures mean.

use std::process::ExitCode;

use benches::side_by_side::{Options, run};
use clap::Parser as _;

#[expect(clippy::print_stderr, reason = "a command tells its error")]
fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}
