//! Progress on standard error: a bar on a terminal, a line now and then elsewhere.

use std::{io::Write as _, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proxy::command::Progress;
use tokio::time::Instant;

/// A command that takes no longer says nothing but its answer.
const QUIET: Duration = Duration::from_secs(2);
/// Between two lines where nothing much has come about, and hundredths after which one is written before that.
const LINE_EVERY: Duration = Duration::from_secs(600);
const LINE_PERCENT: u64 = 5;

/// What is shown of a command under way.
pub(crate) struct Display {
    /// Where there is a terminal; it counts from the beginning, and is seen from the first word on.
    bar: Option<ProgressBar>,
    is_seen: bool,
    /// When the last line was written, and at how many hundredths.
    line: (Instant, u64),
}

impl Display {
    /// Nothing yet. Within a runtime.
    pub(crate) fn new() -> Self {
        // Hidden where standard error is no terminal.
        let is_terminal = !ProgressDrawTarget::stderr().is_hidden();
        Self { bar: is_terminal.then(bar), is_seen: false, line: (Instant::now(), 0) }
    }

    /// Shows how far it has come.
    pub(crate) fn show(&mut self, progress: &Progress) {
        let Some(bar) = &self.bar else {
            self.write(progress);
            return;
        };
        bar.set_length(progress.bytes_total);
        bar.set_prefix(progress.doing.as_str());
        bar.set_message(progress.found());
        bar.set_position(progress.bytes);
        if !self.is_seen {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            self.is_seen = true;
        }
    }

    fn write(&mut self, progress: &Progress) {
        let (at, percent) = self.line;
        let (since, now) = (at.elapsed(), progress.percent());
        if since >= QUIET && now >= percent + LINE_PERCENT || since >= LINE_EVERY {
            // A reader that has left has seen enough.
            let _ = writeln!(std::io::stderr(), "{}", progress.line());
            self.line = (Instant::now(), now);
        }
    }

    /// Makes room for the answer.
    pub(crate) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix} {binary_bytes} of {binary_total_bytes} [{bar:30}] {percent} %, {binary_bytes_per_sec}, {eta} left{msg}",
    );
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}
