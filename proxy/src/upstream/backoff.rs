//! What an upstream asked of one who asked it, to come again later, holds for all who ask it: a hundred clients are one.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use config::Limits;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::error::{Kind, Outage, UpstreamError};

/// The first pause where upstream does not say how long; each next one in a row is twice as long.
const STEP: Duration = Duration::from_secs(1);

/// Whether an upstream may be asked now.
pub(super) struct Backoff {
    upstream: String,
    shared: Arc<Shared>,
    /// `limits.upstream_backoff_max`: whatever it asks for, it is tried again after that.
    pause_max: Duration,
    /// How long a trial of somebody else is waited for.
    trial_max: Duration,
}

/// What all who ask the same upstream know, before a reload and after it.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A trial has ended.
    tried: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    pause: Option<Pause>,
    /// Since when somebody tries whether it is over; the others wait for what comes of that, but not for ever.
    tried_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    /// By a 429; else upstream is out and says until when.
    is_limit: bool,
    /// Pauses in a row, this one included.
    count: u32,
}

/// The right to ask once.
pub(super) struct Turn<'a> {
    backoff: &'a Backoff,
    /// Where it is a trial, since when.
    trial: Option<Instant>,
}

enum Look {
    Go { trial: Option<Instant> },
    Wait,
    Held(Pause),
}

impl Backoff {
    pub(super) fn new(upstream: String, limits: &Limits) -> Self {
        Self {
            upstream,
            shared: Arc::default(),
            pause_max: limits.upstream_backoff_max,
            trial_max: limits.upstream_response_timeout,
        }
    }

    /// Goes on where `former`, of the same upstream before a reload, is: downloads that began under it go on asking.
    pub(super) fn go_on_from(&mut self, former: &Self) {
        self.shared = Arc::clone(&former.shared);
    }

    /// Whether upstream wants to be left alone now.
    pub(super) fn is_held(&self) -> bool {
        self.lock().pause.is_some_and(|pause| Instant::now() < pause.until)
    }

