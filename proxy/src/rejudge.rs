//! Judges again before anybody asks: what is in use after a reload, and verdicts that are about to end.
//!
//! ```text
//! another generation ──> what was used last, by stored evidence ──> what that leaves open, from upstream
//! a verdict that ends ── three quarters of what is left ──> made anew, if somebody asked for it since the last time
//! ```
//!
//! What cannot be made anew is due again when three quarters of what is left then are over.
//!
//! The two go on beside each other, and an image of which the judgement panics costs neither the others.
//!
//! One image at a time, at a bounded rate, ten times slower where upstream is asked, through the same flights as requests: nobody judges
//! twice, and no request waits for more than one judgement of these.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::counter;
use oci::{Digest, Repository};
use storage::{Keeper, Usage};
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval, sleep},
};

use crate::{
    admission::{Effort, Ending},
    app::{App, InForce},
    error::{ApiError, chain},
    supervise::part,
};

/// Images that were used longer ago are judged when they are asked for.
const IN_USE: Duration = Duration::from_secs(7 * 86_400);
/// Images read from the store at a time.
const PAGE: usize = 256;
/// Those that upstream is asked about go so many times slower.
const UPSTREAM_SLOWER: u32 = 10;
/// Between two looks at what is about to end.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest rest that an upstream gets which asks for one.
const REST_MAX: Duration = Duration::from_secs(60);

/// The task of the rounds after reloads, as supervised and counted.
pub(crate) const ROUNDS: &str = "rejudge";
/// The task of the renewals.
pub(crate) const RENEWALS: &str = "renew";

