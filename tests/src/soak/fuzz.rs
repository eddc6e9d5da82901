//! Parsers and judges over bytes that nobody would write.
//!
//! A target is a plain `fn(&[u8])`: it reads its input as something that comes from outside and panics where what must hold does not.
//! Those of `oci` and `policy` are theirs (`fuzz/targets.rs` in either crate), and so are the readers of what upstreams say
//! (`proxy/src/upstream/fuzz.rs`); the targets that need a server are here. cargo-fuzz runs all of them too, from `fuzz/` of the four crates.
//! It starts from seeds that are right, and sees them bent by `mutate`: as bytes, as lines, as JSON, and within the base64 of JSON.

mod answers;
mod mutate;
#[path = "../../../storage/oci/fuzz/targets.rs"]
mod oci_targets;
#[path = "../../../policy/fuzz/targets.rs"]
mod policy_targets;
mod requests;
mod seeds;

use std::{
    panic::{self, PanicHookInfo},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{Bounds, Random, Say, Tally};

/// What is attacked, and where it begins.
pub struct Target {
    /// Its name, for reports and to choose it by.
    pub name: &'static str,
    /// Panics where something is wrong.
    pub run: fn(&[u8]),
    /// Right inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 16] = [
    Target { name: "manifest", run: oci_targets::manifest, seeds: || of_oci("manifest") },
    Target { name: "json", run: oci_targets::json, seeds: || of_oci("manifest") },
    Target { name: "names", run: oci_targets::names, seeds: || of_oci("names") },
    Target { name: "route", run: requests::route, seeds: || of_tests("route") },
    Target { name: "request", run: requests::request, seeds: || of_tests("request") },
    Target { name: "challenge", run: proxy::upstream::fuzz::challenge, seeds: || of_proxy("challenge") },
    Target { name: "link", run: proxy::upstream::fuzz::link, seeds: || of_proxy("link") },
    Target { name: "token", run: proxy::upstream::fuzz::token, seeds: || of_proxy("token") },
    Target { name: "content_range", run: answers::content_range, seeds: || of_tests("content_range") },
    Target { name: "answer", run: answers::answer, seeds: || of_tests("answer") },
    Target { name: "policy", run: policy_targets::policy, seeds: || of_policy("policy") },
    Target { name: "signature", run: policy_targets::signature, seeds: || of_policy("signature") },
    Target { name: "attestation", run: policy_targets::attestation, seeds: || of_policy("attestation") },
    Target { name: "dsse", run: policy_targets::dsse, seeds: || of_policy("dsse") },
    Target { name: "bundle", run: policy_targets::bundle, seeds: || of_policy("bundle") },
    Target { name: "rego_input", run: policy_targets::rego_input, seeds: || of_policy("rego_input") },
];

fn of_oci(target: &str) -> Vec<Vec<u8>> {
    committed("../storage/oci", target)
}

fn of_policy(target: &str) -> Vec<Vec<u8>> {
    committed("../policy", target)
}

fn of_proxy(target: &str) -> Vec<Vec<u8>> {
    committed("../proxy", target)
}

fn of_tests(target: &str) -> Vec<Vec<u8>> {
    committed(".", target)
}

fn committed(package: &str, target: &str) -> Vec<Vec<u8>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("fuzz/seeds");
    seeds::committed(&beside.join(target))
}

/// One input for one target, as libFuzzer brings them (`tests/fuzz`).
///
/// # Panics
/// Where there is no such target, and as the target does.
pub fn feed(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    (target.run)(input);
}

/// No input is worth more than this: what takes longer keeps a whole request waiting.
const SLOWEST: Duration = Duration::from_secs(2);
/// Inputs kept of those that came out of mutations, to be mutated further.
const KEPT_MAX: usize = 256;

/// Each target in turn, all for as long as the bounds say together; `only` chooses one. Rounds count inputs per target.
pub fn run(bounds: Bounds, only: Option<&str>, say: Say) -> Tally {
    let mut tally = Tally::default();
    let targets: Vec<_> = TARGETS.iter().filter(|target| only.is_none_or(|name| name == target.name)).collect();
    tally.check(!targets.is_empty(), || format!("there is no target {}", only.unwrap_or_default()));
    let share = bounds.time.map(|time| time / u32::try_from(targets.len().max(1)).unwrap_or(1));
    let quiet = Quiet::here();
    for target in targets {
        tally.add(attack(target, Bounds { time: share, ..bounds }, say));
    }
    drop(quiet);
    tally
}

fn attack(target: &Target, bounds: Bounds, say: Say) -> Tally {
    let (mut tally, mut random) = (Tally::default(), Random::new(bounds.seed));
    let mut inputs = (target.seeds)();
    let seeds = inputs.len();
    for seed in &inputs {
        tally.count(try_one(target, seed).map(drop));
    }
    let (mut count, mut slowest) = (0_u64, Duration::ZERO);
    for _ in bounds.each() {
        let Some(input) = random.pick(&inputs) else { break };
        let mutated = mutate::mutate(input, &inputs, &mut random);
        tally.count(try_one(target, &mutated).map(|took| slowest = slowest.max(took)));
        count += 1;
        // Some of what came out is bent further; the right ones stay.
        if random.once_in(16) {
            if inputs.len() < seeds + KEPT_MAX {
                inputs.push(mutated);
            } else if let Some(place) = inputs.get_mut(seeds + random.index(KEPT_MAX)) {
                *place = mutated;
            }
        }
    }
    tally.check(slowest <= SLOWEST, || format!("{}: an input took {slowest:?}", target.name));
    say(&format!(
        "{:>13}  {count} inputs from {seeds} seeds, slowest {slowest:?}, {} failed",
        target.name,
        tally.failures().len()
    ));
    tally
}

fn try_one(target: &Target, input: &[u8]) -> Result<Duration, String> {
    let started = Instant::now();
    let outcome = panic::catch_unwind(|| (target.run)(input));
    outcome.map(|()| started.elapsed()).map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|&words| words.to_owned()));
        format!("{}: {} by {}", target.name, words.unwrap_or_default(), input.escape_ascii())
    })
}

/// A panic of a target is a finding, told with its input; its own words would fill the screen. Other threads speak as before.
struct Quiet {
    before: Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>,
}

impl Quiet {
    fn here() -> Self {
        let before: Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync> = Arc::from(panic::take_hook());
        let (others, own) = (Arc::clone(&before), thread::current().id());
        panic::set_hook(Box::new(move |panic| {
            if thread::current().id() != own {
                others(panic);
            }
        }));
        Self { before }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let before = Arc::clone(&self.before);
        panic::set_hook(Box::new(move |panic| before(panic)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics on purpose where it meets a letter that no seed has.
    fn flawed(input: &[u8]) {
        assert!(!input.contains(&b'z'), "met a z");
    }

    #[test]
    fn every_target_stands_its_seeds_and_some_mutations_of_them() {
        let tally = run(Bounds::rounds(150), None, |line| println!("{line}"));
        assert!(tally.is_good(), "{:#?}", tally.failures());
    }

    #[test]
    fn a_target_that_panics_is_found_and_its_input_told() {
        let target = Target { name: "flawed", run: flawed, seeds: || vec![b"aaaa".to_vec()] };
        let tally = attack(&target, Bounds::rounds(20_000), |_| {});
        assert!(tally.failures().iter().any(|told| told.starts_with("flawed: met a z by ") && told.contains('z')));
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let inputs = |seed| {
            let (mut random, seeds) = (Random::new(seed), of_oci("manifest"));
            (0..50).map(|_| mutate::mutate(&seeds[0], &seeds, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }
}
