//! Targets of fuzzing over their committed seeds and some mutations of them, the same in every run.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "seeds are files, and a target without seeds is a test that tests nothing"
)]

use std::path::Path;

#[path = "../../tests/src/soak"]
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
const MUTATIONS: usize = 300;

fn attack(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    for seed in &seeds {
        target(seed);
    }
    let mut random = soak::Random::new(1);
    for _ in 0..MUTATIONS {
        let seed = random.pick(&seeds).cloned().unwrap_or_default();
        target(&soak::mutate::mutate(&seed, &seeds, &mut random));
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    soak::seeds::committed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name))
}

#[test]
fn signature_layers() {
    attack("signature", targets::signature);
}

#[test]
fn attestation_layers() {
    attack("attestation", targets::attestation);
}

#[test]
fn bundles() {
    attack("bundle", targets::bundle);
}

#[test]
fn dsse_envelopes() {
    attack("dsse", targets::dsse);
}

#[test]
fn policy_documents() {
    attack("policy", targets::policy);
}

#[test]
fn inputs_of_content_rules() {
    attack("rego_input", targets::rego_input);
}

/// Else bending them would mean nothing.
#[test]
fn the_seeds_are_good_evidence_of_what_was_signed() {
    for name in ["signature", "attestation", "bundle"] {
        for (at, seed) in seeds(name).iter().enumerate() {
            assert!(targets::admits_the_signed(name, seed), "{name}: seed {at} is not good");
        }
    }
}

/// And one flipped bit of what is signed makes them bad, so the judge of these targets does look.
#[test]
fn a_seed_with_another_payload_is_not_good() {
    for seed in seeds("signature") {
        let bent = String::from_utf8_lossy(&seed)
            .replace("cosign container image signature", "cosign container image signatura");
        assert!(!targets::admits_the_signed("signature", bent.as_bytes()));
    }
}
