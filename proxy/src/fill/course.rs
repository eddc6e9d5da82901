//! How a download goes on after an answer that did not bring the rest: from which repository, after which pause, or not at all.

use std::time::Duration;

use config::Limits;
use oci::RepositoryPath;

use super::{Elsewhere, FillKey};
use crate::upstream::{Kind, Outage, UpstreamError};

/// How often upstream is asked for the first byte. Nobody has anything to lose yet, and a client waits to hear.
const TRIES_FOR_THE_FIRST_BYTE: u32 = 3;
/// Repositories that are asked for a blob of which no client asked them, one after the other.
const GONE_OVER_MAX: u32 = 8;
/// The pause before the second such try; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// How much of a blob is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct There {
    pub(super) bytes: u64,
    /// How many of these were there before this download asked anybody.
    pub(super) taken_up: u64,
}

/// Where one download stands among the repositories that may have its blob.
pub(super) struct Course {
    /// `limits.fill_tries_max` and `limits.fill_pause_max`.
    tries_max: u32,
    pause_max: Duration,
    /// `limits.upstream_bytes_per_second_min`.
    per_second_min: u64,
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
    /// Upstream cannot tell the rest: it is asked for all of it, and what is there must come again.
    from_start: bool,
    /// Answers in a row that were given up as too slow.
    slow: u32,
}

impl Course {
    pub(super) fn new(limits: &Limits) -> Self {
        let (tries_max, pause_max) = (limits.fill_tries_max, limits.fill_pause_max);
        Self {
            tries_max,
            pause_max,
            per_second_min: limits.upstream_bytes_per_second_min,
            refused: Vec::new(),
            refusal: None,
            turn: 0,
            failed: 0,
            asked: None,
            rounds: 0,
            gone_over: 0,
            from_start: false,
            slow: 0,
        }
    }

    /// From which byte on to ask, where so many are there.
    pub(super) fn offset(&self, bytes: u64) -> u64 {
        if self.from_start { 0 } else { bytes }
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
        // Whoever answered one range wrongly may answer the next one rightly, and the beginning need not come once more.
        self.from_start = false;
    }

    /// An answer that brought so many bytes within a time ended with `error`. Whether to ask again at once: not for ever where it is always too
    /// slow, whatever ends it, as a download that creeps holds the place of another.
    pub(super) fn goes_on_after(&mut self, error: &UpstreamError, bytes: u64, took: Duration) -> bool {
        let crept = u128::from(bytes) * 1000 < u128::from(self.per_second_min).saturating_mul(took.as_millis());
        let is_slow = crept || matches!(error, UpstreamError::Unavailable { why: Outage::TooSlow(_), .. });
        self.slow = if is_slow { self.slow + 1 } else { 0 };
        matches!(error, UpstreamError::Unavailable { .. }) && self.slow < self.tries_max
    }

