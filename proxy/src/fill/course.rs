//! How a download goes on after an answer that did not bring the rest: from which repository, after which pause, or not at all.

use std::time::Duration;

use config::Limits;
use oci::RepositoryPath;

use super::{Elsewhere, FillKey};
use crate::upstream::UpstreamError;

/// How often upstream is asked for the first byte. Nobody has anything to lose yet, and a client waits to hear.
const TRIES_FOR_THE_FIRST_BYTE: u32 = 3;
/// Repositories that are asked for a blob of which no client asked them, one after the other.
const GONE_OVER_MAX: u32 = 8;
/// The pause before the second such try; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// Where one download stands among the repositories that may have its blob.
pub(super) struct Course {
    /// `limits.fill_tries_max` and `limits.fill_pause_max`.
    tries_max: u32,
    pause_max: Duration,
    /// Repositories that do not have it, or do not let us in; they are not asked again.
    refused: Vec<RepositoryPath>,
    /// What the refusal said that told most.
    refusal: Option<UpstreamError>,
    /// Whose turn it is among the others.
    turn: usize,
    /// How many of them have failed since there was progress or a pause.
    failed: usize,
    /// The longest patience that one of these asked for.
    asked: Option<Duration>,
    /// Rounds through all of them without a single byte more.
    rounds: u32,
    /// Repositories that were asked although no client asked them.
    gone_over: u32,
}

impl Course {
    pub(super) fn new(limits: &Limits) -> Self {
        let (tries_max, pause_max) = (limits.fill_tries_max, limits.fill_pause_max);
        Self {
            tries_max,
            pause_max,
            refused: Vec::new(),
            refusal: None,
            turn: 0,
            failed: 0,
            asked: None,
            rounds: 0,
            gone_over: 0,
        }
    }

