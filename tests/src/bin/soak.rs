//! Long campaigns against the real binary, by hand or by night: `cargo run --release -p tests --bin soak -- kills --rounds 1000`.
//!
//! Each ends by itself, speaks to loopback only, and closes with `N passed, N failed`; the exit code is 0 only if none failed.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool speaks to the person who runs it")]

use std::{process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, builder::RangedU64ValueParser};
use support::soak::{
    Bounds, Tally, breaks, corrupt, diff, durability, evidence, fuzz,
    kills::{self, struck},
    load, manifests, memory, model, quota, reloads, scale,
};

/// Long campaigns against the real pratique.
#[derive(Parser)]
#[command(name = "soak", version, about)]
struct Cli {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Subcommand)]
enum Campaign {
    /// kill -9 at points of a pull, restart, and look whether anything is lost or half there. Without bounds: 20 points.
    Kills {
        #[command(flatten)]
        limits: Limits,
        /// Instead: every step of a commit of blobs and facts, under strace, and every error of the disk at each.
        #[arg(long)]
        steps: bool,
        /// Instead: the server, under strace, at the n-th call of a kind while clients pull more than the budget holds.
        #[arg(long, conflicts_with = "steps")]
        server: bool,
    },
    /// Power losses while blobs and facts are stored, on a loop-mounted ext4; needs root. Without bounds: 20.
    Power(Limits),
    /// What `kills --steps` and `power` start, and kill: it does what standard input says.
    #[command(hide = true)]
    Writer,
    /// Many clients, reloads, and an upstream that misbehaves now and then. Without bounds: 30 s.
    Load {
        #[command(flatten)]
        limits: Limits,
        /// How many clients.
        #[arg(long, default_value_t = load::Size::USUAL.clients)]
        clients: usize,
        /// How many images of each kind in a round: signed well, signed by a fork, not signed.
        #[arg(long, default_value_t = load::Size::USUAL.images)]
        images: usize,
        /// One round of so many is one in which upstream is well; 0: none is.
        #[arg(long, default_value_t = load::Size::USUAL.well_every)]
        well_every: u64,
    },
    /// Many clients that pull while policy and trust root change under them: nothing fails that the new policy lets in, nothing begins that it
    /// does not, bodies break within a second, upstream is not asked.
    Reloads {
        /// How many clients.
        #[arg(long, default_value_t = 64)]
        clients: usize,
        /// How many images, at least five: four are there for bodies under way alone.
        #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<usize>::new().range(reloads::Size::IMAGES_MIN as u64..))]
        images: usize,
        /// Where chance begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Peak memory with many clients of one cold blob, compared with one client. Without bounds: once.
    Memory {
        #[command(flatten)]
        limits: Limits,
        /// The blob's size in MiB.
        #[arg(long, default_value_t = 256)]
        mib: usize,
        /// How many clients.
        #[arg(long, default_value_t = 32)]
        clients: usize,
    },
    /// Peak memory with large manifests that many clients pull at one time. Without bounds: once.
    Manifests {
        #[command(flatten)]
        limits: Limits,
        /// How many manifests there are.
        #[arg(long, default_value_t = manifests::Size::FULL.manifests)]
        manifests: usize,
        /// How many clients ask for one of them.
        #[arg(long, default_value_t = manifests::Size::FULL.pulls)]
        pulls: usize,
    },
    /// A working set twice the byte budget in random order. Without bounds: 10000 pulls.
    Quota(Limits),
    /// A store of many images: how fast it opens, after a kill too, how fast a hit is, when a server answers, how much memory it takes.
    Scale {
        /// How many images; each has ten blobs.
        #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
        images: Vec<u64>,
        /// Only the facts: no blobs, no server.
        #[arg(long)]
        only_facts: bool,
        /// Where chance begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Memory and time for large attestations and for crowds of evidence. Without bounds: once.
    Evidence {
        #[command(flatten)]
        limits: Limits,
        /// An attestation's size in MiB.
        #[arg(long, default_value_t = evidence::Size::FULL.attestation_bytes >> 20)]
        mib: usize,
        /// How many layers and referrers.
        #[arg(long, default_value_t = evidence::Size::FULL.crowd)]
        crowd: usize,
    },
    /// A corrupted blob: completes nowhere, whole or in part, and is not stored. Without bounds: three places.
    Corrupt {
        #[command(flatten)]
        limits: Limits,
        /// The blob's size in MiB.
        #[arg(long, default_value_t = 256)]
        mib: usize,
    },
    /// An upstream that breaks every connection after a random number of bytes: right in the end, and hardly anything sent twice.
    /// Without bounds: three layers.
    Breaks {
        #[command(flatten)]
        limits: Limits,
        /// The layer's size in MiB.
        #[arg(long, default_value_t = 64)]
        mib: usize,
        /// The most that one answer brings, in KiB.
        #[arg(long, default_value_t = 1024)]
        most_kib: u64,
    },
    /// Clients, a policy that is reloaded and upstreams that lie, all in this process and in simulated time: every answer is looked at. Without
    /// more: 100 seeds of 100 operations.
    Model {
        /// How many seeds.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// How many requests clients make, about, before upstream behaves again.
        #[arg(long, default_value_t = 100)]
        operations: u64,
        /// Instead: the trace of the first seed.
        #[arg(long)]
        trace: bool,
        /// Instead: over loopback, with a store on disk, in real time that is short.
        #[arg(long, conflicts_with = "trace")]
        sockets: bool,
    },
    /// Random changes of policy over images and tags, all in this process: what `policy diff` says is what the reload then does.
    Diff {
        /// How many changes.
        #[arg(long, default_value_t = 1000)]
        changes: u64,
        /// How many images, two under each tag.
        #[arg(long, default_value_t = 200)]
        images: u64,
        /// Where chance begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Parsers and judges over bent inputs. Without bounds: 60 s for all targets together.
    Fuzz {
        #[command(flatten)]
        limits: Limits,
        /// Only this one.
        #[arg(long)]
        target: Option<String>,
    },
}

/// When it ends: at whichever comes first.
#[derive(Args)]
struct Limits {
    /// No round begins after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// So many rounds; for `fuzz`, inputs for each target.
    #[arg(long)]
    rounds: Option<u64>,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Limits {
    fn or(&self, default: Bounds) -> Bounds {
        if self.seconds.is_none() && self.rounds.is_none() {
            return Bounds { seed: self.seed, ..default };
        }
        Bounds { rounds: self.rounds, time: self.seconds.map(Duration::from_secs), seed: self.seed }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let campaign = Cli::parse().campaign;
    if matches!(campaign, Campaign::Writer) {
        durability::obey().await;
        return ExitCode::SUCCESS;
    }
    let tally = Box::pin(run(campaign)).await;
    for failure in tally.failures() {
        eprintln!("FAILED {failure}");
    }
    println!("{tally}");
    if tally.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(campaign: Campaign) -> Tally {
    let mib = |mib: usize| mib << 20;
    match campaign {
        Campaign::Writer => Tally::default(),
        Campaign::Kills { steps: true, .. } => durability::every_step(say).await,
        Campaign::Kills { limits, server: true, .. } => Box::pin(struck::run(limits.or(Bounds::rounds(20)), say)).await,
        Campaign::Kills { limits, .. } => kills::run(limits.or(Bounds::rounds(20)), say).await,
        Campaign::Power(limits) => durability::losses(limits.or(Bounds::rounds(20)), say).await,
        Campaign::Load { limits, clients, images, well_every } => {
            let bounds = limits.or(Bounds::time(Duration::from_secs(30)));
            Box::pin(load::run(bounds, load::Size { clients, images, well_every }, say)).await
        }
        Campaign::Reloads { clients, images, seed } => {
            Box::pin(reloads::run(reloads::Size { clients, images }, seed, say)).await
        }
        Campaign::Memory { limits, mib: size, clients } => {
            let size = memory::Size { blob_bytes: mib(size), clients };
            memory::run(limits.or(Bounds::rounds(1)), size, say).await
        }
        Campaign::Manifests { limits, manifests, pulls } => {
            manifests::run(limits.or(Bounds::rounds(1)), manifests::Size { manifests, pulls }, say).await
        }
        Campaign::Quota(limits) => quota::run(limits.or(Bounds::rounds(10_000)), say).await,
        Campaign::Scale { images, only_facts, seed } => {
            Box::pin(scale::run(&images, only_facts, scale::START_SLACK, seed, say)).await
        }
        Campaign::Evidence { limits, mib: size, crowd } => {
            let size = evidence::Size { attestation_bytes: mib(size), crowd, ..evidence::Size::FULL };
            evidence::run(limits.or(Bounds::rounds(1)), size, say).await
        }
        Campaign::Corrupt { limits, mib: size } => corrupt::run(limits.or(Bounds::rounds(3)), mib(size), say).await,
        Campaign::Breaks { limits, mib: size, most_kib } => {
            let size = breaks::Size { blob_bytes: mib(size), most: most_kib << 10 };
            breaks::run(limits.or(Bounds::rounds(3)), size, say).await
        }
        Campaign::Model { seeds, first, operations, trace, sockets } => {
            let bounds = Bounds { seed: first, ..Bounds::rounds(seeds) };
            aside(move || match (trace, sockets) {
                (true, _) => model::show(first, operations, say),
                (_, true) => model::run_over_sockets(bounds, operations, say),
                (_, false) => model::run(bounds, operations, say),
            })
            .await
        }
        Campaign::Diff { changes, images, seed } => {
            Box::pin(diff::run(Bounds { seed, ..Bounds::rounds(changes) }, images, say)).await
        }
        Campaign::Fuzz { limits, target } => {
            let bounds = limits.or(Bounds::time(Duration::from_secs(60)));
            // Targets are plain functions.
            aside(move || fuzz::run(bounds, target.as_deref(), say)).await
        }
    }
}

/// Runs a campaign that has a runtime of its own where it needs one.
async fn aside(campaign: impl FnOnce() -> Tally + Send + 'static) -> Tally {
    tokio::task::spawn_blocking(campaign).await.unwrap_or_else(|error| {
        let mut tally = Tally::default();
        tally.count(Err(error.to_string()));
        tally
    })
}

fn say(line: &str) {
    println!("{line}");
}
