//! How far a command has come, for whoever waits for its answer.

use std::{pin::pin, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use super::show::{counted, size};

/// Between two looks at how far it has come.
const EVERY: Duration = Duration::from_millis(250);

/// How far a command has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// What it does.
    pub doing: Doing,
    /// Bytes so far,
    pub bytes: u64,
    /// of so many, as far as is known: the store goes on changing.
    pub bytes_total: u64,
    /// Blobs so far.
    pub blobs: u64,
    /// Of these, those that had rotted.
    pub rotten: u64,
}

/// What takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// `scrub`: what is stored is read again.
    Reading,
    /// `gc`: room is made.
    Freeing,
}

impl Doing {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "read",
            Self::Freeing => "freed",
        }
    }
}

impl Progress {
    /// Hundredths.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let part = u128::from(self.bytes) * 100 / u128::from(self.bytes_total.max(1));
        u64::try_from(part).unwrap_or(100).min(100)
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let (done, all, percent) = (size(self.bytes), size(self.bytes_total), self.percent());
        let found = self.found();
        format!("{} {done} of {all} ({percent} %){found}", self.doing.as_str())
    }

    /// What is told besides the bytes, with a comma before it; empty where there is nothing.
    #[must_use]
    pub fn found(&self) -> String {
        if self.rotten == 0 {
            return String::new();
        }
        let rotten = usize::try_from(self.rotten).unwrap_or(usize::MAX);
        format!(", {} found rotten", counted(rotten, "blob", "blobs"))
    }
}

/// Where a command says how far it has come. Only the last word is kept: nobody need listen.
#[derive(Debug)]
pub struct Reporter(watch::Sender<Option<Progress>>);

impl Default for Reporter {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Reporter {
    pub(crate) fn report(&self, progress: Progress) {
        self.0.send_replace(Some(progress));
    }

    pub(crate) fn heard(&self) -> Heard {
        Heard(self.0.subscribe())
    }
}

/// Who listens to a [`Reporter`].
pub(crate) struct Heard(watch::Receiver<Option<Progress>>);

impl Heard {
    /// What is new; completes after a while at the earliest, so that nobody is told more often.
    pub(crate) async fn news(&mut self) -> Progress {
        loop {
            sleep(EVERY).await;
            let is_new = self.0.has_changed().unwrap_or(false);
            if let Some(progress) = self.0.borrow_and_update().clone().filter(|_| is_new) {
                return progress;
            }
        }
    }

    /// Waits for `work`, and tells how far it has come.
    pub(crate) async fn until<T>(mut self, work: impl Future<Output = T>, tell: &mut impl FnMut(&Progress)) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                progress = self.news() => tell(&progress),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: u64, bytes_total: u64, rotten: u64) -> Progress {
        Progress { doing: Doing::Reading, bytes, bytes_total, blobs: 3, rotten }
    }

    #[test]
    fn a_line_tells_what_is_done_of_how_much_and_what_was_found() {
        assert_eq!(read(512, 2048, 0).line(), "read 512 B of 2.0 KiB (25 %)");
        assert_eq!(read(2048, 2048, 1).line(), "read 2.0 KiB of 2.0 KiB (100 %), 1 blob found rotten");
        let freed = Progress { doing: Doing::Freeing, ..read(0, 1 << 30, 0) };
        assert_eq!(freed.line(), "freed 0 B of 1.0 GiB (0 %)");
    }

    #[test]
    fn hundredths_are_never_more_than_a_hundred_nor_of_nothing() {
        for (bytes, total, percent) in [(0, 0, 0), (5, 0, 100), (9, 3, 100), (u64::MAX, u64::MAX, 100), (1, 3, 33)] {
            assert_eq!(read(bytes, total, 0).percent(), percent);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_in_between_is_the_last_word_and_never_after_the_end() {
        let reporter = Reporter::default();
        let mut told = Vec::new();
        let heard = reporter.heard();
        let work = async {
            for bytes in 0..10 {
                reporter.report(read(bytes, 10, 0));
                sleep(Duration::from_millis(110)).await;
            }
            "done"
        };
        assert_eq!(heard.until(work, &mut |progress: &Progress| told.push(progress.bytes)).await, "done");
        assert_eq!(told, [2, 4, 6, 9]);
    }
}
