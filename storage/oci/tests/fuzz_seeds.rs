//! Targets of fuzzing over their committed seeds and some mutations of them, the same in every run.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "seeds are files, and a target without seeds is a test that tests nothing"
)]

use std::path::Path;

#[path = "../../../tests/src/soak"]
#[allow(dead_code, reason = "made for more than this")]
mod soak {
    mod random;
    pub use random::Random;
    #[path = "fuzz/mutate.rs"]
    pub mod mutate;
    #[path = "fuzz/seeds.rs"]
    pub mod seeds;
}
#[path = "../fuzz/targets.rs"]
mod targets;

/// Mutations of the seeds of each target.
const MUTATIONS: usize = 500;

fn attack(name: &str, target: fn(&[u8])) {
    let seeds = soak::seeds::committed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name));
    for seed in &seeds {
        target(seed);
    }
    let mut random = soak::Random::new(1);
    for _ in 0..MUTATIONS {
        let seed = random.pick(&seeds).cloned().unwrap_or_default();
        target(&soak::mutate::mutate(&seed, &seeds, &mut random));
    }
}

#[test]
fn manifests() {
    attack("manifest", targets::manifest);
}

#[test]
fn json_documents() {
    attack("manifest", targets::json);
}

#[test]
fn names() {
    attack("names", targets::names);
}
