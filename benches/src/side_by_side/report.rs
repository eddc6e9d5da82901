//! Tables, in Markdown.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use oci::Digest;

use super::{
    peer::Kind,
    scenario::{Bound, Scenario, Target},
    statistics::{Rounds, Spread},
    world::World,
};

/// What a reader has to know of all tables.
pub fn preamble(world: &World, rounds: u32) -> String {
    let versions: Vec<String> = Kind::ALL.into_iter().filter_map(Kind::version).collect();
    let processors = thread::available_parallelism().map_or(0, usize::from);
    let sizes = world.effort.sizes;
    let [large, medium, small] = [sizes.large, sizes.medium, sizes.small].map(|size| size >> 20);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let quick =
        if large < 1024 { format!("QUICK: blobs of {large}, {medium} and {small} MiB\n") } else { String::new() };
    format!(
        "{rounds} rounds, peers in rotating order; medians, (least to most); a ratio is the median of each round's own.\n{quick}\
         {processors} processors, load before: {}; {}\n\
         SHA-256 of 1 GiB takes a core {:.2} s here: whoever checks what it fetches is not faster than that\n",
        load.trim(),
        versions.join("; "),
        time_to_hash_a_gib().as_secs_f64(),
    )
}

/// Measured on a sixteenth of it.
fn time_to_hash_a_gib() -> Duration {
    let bytes = vec![7; 64 << 20];
    let begun = Instant::now();
    std::hint::black_box(Digest::sha256(std::hint::black_box(&bytes)));
    begun.elapsed() * 16
}

/// All figures of one scenario.
pub fn table(scenario: &Scenario, rounds: &Rounds) -> String {
    let mut text = format!(
        "### `{}`: {}\n\n| | pratique | nginx | distribution | to nginx | to distribution | wanted |\n|---|---|---|---|---|---|---|\n",
        scenario.name, scenario.about
    );
    for what in rounds.names() {
        let mut cells = Kind::ALL.map(|kind| median(rounds.of(what, kind))).to_vec();
        cells.extend([Kind::Nginx, Kind::Distribution].map(|other| ratio(rounds.ratio(what, Kind::Pratique, other))));
        let targets = scenario.targets.iter().filter(|target| target.what == *what);
        let wanted: Vec<String> = targets.map(|target| judged(target, rounds)).collect();
        let _ = writeln!(text, "| {what} | {} | {} |", cells.join(" | "), wanted.join("; "));
    }
    for (kind, reason) in rounds.failures() {
        let _ = writeln!(text, "\n{} did not get through every round: {reason}", kind.name());
    }
    text
}

/// A target and whether it is met.
fn judged(target: &Target, rounds: &Rounds) -> String {
    let (sign, bound) = match target.bound {
        Bound::AtLeast(bound) => ('≥', bound),
        Bound::AtMost(bound) => ('≤', bound),
    };
    let of = target.of.map_or_else(String::new, |kind| format!(" × {}", kind.name()));
    let seen = match target.of {
        Some(other) => rounds.ratio(target.what, Kind::Pratique, other),
        None => rounds.of(target.what, Kind::Pratique),
    };
    let verdict = match seen {
        Some(seen) if target.bound.is_met(seen.median) => "met",
        Some(_) => "**missed**",
        None => "not measured",
    };
    format!("{sign} {bound}{of}: {verdict}")
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| number(spread.median))
}

fn ratio(spread: Option<Spread>) -> String {
    let Some(Spread { median, least, most }) = spread else { return "–".to_owned() };
    format!("{} ({}–{})", number(median), number(least), number(most))
}

/// Three digits that count.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 | 100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side_by_side::{scenario::SCENARIOS, statistics::Sample};

    fn blob(pratique: f64, nginx: f64) -> String {
        let mut rounds = Rounds::default();
        rounds.add(0, Kind::Pratique, vec![Sample { what: "MiB/s", value: pratique }]);
        rounds.add(0, Kind::Nginx, vec![Sample { what: "MiB/s", value: nginx }]);
        table(&SCENARIOS[0], &rounds)
    }

    #[test]
    fn a_target_is_met_or_missed_or_was_not_measured() {
        assert!(blob(76.0, 100.0).contains("≥ 0.75 × nginx: met; ≥ 2.5 × distribution: not measured"));
        assert!(blob(74.0, 100.0).contains("≥ 0.75 × nginx: **missed**"));
    }

    #[test]
    fn numbers_have_three_digits() {
        let seen = [0.0, 0.1234, 1.234, 12.34, 123.4, 12340.0].map(number);
        assert_eq!(seen, ["0", "0.123", "1.23", "12.3", "123", "12340"]);
    }

    #[test]
    fn every_target_names_a_figure_that_some_scenario_measures() {
        let known = [
            "MiB/s",
            "CPU s/GiB",
            "peak MiB",
            "requests/s",
            "p99 ms",
            "total s",
            "CPU s",
            "upstream GETs",
            "first byte ms (median client)",
            "right of 8",
            "upstream bytes / content",
            "complete and wrong of 16",
        ];
        let targets = SCENARIOS.iter().flat_map(|scenario| scenario.targets);
        targets.for_each(|target| assert!(known.contains(&target.what), "{}", target.what));
    }
}
