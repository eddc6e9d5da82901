//! kill -9, power losses, and errors of the disk: what was acknowledged is there, what was not is there whole or not at all.

use std::{env, io::IsTerminal as _, process::Command, thread};

use storage::FactsIn;

use crate::{
    Kind,
    crash::{
        ledger::{self, Acknowledged, Order, Writer, check},
        power,
        steps::{self, Series, Strike},
    },
};

const ROUNDS: u64 = 20;

#[test]
fn kill_dash_nine_loses_nothing_acknowledged_and_shows_nothing_half_done() {
    let place = super::place();
    let mut acknowledged = Acknowledged::new();
    for round in 0..ROUNDS {
        let before = acknowledged.len();
        let order = Order { store: place.path(), facts: facts(), round, count: None };
        let mut writer = Writer::start(writer(), &order);
        // The first rounds die while the store is opened, for the first time or after a kill.
        writer.wait_for(if round < 6 { 1 } else { 1 + round * 7 % 31 }, &mut acknowledged);
        // Not always right behind an answer.
        for _ in 0..round * 61 % 400 {
            thread::yield_now();
        }
        writer.kill(&mut acknowledged).unwrap();
        assert!(round < 6 || acknowledged.len() > before, "round {round} did nothing");
        check(&order, &acknowledged).unwrap();
    }
    for kind in ["fact", "ingest", "put"] {
        let count = acknowledged.iter().filter(|(of, _)| of == kind).count();
        assert!(count > 10, "only {count} of {kind}");
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_and_shows_nothing_half_done() {
    let bench = match power::Bench::new(facts()) {
        Ok(bench) => bench,
        Err(why) => return println!("skipped: no power losses here: {why}"),
    };
    bench.losses(&writer, 1, 0..rounds(4), |round, outcome| {
        println!("loss {round}: {outcome:?}");
        outcome.unwrap();
    });
}

#[test]
fn a_kill_at_any_step_of_a_commit_loses_nothing_and_shows_nothing_half_done() {
    if let Some(why) = steps::refused() {
        return println!("skipped: no steps here: {why}");
    }
    let place = super::place();
    // Every kind of call, and some of its steps; `soak kills --steps` takes them all.
    let taken: u64 = steps::CALLS.into_iter().map(|call| walk(&place, call, Strike::Kill, 7)).sum();
    assert!(taken > 20, "only {taken} steps");
}

#[test]
fn a_disk_that_fails_at_any_step_is_told_and_loses_nothing_acknowledged() {
    if let Some(why) = steps::refused() {
        return println!("skipped: no steps here: {why}");
    }
    let place = super::place();
    let taken: u64 = steps::ERRORS.into_iter().map(|(call, error)| walk(&place, call, Strike::Error(error), 5)).sum();
    assert!(taken > 20, "only {taken} steps");
}

/// How many steps were taken.
fn walk(place: &crate::Place, call: &'static str, strike: Strike, every: u64) -> u64 {
    let mut taken = 0;
    let series = Series { start: &writer, facts: facts(), call, strike, fresh: true, every };
    series.walk(place.directory.path(), |step, outcome| {
        taken += 1;
        assert!(outcome.is_ok(), "{strike:?} at call {step} of {call}: {outcome:?}");
    });
    taken
}

/// How many rounds the caller wants.
#[expect(clippy::disallowed_methods, reason = "the builds that are broken on purpose are looked at for longer")]
fn rounds(usual: u64) -> u64 {
    env::var("PRATIQUE_POWER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn facts() -> FactsIn {
    match super::place().kind {
        Kind::Files(facts) => facts,
        Kind::Memory => FactsIn::Redb,
    }
}

/// This very program, as a writer.
fn writer() -> Command {
    let (_, here) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("{here}::the_writer_that_is_killed"), "--ignored", "--nocapture"]);
    command
}

/// Not a test by itself: the other side of those above, which say over standard input what to do.
#[test]
#[ignore = "started, and killed, by the tests above"]
fn the_writer_that_is_killed() {
    if !std::io::stdin().is_terminal() {
        ledger::obey();
    }
}
