//! A load runner that puts pratique, nginx's `proxy_cache` and distribution in front of one upstream, and compares them.
//!
//! ```text
//!                        ┌── pratique ─────┐
//!   client ── loopback ──┼── nginx ────────┼── upstream (nginx, files)     all on one machine, each peer a process of its own
//!                        └── distribution ─┘
//!   round 1: A B C   round 2: B C A   round 3: C A B      one peer at a time; what is reported is the median of each round's ratio
//! ```
//!
//! pratique verifies: its images are signed by a throw-away Sigstore, and judged under the built-in policy.

mod client;
mod cutter;
mod measure;
mod peer;
mod process;
mod report;
mod scenario;
mod statistics;
mod tree;
mod upstream;
mod world;

use std::{error::Error, path::PathBuf};

use clap::Parser;
pub use client::Connection;
use peer::{Kind, Peer};
use scenario::{SCENARIOS, Scenario, Setting};
use statistics::Rounds;
use world::World;

/// Whatever ends a measurement.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Compares pratique with nginx's `proxy_cache` and with distribution, on this machine, over loopback.
#[derive(Debug, Parser)]
#[command(name = "side-by-side", version)]
pub struct Options {
    /// Rounds of each scenario; in each, every peer is measured once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only this scenario, or those whose names begin so; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Small blobs and short rounds: whether it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Names the scenarios and ends.
    #[arg(long)]
    list: bool,
}

/// Measures what `options` ask for and prints a table of each scenario as soon as it is known.
///
/// # Errors
/// When there is no upstream or no pratique, or a measurement of pratique fails. Another peer that is missing or fails is told and
/// left out.
#[expect(clippy::print_stdout, reason = "a command prints its answer")]
pub fn run(options: &Options) -> Result<(), Failure> {
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| name.starts_with(only));
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| wanted(scenario.name)).collect();
    if options.list || chosen.is_empty() {
        for scenario in &SCENARIOS {
            println!("{:<16} {}", scenario.name, scenario.about);
        }
        return if options.list { Ok(()) } else { Err("no scenario is called so".into()) };
    }
    let kinds = those_there(Kind::program)?;
    let world = World::new(options.quick)?;
    println!("{}", report::preamble(&world, options.rounds));
    for setting in Setting::ALL {
        let mut scenarios = chosen.iter().filter(|scenario| scenario.measure.setting() == setting).peekable();
        if scenarios.peek().is_none() {
            continue;
        }
        let standing = standing(&world, setting, &kinds)?;
        for scenario in scenarios {
            let rounds = measure_all(&world, scenario, &standing, &kinds, options.rounds)?;
            println!("{}", report::table(scenario, &rounds));
        }
    }
    Ok(())
}

/// The peers whose programs are there; says who is left out.
///
/// # Errors
/// When pratique is not there: nothing would be compared with anything.
#[expect(clippy::print_stdout, reason = "a command prints its answer")]
fn those_there(program: impl Fn(Kind) -> Result<PathBuf, Failure>) -> Result<Vec<Kind>, Failure> {
    let mut there = Vec::new();
    for kind in Kind::ALL {
        match program(kind) {
            Ok(_) => there.push(kind),
            Err(missing) if kind == Kind::Pratique => return Err(format!("{}: {missing}", kind.name()).into()),
            Err(missing) => println!("skipped: {} ({missing})", kind.name()),
        }
    }
    Ok(there)
}

/// The peers that serve all scenarios of a setting, everything already in their caches; none where each round starts its own.
fn standing(world: &World, setting: Setting, kinds: &[Kind]) -> Result<Vec<Peer>, Failure> {
    if setting == Setting::Fresh {
        return Ok(Vec::new());
    }
    let start = |kind: &Kind| {
        let peer = Peer::start(*kind, world, world.upstream.address, setting == Setting::Tls)?;
        measure::pull_everything(world, &peer)?;
        Ok(peer)
    };
    kinds.iter().filter(|kind| setting.has(**kind)).map(start).collect()
}

/// All rounds of one scenario, the peers in rotating order.
fn measure_all(
    world: &World,
    scenario: &Scenario,
    standing: &[Peer],
    kinds: &[Kind],
    rounds: u32,
) -> Result<Rounds, Failure> {
    let mut measured = Rounds::default();
    let mut order: Vec<Kind> = kinds.iter().copied().filter(|kind| scenario.measure.setting().has(*kind)).collect();
    for round in 0..rounds {
        for kind in &order {
            let peer = standing.iter().find(|peer| peer.kind == *kind);
            match scenario.measure.once(world, *kind, peer) {
                Ok(samples) => measured.add(round, *kind, samples),
                Err(error) if *kind == Kind::Pratique => return Err(format!("{}: {error}", scenario.name).into()),
                Err(error) => measured.failed(*kind, &error.to_string()),
            }
        }
        order.rotate_left(1);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_peer_that_is_missing_is_left_out_and_pratique_that_is_missing_ends_the_run() {
        let without = |missing: Kind| {
            those_there(|kind| if kind == missing { Err("not there".into()) } else { Ok(PathBuf::from("program")) })
        };
        assert_eq!(without(Kind::Nginx).unwrap(), [Kind::Pratique, Kind::Distribution]);
        assert_eq!(without(Kind::Distribution).unwrap(), [Kind::Pratique, Kind::Nginx]);
        assert_eq!(without(Kind::Pratique).unwrap_err().to_string(), "pratique: not there");
    }
}