    /// An answer from `path` brought nothing. How long to pause before the next, or the error back where there is to be none.
    pub(super) fn failed(
        &mut self,
        path: &RepositoryPath,
        known: &[RepositoryPath],
        error: UpstreamError,
        there: There,
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
            UpstreamError::RateLimited { .. }
            | UpstreamError::Unavailable { .. }
            | UpstreamError::HeldBack { is_limit: false, .. } => {
                self.asked = self.asked.max(error.retry_after());
                (self.turn, self.failed) = (self.turn + 1, self.failed + 1);
                if self.failed < self.left(known).count() {
                    return Ok(Duration::ZERO);
                }
                let paused = self.round(error, there.bytes > there.taken_up);
                // It may fail only where it is asked for the rest.
                let fails =
                    |error: &UpstreamError| matches!(error, UpstreamError::Unavailable { why: Outage::Status(_), .. });
                paused.or_else(|error| if fails(&error) { self.begin_again(error, there) } else { Err(error) })
            }
            // Nobody is asked, whatever the repository: whose turn it was has it still when the pause is over.
            UpstreamError::HeldBack { is_limit: true, retry_after, .. } => {
                self.rounds += 1;
                let is_told = there.bytes == there.taken_up || retry_after > self.pause_max;
                if is_told || self.rounds >= self.tries_max { Err(error) } else { Ok(retry_after) }
            }
            // Another part than the one asked for, or a status that means: not this range.
            UpstreamError::Malformed { what: Kind::Blob, .. } => self.begin_again(error, there),
            UpstreamError::Misdirected { .. } | UpstreamError::Malformed { .. } => Err(error),
        }
    }

    /// Asks for the whole next, once, where only the rest was asked for: else what is there would stand in its own way for as long as it
    /// is kept.
    fn begin_again(&mut self, error: UpstreamError, there: There) -> Result<Duration, UpstreamError> {
        if there.bytes == 0 || self.from_start {
            return Err(error);
        }
        self.from_start = true;
        Ok(Duration::ZERO)
    }

    /// All have failed once more. `begun`: whether this download has brought anything.
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

    const NOTHING: There = There { bytes: 0, taken_up: 0 };
    const SOME: There = There { bytes: 7, taken_up: 0 };
    const KEPT: There = There { bytes: 7, taken_up: 7 };

    /// What becomes of a download that fails like this again and again, and after which pauses.
    fn pauses(error: &UpstreamError, there: There, known: &[RepositoryPath], limits: &Limits) -> Vec<Duration> {
        let mut course = Course::new(limits);
        let mut pauses = Vec::new();
        while let Some(path) = course.next(known).cloned()
            && let Ok(pause) = course.failed(&path, known, error.clone(), there)
        {
            pauses.push(pause);
            assert!(pauses.len() < 1000, "it never ends");
        }
        pauses
    }

    #[test]
    fn a_download_that_never_began_is_given_up_soon() {
        let millis = Duration::from_millis;
        assert_eq!(pauses(&LOST, NOTHING, &paths(&["a"]), &Limits::default()), [millis(200), millis(400)]);
    }

    #[test]
    fn one_that_began_is_tried_again_with_growing_and_bounded_pauses() {
        let limits = Limits { fill_tries_max: 6, fill_pause_max: Duration::from_secs(1), ..Limits::default() };
        let seconds = pauses(&LOST, SOME, &paths(&["a"]), &limits);
        assert_eq!(seconds, [200, 400, 800, 1000, 1000].map(Duration::from_millis));
    }

    #[test]
    fn progress_makes_the_first_failure_of_it() {
        let limits = Limits { fill_tries_max: 2, ..Limits::default() };
        let (known, mut course) = (paths(&["a"]), Course::new(&limits));
        for _ in 0..100 {
            assert!(course.failed(&known[0], &known, LOST, SOME).is_ok());
            course.progressed();
        }
        assert!(course.failed(&known[0], &known, LOST, SOME).is_ok());
        assert!(course.failed(&known[0], &known, LOST, SOME).is_err());
    }

    #[test]
    fn who_refuses_is_asked_once_and_the_refusal_that_tells_most_is_told() {
        let (limits, known) = (Limits::default(), paths(&["a", "b", "c"]));
        for (first, second) in [(MISSING, CLOSED), (CLOSED, MISSING)] {
            let mut course = Course::new(&limits);
            for (path, error) in known.iter().zip([first, second, MISSING]) {
                assert_eq!(course.next(&known), Some(path));
                assert_eq!(course.failed(path, &known, error, SOME), Ok(Duration::ZERO));
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
        assert_eq!(course.failed(&known[0], &known, limited(Some(5)), SOME), Ok(Duration::ZERO));
        assert_eq!(course.next(&known), Some(&known[1]));
        assert_eq!(course.failed(&known[1], &known, LOST, SOME), Ok(Duration::from_secs(5)), "the longest asked for");
        assert_eq!(course.next(&known), Some(&known[0]));
        assert_eq!(course.failed(&known[0], &known, CLOSED, SOME), Ok(Duration::ZERO));
        assert_eq!(course.next(&known), Some(&known[1]));
    }

    #[test]
    fn patience_is_kept_where_asked_for_and_not_beyond_the_limit() {
        let (known, limits) = (paths(&["a"]), Limits::default());
        let failed = |error, there| Course::new(&limits).failed(&known[0], &known, error, there);
        assert_eq!(failed(limited(Some(30)), SOME), Ok(Duration::from_secs(30)));
        assert!(failed(limited(Some(31)), SOME).is_err());
        assert!(failed(limited(None), SOME).is_ok());
        for seconds in [None, Some(1)] {
            assert!(failed(limited(seconds), NOTHING).is_err(), "a client with nothing is told");
        }
    }

    #[test]
    fn who_is_always_too_slow_is_given_up_and_who_only_breaks_off_is_not() {
        let limits = Limits { fill_tries_max: 3, ..Limits::default() };
        let creeping = UpstreamError::Unavailable { what: WHAT, why: Outage::TooSlow(1024) };
        let mut course = Course::new(&limits);
        let went_on = [&creeping, &creeping, &LOST, &creeping, &creeping, &creeping].map(|error| {
            course.progressed();
            course.goes_on_after(error, 1 << 20, Duration::from_secs(30))
        });
        assert_eq!(went_on, [true, true, true, true, true, false]);
        assert!(!course.goes_on_after(&MISSING, 0, Duration::ZERO), "that one is for who has refused");
    }

    /// A byte, and then nothing until it is given up, or the end of the connection.
    #[test]
    fn who_brings_a_little_and_breaks_off_is_too_slow() {
        let limits = Limits { fill_tries_max: 3, ..Limits::default() };
        let stalled = UpstreamError::Unavailable { what: WHAT, why: Outage::Stalled(Duration::from_secs(30)) };
        for error in [&stalled, &LOST] {
            let mut course = Course::new(&limits);
            let went_on = [(1, 30), (30_000, 30), (40_000, 30), (1, 1), (1023, 1), (1, 30)].map(|(bytes, seconds)| {
                course.progressed();
                course.goes_on_after(error, bytes, Duration::from_secs(seconds))
            });
            assert_eq!(went_on, [true, true, true, true, true, false], "the third brought more than 1 KiB a second");
        }
    }

    #[test]
    fn who_is_held_back_keeps_his_turn_until_the_pause_is_over() {
        let (known, limits) = (paths(&["a", "b"]), Limits::default());
        let held = |seconds| {
            let retry_after = Duration::from_secs(seconds);
            UpstreamError::HeldBack { what: WHAT, retry_after, is_limit: true }
        };
        let mut course = Course::new(&limits);
        assert_eq!(course.failed(&known[0], &known, limited(Some(5)), SOME), Ok(Duration::ZERO));
        assert_eq!(course.failed(&known[1], &known, held(5), SOME), Ok(Duration::from_secs(5)));
        assert_eq!(course.next(&known), Some(&known[1]));
        assert!(course.failed(&known[1], &known, held(31), SOME).is_err(), "longer than limits.fill_pause_max");
        for there in [NOTHING, KEPT] {
            assert!(Course::new(&limits).failed(&known[0], &known, held(1), there).is_err(), "who has nothing is told");
        }
        assert!(pauses(&held(1), SOME, &known, &limits).len() < 8);
    }

    #[test]
    fn where_a_repository_is_out_the_next_one_is_asked() {
        let (known, limits) = (paths(&["a", "b"]), Limits::default());
        let out = || UpstreamError::HeldBack { what: WHAT, retry_after: Duration::from_secs(5), is_limit: false };
        let mut course = Course::new(&limits);
        assert_eq!(course.failed(&known[0], &known, out(), SOME), Ok(Duration::ZERO));
        assert_eq!(course.next(&known), Some(&known[1]));
        assert_eq!(course.failed(&known[1], &known, out(), SOME), Ok(Duration::from_secs(5)), "all of them");
        for there in [NOTHING, KEPT] {
            let known = paths(&["a"]);
            assert!(Course::new(&limits).failed(&known[0], &known, out(), there).is_err(), "who has nothing is told");
        }
    }

    #[test]
    fn what_is_wrong_is_not_asked_for_again() {
        let (known, limits) = (paths(&["a", "b"]), Limits::default());
        let error = UpstreamError::Malformed { what: WHAT, why: Flaw::Range };
        assert!(Course::new(&limits).failed(&known[0], &known, error, NOTHING).is_err());
        let nonsense = UpstreamError::Malformed { what: Kind::Token, why: Flaw::Json };
        assert!(Course::new(&limits).failed(&known[0], &known, nonsense, SOME).is_err());
    }

    #[test]
    fn who_cannot_tell_the_rest_is_asked_for_the_whole_once_until_some_of_it_came() {
        let (known, limits) = (paths(&["a"]), Limits::default());
        for there in [SOME, KEPT] {
            let mut course = Course::new(&limits);
            let wrong = || UpstreamError::Malformed { what: WHAT, why: Flaw::Status(416) };
            for _ in 0..3 {
                assert_eq!(course.offset(there.bytes), there.bytes);
                assert_eq!(course.failed(&known[0], &known, wrong(), there), Ok(Duration::ZERO));
                assert_eq!((course.offset(there.bytes), course.next(&known)), (0, Some(&known[0])));
                course.progressed();
            }
            assert!(course.failed(&known[0], &known, wrong(), there).is_ok());
            assert!(course.failed(&known[0], &known, wrong(), there).is_err(), "not even the whole");
        }
    }

    #[test]
    fn who_always_fails_when_asked_for_the_rest_is_asked_for_the_whole_before_it_is_given_up() {
        let (known, limits) = (paths(&["a"]), Limits::default());
        let failing = UpstreamError::Unavailable { what: WHAT, why: Outage::Status(500) };
        let mut course = Course::new(&limits);
        for rest in [true, true, true, false] {
            assert_eq!(course.offset(7) == 7, rest);
            assert_eq!(course.failed(&known[0], &known, failing.clone(), KEPT).is_ok(), rest);
        }
        // Who is out, or wants to be asked later, is not asked for more than is missing.
        let later = UpstreamError::Unavailable { what: WHAT, why: Outage::ComeAgain(503, Duration::from_secs(1)) };
        for error in [LOST, later] {
            let mut course = Course::new(&limits);
            while course.failed(&known[0], &known, error.clone(), KEPT).is_ok() {}
            assert_eq!(course.offset(7), 7);
        }
    }
}