/// Judges after reloads until told to drain. `judged` is the last generation whose round has ended: a run that panicked leaves the others to
/// the next.
pub(crate) async fn after_reloads(app: Arc<App>, judged: Arc<AtomicU64>, mut draining: watch::Receiver<bool>) {
    let rounds = async {
        loop {
            let in_force = app.in_force_after(judged.load(Ordering::Relaxed)).await;
            Round { app: &app, in_force: &in_force }.run().await;
            judged.store(in_force.generation, Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

/// Renews verdicts until told to drain. What the store can renew does not wait for what upstream is asked about.
pub(crate) async fn before_they_end(app: Arc<App>, mut draining: watch::Receiver<bool>) {
    let (asking, asked) = mpsc::channel(PAGE);
    let renewals = async { tokio::join!(by_store(&app, asking), by_upstream(&app, asked)) };
    tokio::select! {
        ((), ()) = renewals => {}
        _ = draining.wait_for(|draining| *draining) => {}
    }
}

/// One generation, and all that is in use under it.
struct Round<'a> {
    app: &'a Arc<App>,
    in_force: &'a Arc<InForce>,
}

/// What became of it.
#[derive(Default)]
struct Tally {
    served: u64,
    refused: u64,
    undecided: u64,
}

impl Tally {
    fn add(&mut self, why: &'static str, outcome: &Result<(), ApiError>) {
        let (count, outcome) = match outcome {
            Ok(()) => (&mut self.served, "served"),
            Err(ApiError::Refused(_)) => (&mut self.refused, "refused"),
            Err(_) => (&mut self.undecided, "undecided"),
        };
        *count += 1;
        counter!("pratique_verdicts_renewed_total", "why" => why, "outcome" => outcome).increment(1);
    }
}

impl Round<'_> {
    /// Ends early where the next generation has begun: it begins its own round.
    async fn run(&self) {
        let (started, mut tally, mut open) = (self.app.clock.now(), Tally::default(), Vec::new());
        let outcome = self.by_store(&mut tally, &mut open).await;
        if let Err(error) = outcome {
            tracing::error!("judging what is in use again: {error}");
        }
        let asking = open.len();
        if !self.by_upstream(&mut tally, open).await {
            return;
        }
        let Tally { served, refused, undecided } = tally;
        let duration_ms = self.app.clock.now().since(started).unwrap_or_default().as_millis();
        let all = served + refused + undecided;
        tracing::info!(
            generation = self.in_force.generation,
            asking,
            duration_ms,
            "judged again after the reload: {all} in use, {served} served, {refused} refused, {undecided} could not be decided"
        );
    }

    fn is_over(&self) -> bool {
        self.app.in_force().generation != self.in_force.generation
    }

    /// What was used last is judged first. What the store alone cannot say is left to `open`.
    async fn by_store(&self, tally: &mut Tally, open: &mut Vec<Usage>) -> Result<(), ApiError> {
        Keeper::new(self.app.store.clone()).settle().await?;
        let (now, mut left) = (self.app.clock.now(), self.in_force.settings.limits.verdict_cache_entries_max);
        let (mut before, mut rate) = (None, pace(self.in_force, 1));
        loop {
            let page = self.app.store.facts().read()?.most_recently_used(before.as_ref(), PAGE)?;
            let is_last = page.len() < PAGE;
            before = page.last().cloned();
            for usage in page {
                let is_old = now.since(usage.used_at).is_some_and(|age| age > IN_USE);
                if left == 0 || is_old || self.is_over() {
                    return Ok(());
                }
                let outcome = self.judge_judged(&usage, &mut rate).await;
                left -= usize::from(!matches!(outcome, Ok(None)));
                match outcome {
                    Ok(None) => {}
                    Err(ApiError::Undecided { .. } | ApiError::NotJudged) => open.push(usage),
                    outcome => tally.add("reload", &outcome.map(drop)),
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Whether it came to its end.
    async fn by_upstream(&self, tally: &mut Tally, open: Vec<Usage>) -> bool {
        let mut rate = pace(self.in_force, UPSTREAM_SLOWER);
        for usage in open {
            rate.tick().await;
            if self.is_over() {
                return false;
            }
            let outcome = in_time(self.in_force, self.judge(&usage, Effort::Upstream)).await;
            tally.add("reload", &outcome);
            if let Err(ApiError::RateLimited { retry_after, .. }) = outcome {
                sleep(retry_after.min(REST_MAX)).await;
            }
        }
        !self.is_over()
    }

    /// By the store, when it is its turn. None where nobody has judged it.
    async fn judge_judged(&self, usage: &Usage, rate: &mut Interval) -> Result<Option<()>, ApiError> {
        let Usage { repository, digest, .. } = usage;
        let judged = async {
            if !self.app.admission.is_judged(repository, digest)? {
                return Ok(None);
            }
            rate.tick().await;
            let judged = self.app.admission.judge_again(self.in_force, repository, digest, Effort::Settled);
            judged.await.map(Some)
        };
        alone(ROUNDS, repository, digest, judged).await
    }

    async fn judge(&self, Usage { repository, digest, .. }: &Usage, effort: Effort) -> Result<(), ApiError> {
        let judged = self.app.admission.judge_again(self.in_force, repository, digest, effort);
        alone(ROUNDS, repository, digest, judged).await
    }
}

/// What comes of work about one image, whatever that meets: the others are not to wait until the task has had its rest, to meet it again.
async fn alone<T>(
    task: &'static str,
    repository: &Repository,
    digest: &Digest,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    part(task, work).await.unwrap_or_else(|| {
        tracing::error!(task, %repository, %digest, "judging an image in the background panicked: the others are gone on with");
        Err(ApiError::Fault { message: "a judgement in the background panicked".to_owned() })
    })
}

/// So many judgements a second as the operator allows, or so many times fewer. What was missed is not made up for.
fn pace(in_force: &InForce, slower: u32) -> Interval {
    let per_second = in_force.settings.verdicts.background_per_second;
    let mut pace = interval(between(per_second, slower));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Between two of so many a second, or so many times fewer. Never nothing at all, which is no interval.
fn between(per_second: u32, slower: u32) -> Duration {
    (Duration::from_secs(1) / per_second.max(1) * slower).max(Duration::from_micros(1))
}

async fn by_store(app: &Arc<App>, asking: mpsc::Sender<Ending>) {
    loop {
        sleep(LOOK_EVERY).await;
        let mut pace = pace(&app.in_force(), 1);
        while let Some(ending) = app.admission.about_to_end() {
            pace.tick().await;
            let in_force = app.in_force();
            let asks_upstream = async { app.admission.renewal_asks_upstream(&in_force, &ending) };
            match alone(RENEWALS, &ending.repository, &ending.digest, asks_upstream).await {
                Ok(false) => renew(app, &in_force, ending).await,
                Ok(true) => {
                    // Where too many wait it waits for its next turn.
                    if let Err(error) = asking.try_send(ending) {
                        again(app, error.into_inner());
                    }
                }
                Err(error) => ended(app, ending, Err(error)),
            }
        }
    }
}

async fn by_upstream(app: &Arc<App>, mut asked: mpsc::Receiver<Ending>) {
    while let Some(ending) = asked.recv().await {
        let in_force = app.in_force();
        sleep(between(in_force.settings.verdicts.background_per_second, UPSTREAM_SLOWER)).await;
        let upstream = in_force.upstream(ending.repository.upstream());
        if upstream.is_ok_and(|upstream| upstream.is_to_be_spared()) {
            again(app, ending);
        } else if ending.ends > app.clock.now() {
            renew(app, &in_force, ending).await;
        }
    }
}

/// What comes of a judgement within the time that a client would wait for it. What was begun goes on.
async fn in_time(in_force: &InForce, judged: impl Future<Output = Result<(), ApiError>>) -> Result<(), ApiError> {
    let outcome = in_force.patience().wait(judged).await;
    outcome.unwrap_or_else(|| Err(ApiError::undecided("cannot decide in time; still looking")))
}

/// Waits no longer than a client would: what was begun goes on, and others' verdicts end meanwhile.
async fn renew(app: &Arc<App>, in_force: &Arc<InForce>, ending: Ending) {
    let Ending { repository, digest, ends, .. } = &ending;
    let judged = app.admission.judge_again(in_force, repository, digest, Effort::Beyond(*ends));
    let outcome = in_time(in_force, alone(RENEWALS, repository, digest, judged)).await;
    Tally::default().add("ending", &outcome);
    ended(app, ending, outcome);
}

/// Where it cannot be decided the old verdict goes on until its end, and there may be time for another try.
fn ended(app: &App, ending: Ending, outcome: Result<(), ApiError>) {
    let Ending { repository, digest, ends, .. } = &ending;
    match outcome {
        Ok(()) => tracing::debug!(%repository, %digest, "verdict renewed before its end at {ends}"),
        Err(error @ ApiError::Refused(_)) => tracing::debug!(%repository, %digest, "verdict not renewed: {error}"),
        Err(error) => {
            tracing::warn!(%repository, %digest, "verdict could not be renewed and ends at {ends}: {}", chain(&error));
            again(app, ending);
        }
    }
}

/// Not where it ends before the next look.
fn again(app: &App, ending: Ending) {
    if ending.ends.since(app.clock.now()).is_some_and(|left| left > LOOK_EVERY) {
        app.admission.renew_later(ending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_between_two_judgements_at_any_rate() {
        assert_eq!(between(50, 1), Duration::from_millis(20));
        assert_eq!(between(50, UPSTREAM_SLOWER), Duration::from_millis(200));
        assert_eq!(between(0, 1), Duration::from_secs(1));
        for per_second in [1_000_000_001, u32::MAX] {
            assert_eq!(between(per_second, 1), Duration::from_micros(1));
        }
    }

    #[tokio::test]
    async fn a_judgement_that_panics_is_a_fault_of_that_image() {
        let (repository, digest) = ("cgr.dev/chainguard/nginx".parse().unwrap(), Digest::sha256(b"image"));
        let outcome = alone(ROUNDS, &repository, &digest, async { panic!("this image") }).await;
        let _: &Result<(), _> = &outcome;
        assert!(matches!(outcome, Err(ApiError::Fault { .. })), "{outcome:?}");
        assert!(alone(RENEWALS, &repository, &digest, async { Ok(()) }).await.is_ok());
    }
}
