//! The model check: a slice of `soak model`, and that a seed is worth something.

use support::soak::model::{outage, simulate};

/// How many requests each seed makes, about.
const OPERATIONS: u64 = 60;

#[test]
fn twenty_seeds_break_no_rule() {
    for seed in 1..=20 {
        let course = simulate(seed, OPERATIONS);
        assert_eq!(course.violations, Vec::<String>::new(), "seed {seed}");
        assert!(course.operations >= OPERATIONS);
    }
}

#[test]
fn the_same_seed_is_the_same_course() {
    for seed in [1, 2, 3] {
        let (first, second) = (simulate(seed, OPERATIONS), simulate(seed, OPERATIONS));
        let differs = first.trace.iter().zip(&second.trace).find(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
        let other = simulate(seed + 100, OPERATIONS);
        assert_ne!(first.trace, other.trace, "another seed is another course");
    }
}

#[test]
fn an_upstream_that_is_gone_for_an_hour_stops_nothing_that_was_served_before() {
    let course = outage(1);
    assert_eq!(course.violations, Vec::<String>::new());
    // An hour of rounds, each with what is warm and what is not.
    assert!(course.operations > 500, "{}", course.operations);
}
