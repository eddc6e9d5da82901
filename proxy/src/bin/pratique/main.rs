//! The command line. Thin: each command is read here and done in the library.

mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// A registry to point `docker pull` at. It serves an image only after its signatures satisfy your policy.
#[derive(Parser)]
#[command(name = "pratique", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 the configuration, a policy or the store cannot be used; 2 the command line cannot be read.";

#[derive(Subcommand)]
enum Command {
    /// Serve images until told to stop. SIGHUP reloads policy, trust root, credentials and certificates; SIGTERM drains.
    Serve(Source),
    /// Load configuration, policies and trust root as `serve` would, say what would be in force, and end.
    Check(Source),
}

/// Where the configuration comes from: defaults, then the file, then PRATIQUE_* variables, then these flags.
#[derive(Args, Clone)]
struct Source {
    /// The configuration file, TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to listen on, as 127.0.0.1:5000.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The directory of the store.
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    /// A policy file; may be given several times, and then replaces policy.files.
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,
}

impl From<Source> for config::Overrides {
    fn from(source: Source) -> Self {
        Self { config: source.config, listen: source.listen, storage: source.storage, policy: source.policies }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(source) => serve::serve(source.into()),
        Command::Check(source) => serve::check(&source.into()),
    }
}