    /// A turn to ask `what`, at once; where a pause is over, one tries first.
    pub(super) async fn turn(&self, what: Kind) -> Result<Turn<'_>, UpstreamError> {
        let waiting = async {
            loop {
                let mut tried = pin!(self.shared.tried.notified());
                // Listening begins before the look, so that a trial that ends in between is heard.
                tried.as_mut().enable();
                match self.look() {
                    Look::Go { trial } => return Ok(Turn { backoff: self, trial }),
                    Look::Held(pause) => {
                        let retry_after = pause.until.saturating_duration_since(Instant::now());
                        return Err(UpstreamError::HeldBack { what, retry_after, is_limit: pause.is_limit });
                    }
                    Look::Wait => tried.await,
                }
            }
        };
        let is_limit = self.is_limit();
        let held = UpstreamError::HeldBack { what, retry_after: STEP, is_limit };
        timeout(self.trial_max, waiting).await.unwrap_or(Err(held))
    }

    /// Whether the pause that holds, or is over, was asked for by a 429.
    fn is_limit(&self) -> bool {
        self.lock().pause.is_some_and(|pause| pause.is_limit)
    }

    fn look(&self) -> Look {
        let mut state = self.lock();
        match state.pause {
            None => Look::Go { trial: None },
            Some(pause) if Instant::now() < pause.until => Look::Held(pause),
            Some(_) if state.tried_since.is_some_and(|since| since.elapsed() < self.trial_max) => Look::Wait,
            Some(_) => {
                state.tried_since = Some(Instant::now());
                Look::Go { trial: state.tried_since }
            }
        }
    }

    fn hold(&self, asked: Option<Duration>, is_limit: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        // Answers that were on their way when it began do not make it longer than they say.
        let (count, was_held) = match state.pause {
            Some(pause) if now < pause.until => (pause.count, Some(pause.until)),
            Some(pause) => (pause.count.saturating_add(1), None),
            None => (1, None),
        };
        let own = STEP.saturating_mul(2_u32.saturating_pow(count - 1));
        let pause = asked.filter(|asked| !asked.is_zero()).unwrap_or(own).min(self.pause_max);
        let until = was_held.map_or(now + pause, |until| until.max(now + pause));
        state.pause = Some(Pause { until, is_limit, count });
        drop(state);
        if was_held.is_none() {
            let why = if is_limit { "limits our rate" } else { "is out, and says until when" };
            tracing::warn!(upstream = %self.upstream, "upstream {why}: it is not asked for the next {} s", pause.as_secs_f32());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and any state of it is a whole one.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Upstream itself has answered without asking for a pause, whatever comes of what it sent us on to.
    pub(super) fn passed(&mut self) {
        self.trial_ends_with(|state| *state = State::default());
    }

    /// Where this is a trial, and no other has begun since: who tries later knows better.
    fn trial_ends_with(&mut self, end: impl FnOnce(&mut State)) {
        let Some(since) = self.trial.take() else { return };
        let mut state = self.backoff.lock();
        if state.tried_since == Some(since) {
            end(&mut state);
            drop(state);
            self.backoff.shared.tried.notify_waiters();
        }
    }

    /// Upstream itself answered like this.
    pub(super) fn answered(mut self, error: Option<&UpstreamError>) {
        match error {
            Some(UpstreamError::RateLimited { retry_after, .. }) => self.backoff.hold(*retry_after, true),
            Some(UpstreamError::Unavailable { why: Outage::ComeAgain(_, after), .. }) => {
                self.backoff.hold(Some(*after), false);
            }
            // It fails, but not because we ask too often.
            Some(UpstreamError::Unavailable { why: Outage::Status(_), .. }) if self.backoff.is_limit() => self.passed(),
            // It may still want to be left alone: the next one tries.
            Some(UpstreamError::Unavailable { .. } | UpstreamError::HeldBack { .. }) => {}
            // Only who tried after the pause knows that it is over.
            None
            | Some(
                UpstreamError::NotFound { .. }
                | UpstreamError::Refused { .. }
                | UpstreamError::Misdirected { .. }
                | UpstreamError::Malformed { .. },
            ) => {
                self.passed();
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.trial_ends_with(|state| state.tried_since = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: Kind = Kind::Head;

    fn backoff() -> Backoff {
        Backoff::new("cgr.dev".to_owned(), &Limits::default())
    }

    fn limited(seconds: Option<u64>) -> UpstreamError {
        UpstreamError::RateLimited { what: WHAT, retry_after: seconds.map(Duration::from_secs) }
    }

    /// After a pause that a limit asked for.
    async fn over() -> Backoff {
        let backoff = backoff();
        backoff.turn(WHAT).await.unwrap().answered(Some(&limited(Some(3))));
        tokio::time::advance(Duration::from_secs(3)).await;
        backoff
    }

    async fn held(backoff: &Backoff) -> Option<(u64, bool)> {
        match backoff.turn(WHAT).await {
            Err(UpstreamError::HeldBack { retry_after, is_limit, .. }) => Some((retry_after.as_secs(), is_limit)),
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_before_the_time_that_upstream_named() {
        let backoff = backoff();
        backoff.turn(WHAT).await.unwrap().answered(Some(&limited(Some(7))));
        assert_eq!(held(&backoff).await, Some((7, true)));
        assert!(backoff.is_held());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(held(&backoff).await, Some((1, true)));
        tokio::time::advance(Duration::from_secs(1)).await;
        backoff.turn(WHAT).await.unwrap().answered(None);
        assert_eq!((held(&backoff).await, backoff.is_held()), (None, false));
        let later = UpstreamError::Unavailable { what: WHAT, why: Outage::ComeAgain(503, Duration::from_secs(86_400)) };
        backoff.turn(WHAT).await.unwrap().answered(Some(&later));
        assert_eq!(held(&backoff).await, Some((900, false)), "a quarter of an hour at most");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_the_pauses_grow_until_one_goes_well() {
        let backoff = backoff();
        for seconds in [1, 2, 4, 8] {
            backoff.turn(WHAT).await.unwrap().answered(Some(&limited(None)));
            assert_eq!(held(&backoff).await, Some((seconds, true)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        backoff.turn(WHAT).await.unwrap().answered(Some(&UpstreamError::NotFound { what: WHAT }));
        backoff.turn(WHAT).await.unwrap().answered(Some(&limited(None)));
        assert_eq!(held(&backoff).await, Some((1, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_were_on_their_way_count_as_one_and_do_not_end_the_pause() {
        let backoff = backoff();
        let mut turns = Vec::new();
        for _ in 0..100 {
            turns.push(backoff.turn(WHAT).await.unwrap());
        }
        let last = turns.pop().unwrap();
        for turn in turns {
            turn.answered(Some(&limited(None)));
        }
        last.answered(None);
        assert_eq!(held(&backoff).await, Some((1, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pause_one_tries_and_the_others_wait_for_what_comes_of_it() {
        let backoff = over().await;
        let trial = backoff.turn(WHAT).await.unwrap();
        let others = futures_util::future::join_all((0..50).map(|_| held(&backoff)));
        let ended = async {
            tokio::task::yield_now().await;
            trial.answered(Some(&limited(Some(5))));
        };
        let (others, ()) = tokio::join!(others, ended);
        assert!(others.iter().all(|held| *held == Some((5, true))), "{others:?}");
        // One that was given up has tried nothing: the next one does.
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(backoff.turn(WHAT).await.unwrap());
        let trial = backoff.turn(WHAT).await.unwrap();
        let (other, ()) = tokio::join!(held(&backoff), async { trial.answered(None) });
        assert_eq!(other, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_is_sent_on_has_ended_the_pause_whatever_the_other_host_does() {
        let backoff = over().await;
        let mut trial = backoff.turn(WHAT).await.unwrap();
        trial.passed();
        assert_eq!(held(&backoff).await, None, "while the trial waits for storage");
        drop(trial);
        assert_eq!(held(&backoff).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_does_not_end_keeps_the_others_for_so_long_only() {
        let backoff = over().await;
        let endless = backoff.turn(WHAT).await.unwrap();
        tokio::time::advance(Limits::default().upstream_response_timeout).await;
        backoff.turn(WHAT).await.unwrap().answered(None);
        assert_eq!(held(&backoff).await, None);
        drop(endless);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_asks_for_no_pause_ends_that_of_a_limit() {
        let backoff = over().await;
        let failing = UpstreamError::Unavailable { what: WHAT, why: Outage::Status(500) };
        backoff.turn(WHAT).await.unwrap().answered(Some(&failing));
        assert_eq!(held(&backoff).await, None);
        assert!(backoff.lock().pause.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_took_too_long_does_not_end_what_a_later_one_was_told() {
        let backoff = over().await;
        let late = backoff.turn(WHAT).await.unwrap();
        tokio::time::advance(Limits::default().upstream_response_timeout).await;
        backoff.turn(WHAT).await.unwrap().answered(Some(&limited(Some(60))));
        late.answered(None);
        assert_eq!(held(&backoff).await, Some((60, true)));
        tokio::time::advance(Duration::from_secs(60)).await;
        let second = backoff.turn(WHAT).await.unwrap();
        tokio::time::advance(Limits::default().upstream_response_timeout).await;
        let third = backoff.turn(WHAT).await.unwrap();
        drop(second);
        assert!(backoff.lock().tried_since.is_some(), "the third still tries");
        drop(third);
        assert!(backoff.lock().tried_since.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_does_not_end_a_pause_and_what_began_before_it_is_told_of_the_next() {
        let (before, mut after) = (backoff(), backoff());
        before.turn(WHAT).await.unwrap().answered(Some(&limited(Some(7))));
        after.go_on_from(&before);
        assert_eq!(held(&after).await, Some((7, true)));
        tokio::time::advance(Duration::from_secs(7)).await;
        after.turn(WHAT).await.unwrap().answered(Some(&limited(Some(9))));
        assert_eq!(held(&before).await, Some((9, true)));
    }
}
