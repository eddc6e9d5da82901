//! Power losses, and kills and errors at every step of a commit, for long: the contract runs a slice of the same.
//!
//! ```text
//!   writer (this binary) ──> store on ext4 in a file ──kill──> copy of the file ──mount──> check
//!   strace writer        ──> store ──kill or error at the n-th call──> check
//! ```

use std::{env, process::Command, thread};

use storage::FactsIn;

use self::crash::{
    ledger, power,
    steps::{self, Series, Strike},
};
use super::{Bounds, Say, Tally};

#[path = "../../../storage/tests/contract/crash/mod.rs"]
mod crash;

/// Lets the power fail, once a round.
pub async fn losses(bounds: Bounds, say: Say) -> Tally {
    aside(move || {
        let mut tally = Tally::default();
        let bench = match power::Bench::new(FactsIn::Redb) {
            Ok(bench) => bench,
            Err(why) => {
                say(&format!("skipped: no power losses here: {why}"));
                tally.count(Ok(()));
                return tally;
            }
        };
        bench.losses(&writer, bounds.seed, bounds.each(), |round, outcome| {
            match &outcome {
                Ok(acknowledged) => say(&format!("{round:>5}  {acknowledged} acknowledged, all there")),
                Err(why) => say(&format!("{round:>5}  FAILED {why}")),
            }
            tally.count(outcome.map(drop).map_err(|why| format!("loss {round} of seed {}: {why}", bounds.seed)));
        });
        tally
    })
    .await
}

/// Why nothing can be killed at a step here, where it cannot.
pub(super) fn no_steps() -> Option<String> {
    steps::refused()
}

/// Kills the writer at every step of its commits, in stores that are being made and in one that goes on, and lets the disk fail at
/// every step.
pub async fn every_step(say: Say) -> Tally {
    aside(move || {
        let mut tally = Tally::default();
        if let Some(why) = steps::refused() {
            say(&format!("skipped: no steps here: {why}"));
            tally.count(Ok(()));
            return tally;
        }
        for fresh in [true, false] {
            for call in steps::CALLS {
                walk(call, Strike::Kill, fresh, &mut tally, say);
            }
        }
        for (call, error) in steps::ERRORS {
            walk(call, Strike::Error(error), true, &mut tally, say);
        }
        tally
    })
    .await
}

fn walk(call: &'static str, strike: Strike, fresh: bool, tally: &mut Tally, say: Say) {
    let place = match tempfile::tempdir() {
        Ok(place) => place,
        Err(error) => return tally.count(Err(error.to_string())),
    };
    let before = tally.passed();
    let series = Series { start: &writer, facts: FactsIn::Redb, call, strike, fresh, every: 1 };
    series.walk(place.path(), |step, outcome| {
        tally.count(outcome.map_err(|why| format!("{strike:?} at call {step} of {call}, new store {fresh}: {why}")));
    });
    let store = if fresh { "new stores" } else { "one store" };
    say(&format!("{strike:?} at {call}, {store}: {} steps hold", tally.passed() - before));
}

/// What the campaigns start and kill: does what standard input says.
pub async fn obey() {
    aside(ledger::obey).await;
}

fn writer() -> Command {
    let mut command = Command::new(env::current_exe().unwrap_or_default());
    command.arg("writer");
    command
}

/// The campaigns and the writer have runtimes of their own.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = tokio::sync::oneshot::channel();
    let thread = thread::spawn(move || drop(done.send(work())));
    match ended.await {
        Ok(outcome) => outcome,
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}
