//! What an upstream asked of one who asked it, to come again later, holds for all who ask it: a hundred clients are one.
//!
//! A 429 speaks of us: nobody asks for anything. A 5xx speaks of what was asked for ([`Outages`]). What names no time, a bare 5xx, an
//! answer that does not come, a connection that does not come about, keeps nobody from asking, and no more does what a redirect led to.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use config::Limits;
use oci::RepositoryPath;
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::{
    error::{Kind, Outage, UpstreamError},
    outages::{Outages, Place},
};

/// The first pause where upstream does not say how long; each next one in a row is twice as long.
const STEP: Duration = Duration::from_secs(1);
/// How long a trial of somebody else is waited for until the next one tries: one that is not answered by then says nothing of a limit, and
/// may be about the one repository of many that hangs.
const TRIAL_MAX: Duration = Duration::from_secs(1);

/// Whether an upstream may be asked now.
pub(super) struct Backoff {
    upstream: String,
    shared: Arc<Shared>,
    /// `limits.upstream_backoff_max`: whatever it asks for, it is tried again after that.
    pause_max: Duration,
    /// How long a turn is waited for.
    wait_max: Duration,
}

/// What all who ask the same upstream know, before a reload and after it.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A trial has ended.
    tried: Notify,
    outages: Outages,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    pause: Option<Pause>,
    /// Since when somebody tries whether it is over; the others wait for what comes of that, but not for long.
    tried_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    /// Pauses in a row, this one included.
    count: u32,
}

/// The right to ask once.
pub(super) struct Turn<'a> {
    backoff: &'a Backoff,
    place: Place,
    trial: Option<Trial>,
}

/// Whether a pause is over.
#[derive(Clone, Copy)]
struct Trial {
    /// When that pause ended: there is no other that did then.
    of: Instant,
    since: Instant,
}

enum Look {
    Go { trial: Option<Trial> },
    Wait { until: Instant },
    Held { until: Instant },
}

impl Backoff {
    pub(super) fn new(upstream: String, limits: &Limits) -> Self {
        Self {
            upstream,
            shared: Arc::default(),
            pause_max: limits.upstream_backoff_max,
            wait_max: limits.upstream_response_timeout,
        }
    }

    /// Goes on where `former`, of the same upstream before a reload, is: downloads that began under it go on asking.
    pub(super) fn go_on_from(&mut self, former: &Self) {
        self.shared = Arc::clone(&former.shared);
    }

    /// Whether upstream limits our rate now.
    pub(super) fn is_held(&self) -> bool {
        self.lock().pause.is_some_and(|pause| Instant::now() < pause.until)
    }