    /// Whom to ask next; `None` where all that are known have refused.
    pub(super) fn next<'p>(&self, known: &'p [RepositoryPath]) -> Option<&'p RepositoryPath> {
        let left: Vec<_> = self.left(known).collect();
        left.get(self.turn.checked_rem(left.len())?).copied()
    }

    /// One more to ask, where all that are `known` have refused: nobody may be asking for the blob where it is permitted besides.
    pub(super) async fn go_over(
        &mut self,
        elsewhere: &dyn Elsewhere,
        key: &FillKey,
        known: &[RepositoryPath],
    ) -> Option<RepositoryPath> {
        if self.gone_over >= GONE_OVER_MAX {
            return None;
        }
        let path = elsewhere.another(key, known).await?;
        self.gone_over += 1;
        Some(path)
    }

    /// Why nobody is left to ask.
    pub(super) fn refusal(&self) -> Option<UpstreamError> {
        self.refusal.clone()
    }

    /// Some bytes came: whatever broke off after them, the same repository goes on at once.
    pub(super) fn progressed(&mut self) {
        (self.failed, self.asked, self.rounds) = (0, None, 0);
    }

    /// An answer from `path` brought nothing. How long to pause before the next, or the error back where there is to be none.
    /// `begun`: whether any byte has come before.
    pub(super) fn failed(
        &mut self,
        path: &RepositoryPath,
        known: &[RepositoryPath],
        error: UpstreamError,
        begun: bool,
    ) -> Result<Duration, UpstreamError> {
        match error {
            UpstreamError::NotFound { .. } | UpstreamError::Refused { .. } => {
                self.refused.push(path.clone());
                // A closed door tells more than an empty room.
                if self.refusal.is_none() || matches!(error, UpstreamError::Refused { .. }) {
                    self.refusal = Some(error);
                }
                Ok(Duration::ZERO)
            }
            UpstreamError::RateLimited { .. } | UpstreamError::Unavailable { .. } => {
                self.asked = self.asked.max(error.retry_after());
                (self.turn, self.failed) = (self.turn + 1, self.failed + 1);
                if self.failed < self.left(known).count() {
                    return Ok(Duration::ZERO);
                }
                self.round(error, begun)
            }
            UpstreamError::Misdirected { .. } | UpstreamError::Malformed { .. } => Err(error),
        }
    }

    /// All have failed once more.
    fn round(&mut self, error: UpstreamError, begun: bool) -> Result<Duration, UpstreamError> {
        self.failed = 0;
        self.rounds += 1;
        let asked = self.asked.take();
        let tries = if begun { self.tries_max } else { TRIES_FOR_THE_FIRST_BYTE };
        // Who has nothing yet is told when to come again rather than kept waiting.
        let is_told = !begun && (asked.is_some() || matches!(error, UpstreamError::RateLimited { .. }));
        if self.rounds >= tries || is_told || asked > Some(self.pause_max) {
            return Err(error);
        }
        let own = PAUSE.saturating_mul(2_u32.saturating_pow(self.rounds - 1));
        Ok(own.max(asked.unwrap_or_default()).min(self.pause_max))
    }

    fn left<'p>(&self, known: &'p [RepositoryPath]) -> impl Iterator<Item = &'p RepositoryPath> {
        known.iter().filter(|path| !self.refused.contains(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Flaw, Kind, Outage};

    const WHAT: Kind = Kind::Blob;
    const LOST: UpstreamError = UpstreamError::Unavailable { what: WHAT, why: Outage::ConnectionLost };
    const MISSING: UpstreamError = UpstreamError::NotFound { what: WHAT };
    const CLOSED: UpstreamError = UpstreamError::Refused { what: WHAT, status: 403 };

    fn paths(names: &[&str]) -> Vec<RepositoryPath> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn limited(seconds: Option<u64>) -> UpstreamError {
        UpstreamError::RateLimited { what: WHAT, retry_after: seconds.map(Duration::from_secs) }
    }

    /// What becomes of a download that fails like this again and again, and after which pauses.
    fn pauses(error: &UpstreamError, begun: bool, known: &[RepositoryPath], limits: &Limits) -> Vec<Duration> {
        let mut course = Course::new(limits);
        let mut pauses = Vec::new();
        while let Some(path) = course.next(known).cloned()
            && let Ok(pause) = course.failed(&path, known, error.clone(), begun)
        {
            pauses.push(pause);
            assert!(pauses.len() < 1000, "it never ends");
        }
        pauses
    }

    #[test]
    fn a_download_that_never_began_is_given_up_soon() {
        let millis = Duration::from_millis;
        assert_eq!(pauses(&LOST, false, &paths(&["a"]), &Limits::default()), [millis(200), millis(400)]);
    }

    #[test]
    fn one_that_began_is_tried_again_with_growing_and_bounded_pauses() {
        let limits = Limits { fill_tries_max: 6, fill_pause_max: Duration::from_secs(1), ..Limits::default() };
        let seconds = pauses(&LOST, true, &paths(&["a"]), &limits);
        assert_eq!(seconds, [200, 400, 800, 1000, 1000].map(Duration::from_millis));
    }

    #[test]
    fn progress_makes_the_first_failure_of_it() {
        let limits = Limits { fill_tries_max: 2, ..Limits::default() };
        let (known, mut course) = (paths(&["a"]), Course::new(&limits));
        for _ in 0..100 {
            assert!(course.failed(&known[0], &known, LOST, true).is_ok());
            course.progressed();
        }
        assert!(course.failed(&known[0], &known, LOST, true).is_ok());
        assert!(course.failed(&known[0], &known, LOST, true).is_err());
    }

    #[test]
    fn who_refuses_is_asked_once_and_the_refusal_that_tells_most_is_told() {
        let (limits, known) = (Limits::default(), paths(&["a", "b", "c"]));
        for (first, second) in [(MISSING, CLOSED), (CLOSED, MISSING)] {
            let mut course = Course::new(&limits);
            for (path, error) in known.iter().zip([first, second, MISSING]) {
                assert_eq!(course.next(&known), Some(path));
                assert_eq!(course.failed(path, &known, error, true), Ok(Duration::ZERO));
            }
            assert_eq!(course.next(&known), None);
            // One that joins later is asked.
            let more = paths(&["a", "b", "c", "d"]);
            assert_eq!(course.next(&more), more.last());
            assert_eq!(course.refusal(), Some(CLOSED));
        }
    }

    #[test]
    fn another_repository_is_asked_before_any_pause() {
        let (limits, known) = (Limits::default(), paths(&["a", "b"]));
        let mut course = Course::new(&limits);
        assert_eq!(course.failed(&known[0], &known, limited(Some(5)), true), Ok(Duration::ZERO));
        assert_eq!(course.next(&known), Some(&known[1]));
        assert_eq!(course.failed(&known[1], &known, LOST, true), Ok(Duration::from_secs(5)), "the longest asked for");
        assert_eq!(course.next(&known), Some(&known[0]));
        assert_eq!(course.failed(&known[0], &known, CLOSED, true), Ok(Duration::ZERO));
        assert_eq!(course.next(&known), Some(&known[1]));
    }

    #[test]
    fn patience_is_kept_where_asked_for_and_not_beyond_the_limit() {
        let (known, limits) = (paths(&["a"]), Limits::default());
        let failed = |error, begun| Course::new(&limits).failed(&known[0], &known, error, begun);
        assert_eq!(failed(limited(Some(30)), true), Ok(Duration::from_secs(30)));
        assert!(failed(limited(Some(31)), true).is_err());
        assert!(failed(limited(None), true).is_ok());
        for seconds in [None, Some(1)] {
            assert!(failed(limited(seconds), false).is_err(), "a client with nothing is told");
        }
    }

    #[test]
    fn what_is_wrong_is_not_asked_for_again() {
        let (known, limits) = (paths(&["a", "b"]), Limits::default());
        let error = UpstreamError::Malformed { what: WHAT, why: Flaw::Range };
        assert!(Course::new(&limits).failed(&known[0], &known, error, true).is_err());
    }
}
