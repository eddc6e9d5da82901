//! The command line. Thin: each command is read here and done in the library.

mod attestation;
mod cache;
mod cosign;
mod explain;
mod foreign;
mod policy;
mod progress;
mod serve;
mod terminal;
mod trust_root;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tikv_jemallocator::Jemalloc;

/// Gives back what a burst took, as the system's does not (docs/decisions/0013).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A registry to point `docker pull` at. It serves an image only after its signatures satisfy your policy.
#[derive(Parser)]
#[command(name = "pratique", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, and the answer is yes; 1 the answer is no, or the configuration, a policy or a file \
                          cannot be used; 2 the command line cannot be read; 3 nobody can say: upstream, store or server did not \
                          answer.";

#[derive(Subcommand)]
enum Command {
    /// Serve images until told to stop. SIGHUP reloads policy, trust root, credentials and certificates; SIGTERM drains.
    Serve(Source),
    /// Load configuration, policies and trust root as `serve` would, say what would be in force, and end.
    Check(Source),
    Verify(Box<verify::Verify>),
    #[command(visible_alias = "verify-attestation")]
    Attestation(Box<attestation::Attestation>),
    /// Cosign's spelling of `attestation`: `pratique download attestation IMAGE`.
    #[command(subcommand)]
    Download(attestation::Download),
    Explain(explain::Explain),
    #[command(subcommand)]
    Cache(cache::Cache),
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Print what a shell needs to complete these commands.
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// The keys and certificates that signatures are believed by: look at them, refresh them, bring them in by hand.
    #[command(subcommand)]
    TrustRoot(trust_root::TrustRoot),
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
        Command::Verify(verify) => terminal::end(verify.run()),
        Command::Attestation(attestation) | Command::Download(attestation::Download::Attestation(attestation)) => {
            terminal::end(attestation.run())
        }
        Command::Cache(cache) => terminal::end(cache.run()),
        Command::Explain(explain) => terminal::end(explain.run()),
        Command::Policy(policy) => terminal::end(policy.run()),
        Command::Completions { shell } => completions(shell),
        Command::TrustRoot(command) => trust_root::run(command),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pratique", &mut script);
    let stdout = String::from_utf8_lossy(&script).into_owned();
    ExitCode::from(terminal::print(&proxy::command::Shown { stdout, ..Default::default() }).code())
}