    /// A turn to ask for `what` of `repository`, at once; where a pause is over, one tries first.
    pub(super) async fn turn(&self, repository: &RepositoryPath, what: Kind) -> Result<Turn<'_>, UpstreamError> {
        let place = (repository.clone(), what);
        if let Some(retry_after) = self.shared.outages.left(&place) {
            return Err(UpstreamError::HeldBack { what, retry_after, is_limit: false });
        }
        let held = |retry_after| UpstreamError::HeldBack { what, retry_after, is_limit: true };
        let waiting = async {
            loop {
                let mut tried = pin!(self.shared.tried.notified());
                // Listening begins before the look, so that a trial that ends in between is heard.
                tried.as_mut().enable();
                match self.look() {
                    Look::Go { trial } => return Ok(trial),
                    Look::Held { until } => return Err(held(until.saturating_duration_since(Instant::now()))),
                    Look::Wait { until } => {
                        let _ = timeout_at(until, tried).await;
                    }
                }
            }
        };
        let trial = timeout(self.wait_max, waiting).await.unwrap_or(Err(held(STEP)))?;
        Ok(Turn { backoff: self, place, trial })
    }

    fn look(&self) -> Look {
        let now = Instant::now();
        let mut state = self.lock();
        let Some(Pause { until, .. }) = state.pause else { return Look::Go { trial: None } };
        if now < until {
            return Look::Held { until };
        }
        if let Some(next) = state.tried_since.map(|since| since + TRIAL_MAX).filter(|next| now < *next) {
            return Look::Wait { until: next };
        }
        state.tried_since = Some(now);
        Look::Go { trial: Some(Trial { of: until, since: now }) }
    }

    /// Nobody asks for anything.
    fn limited(&self, asked: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.lock();
        // Answers that were on their way when it began do not make it longer than they say.
        let (count, was_held) = match state.pause {
            Some(pause) if now < pause.until => (pause.count, Some(pause.until)),
            Some(pause) => (pause.count.saturating_add(1), None),
            None => (1, None),
        };
        let own = STEP.saturating_mul(2_u32.saturating_pow(count - 1));
        let pause = self.pause(asked, own);
        let until = was_held.map_or(now + pause, |until| until.max(now + pause));
        state.pause = Some(Pause { until, count });
        drop(state);
        if was_held.is_none() {
            let seconds = pause.as_secs_f32();
            tracing::warn!(upstream = %self.upstream, "upstream limits our rate: it is not asked for the next {seconds} s");
        }
    }

    /// Nobody asks for this.
    fn out(&self, place: &Place, asked: Duration) {
        let pause = self.pause(Some(asked), STEP);
        if self.shared.outages.hold(place, pause) {
            let ((repository, what), seconds) = (place, pause.as_secs_f32());
            tracing::warn!(
                upstream = %self.upstream,
                %repository,
                "{what}: upstream is out, and says until when: for the next {seconds} s it is not asked for that"
            );
        }
    }

    /// As long as it asked for, else `own`.
    fn pause(&self, asked: Option<Duration>, own: Duration) -> Duration {
        asked.filter(|asked| !asked.is_zero()).unwrap_or(own).min(self.pause_max)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and any state of it is a whole one.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Upstream itself has answered without limiting our rate, whatever comes of what it sent us on to.
    pub(super) fn passed(&mut self) {
        let Some(Trial { of, .. }) = self.trial else { return };
        let mut state = self.backoff.lock();
        // Another trial may have begun since, but nobody was told anything else.
        if state.pause.is_some_and(|pause| pause.until == of) {
            *state = State::default();
            drop(state);
            self.trial = None;
            self.backoff.shared.tried.notify_waiters();
        }
    }

    /// Upstream itself answered like this.
    pub(super) fn answered(mut self, error: Option<&UpstreamError>) {
        match error {
            Some(UpstreamError::RateLimited { retry_after, .. }) => self.backoff.limited(*retry_after),
            // It fails, but not because we ask too often.
            Some(UpstreamError::Unavailable { why: Outage::ComeAgain(_, after), .. }) => {
                self.backoff.out(&self.place, *after);
                self.passed();
            }
            // It may still want to be left alone: the next one tries.
            Some(UpstreamError::HeldBack { .. }) => {}
            Some(UpstreamError::Unavailable { why, .. }) if !matches!(why, Outage::Status(_)) => {}
            // Only who tried after the pause knows that it is over.
            None
            | Some(
                UpstreamError::NotFound { .. }
                | UpstreamError::Refused { .. }
                | UpstreamError::Misdirected { .. }
                | UpstreamError::Malformed { .. }
                | UpstreamError::Unavailable { .. },
            ) => {
                self.passed();
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(Trial { since, .. }) = self.trial else { return };
        let mut state = self.backoff.lock();
        // Where no other has begun since.
        if state.tried_since == Some(since) {
            state.tried_since = None;
            drop(state);
            self.backoff.shared.tried.notify_waiters();
        }
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
        turn(&backoff).await.unwrap().answered(Some(&limited(Some(3))));
        tokio::time::advance(Duration::from_secs(3)).await;
        backoff
    }

    async fn turn(backoff: &Backoff) -> Result<Turn<'_>, UpstreamError> {
        backoff.turn(&"a".parse().unwrap(), WHAT).await
    }

    async fn held(backoff: &Backoff) -> Option<(u64, bool)> {
        match turn(backoff).await {
            Err(UpstreamError::HeldBack { retry_after, is_limit, .. }) => Some((retry_after.as_secs(), is_limit)),
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asks_before_the_time_that_upstream_named() {
        let backoff = backoff();
        turn(&backoff).await.unwrap().answered(Some(&limited(Some(7))));
        assert_eq!(held(&backoff).await, Some((7, true)));
        assert!(backoff.is_held());
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(held(&backoff).await, Some((1, true)));
        tokio::time::advance(Duration::from_secs(1)).await;
        turn(&backoff).await.unwrap().answered(None);
        assert_eq!((held(&backoff).await, backoff.is_held()), (None, false));
        turn(&backoff).await.unwrap().answered(Some(&limited(Some(86_400))));
        assert_eq!(held(&backoff).await, Some((900, true)), "a quarter of an hour at most");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_out_is_not_asked_for_that_and_limits_nobodys_rate() {
        let backoff = over().await;
        let out = |seconds| {
            let why = Outage::ComeAgain(503, Duration::from_secs(seconds));
            UpstreamError::Unavailable { what: WHAT, why }
        };
        turn(&backoff).await.unwrap().answered(Some(&out(86_400)));
        assert_eq!((held(&backoff).await, backoff.is_held()), (Some((900, false)), false));
        assert!(backoff.lock().pause.is_none(), "the pause of the limit is over");
        for (repository, what) in [("b", WHAT), ("a", Kind::Manifest)] {
            let turn = backoff.turn(&repository.parse().unwrap(), what).await;
            turn.unwrap_or_else(|error| panic!("{repository}: {error}")).answered(None);
        }
        tokio::time::advance(Duration::from_secs(900)).await;
        turn(&backoff).await.unwrap().answered(Some(&out(0)));
        assert_eq!(held(&backoff).await, Some((1, false)), "a second at least");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_the_pauses_grow_until_one_goes_well() {
        let backoff = backoff();
        for seconds in [1, 2, 4, 8] {
            turn(&backoff).await.unwrap().answered(Some(&limited(None)));
            assert_eq!(held(&backoff).await, Some((seconds, true)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        turn(&backoff).await.unwrap().answered(Some(&UpstreamError::NotFound { what: WHAT }));
        turn(&backoff).await.unwrap().answered(Some(&limited(None)));
        assert_eq!(held(&backoff).await, Some((1, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_were_on_their_way_count_as_one_and_do_not_end_the_pause() {
        let backoff = backoff();
        let mut turns = Vec::new();
        for _ in 0..100 {
            turns.push(turn(&backoff).await.unwrap());
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
        let trial = turn(&backoff).await.unwrap();
        let others = futures_util::future::join_all((0..50).map(|_| held(&backoff)));
        let ended = async {
            tokio::task::yield_now().await;
            trial.answered(Some(&limited(Some(5))));
        };
        let (others, ()) = tokio::join!(others, ended);
        assert!(others.iter().all(|held| *held == Some((5, true))), "{others:?}");
        // One that was given up has tried nothing: the next one does.
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(turn(&backoff).await.unwrap());
        let trial = turn(&backoff).await.unwrap();
        let (other, ()) = tokio::join!(held(&backoff), async { trial.answered(None) });
        assert_eq!(other, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_is_sent_on_has_ended_the_pause_whatever_the_other_host_does() {
        let backoff = over().await;
        let mut trial = turn(&backoff).await.unwrap();
        trial.passed();
        assert_eq!(held(&backoff).await, None, "while the trial waits for storage");
        drop(trial);
        assert_eq!(held(&backoff).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_does_not_end_keeps_the_others_for_so_long_only() {
        let backoff = over().await;
        let endless = turn(&backoff).await.unwrap();
        tokio::time::advance(Limits::default().upstream_response_timeout).await;
        turn(&backoff).await.unwrap().answered(None);
        assert_eq!(held(&backoff).await, None);
        drop(endless);
    }

    #[tokio::test(start_paused = true)]
    async fn others_try_in_turn_each_second_while_trials_hang() {
        let backoff = over().await;
        let hanging = turn(&backoff).await.unwrap();
        let began = Instant::now();
        let second = turn(&backoff).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        let (third, fourth) = tokio::join!(turn(&backoff), turn(&backoff));
        assert_eq!(began.elapsed(), Duration::from_secs(3), "one after the other");
        drop((second, third, fourth, hanging));
        let last = turn(&backoff).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(3), "who gave up has tried nothing");
        last.answered(None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_ends_the_pause_for_all_though_others_have_begun_to_try() {
        let backoff = over().await;
        let slow = turn(&backoff).await.unwrap();
        let second = turn(&backoff).await.unwrap();
        slow.answered(None);
        let began = Instant::now();
        for _ in 0..10 {
            assert_eq!(held(&backoff).await, None);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(second);
        assert!(backoff.lock().pause.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_asks_for_no_pause_ends_that_of_a_limit() {
        let backoff = over().await;
        let failing = UpstreamError::Unavailable { what: WHAT, why: Outage::Status(500) };
        turn(&backoff).await.unwrap().answered(Some(&failing));
        assert_eq!(held(&backoff).await, None);
        assert!(backoff.lock().pause.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_took_too_long_does_not_end_what_a_later_one_was_told() {
        let backoff = over().await;
        let late = turn(&backoff).await.unwrap();
        tokio::time::advance(Limits::default().upstream_response_timeout).await;
        turn(&backoff).await.unwrap().answered(Some(&limited(Some(60))));
        late.answered(None);
        assert_eq!(held(&backoff).await, Some((60, true)));
        tokio::time::advance(Duration::from_secs(60)).await;
        let second = turn(&backoff).await.unwrap();
        tokio::time::advance(Limits::default().upstream_response_timeout).await;
        let third = turn(&backoff).await.unwrap();
        drop(second);
        assert!(backoff.lock().tried_since.is_some(), "the third still tries");
        drop(third);
        assert!(backoff.lock().tried_since.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_does_not_end_a_pause_and_what_began_before_it_is_told_of_the_next() {
        let (before, mut after) = (backoff(), backoff());
        turn(&before).await.unwrap().answered(Some(&limited(Some(7))));
        after.go_on_from(&before);
        assert_eq!(held(&after).await, Some((7, true)));
        tokio::time::advance(Duration::from_secs(7)).await;
        turn(&after).await.unwrap().answered(Some(&limited(Some(9))));
        assert_eq!(held(&before).await, Some((9, true)));
    }
}
