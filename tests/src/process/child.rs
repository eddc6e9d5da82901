//! A child process whose words are kept, and which ends with the test.

use std::{fmt, io, process::ExitStatus, process::Stdio, time::Duration};

use rustix::process::{Pid, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    sync::watch,
    time::timeout,
};

pub use rustix::process::Signal;

/// A running child. Dropping it kills it: this one, by its id, and no other.
pub struct Child {
    child: tokio::process::Child,
    said: watch::Receiver<Said>,
}

/// What a child has written to standard output and standard error so far, line by line as it came.
#[derive(Debug, Clone, Default)]
struct Said {
    lines: Vec<String>,
    /// How many of the two still can bring more.
    open: usize,
}

/// What was waited for did not come.
#[derive(Debug)]
pub struct Silent {
    /// What.
    pub wanted: String,
    /// All that was said instead.
    pub said: Vec<String>,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "never came: {}; the process said:\n{}", self.wanted, self.said.join("\n"))
    }
}

impl std::error::Error for Silent {}

impl Child {
    /// Starts it, within the tokio runtime this is called in, with nothing on its standard input.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (words, said) = watch::channel(Said { lines: Vec::new(), open: 2 });
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(listen(stdout, words.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(listen(stderr, words));
        }
        Ok(Self { child, said })
    }

    /// All lines so far.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.said.borrow().lines.clone()
    }

    /// Waits until a line after the first `after` ones is `such`, and returns what `such` made of it.
    ///
    /// # Errors
    /// When the process closes its outputs, or `patience` ends, before that.
    pub async fn line<T>(
        &self,
        after: usize,
        wanted: &str,
        patience: Duration,
        such: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Silent> {
        let mut said = self.said.clone();
        let found = |said: &Said| said.lines.iter().skip(after).find_map(|line| such(line));
        let _ = timeout(patience, said.wait_for(|said| said.open == 0 || found(said).is_some())).await;
        let said = said.borrow();
        found(&said).ok_or_else(|| Silent { wanted: wanted.to_owned(), said: said.lines.clone() })
    }

    /// Its process id, until its end has been waited for.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends it a signal. Does nothing once it has been waited for: its id may belong to somebody else by then.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        id.map_or(Ok(()), |id| kill_process(id, signal).map_err(io::Error::from))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it has not after `patience`; it then still runs.
    pub async fn ended(&mut self, patience: Duration) -> Result<ExitStatus, Silent> {
        let ended = timeout(patience, self.child.wait()).await;
        if let Ok(Ok(status)) = ended {
            // What it said last is still on its way; somebody else who holds its outputs must not hold us.
            let _ = timeout(Duration::from_secs(5), self.said.wait_for(|said| said.open == 0)).await;
            return Ok(status);
        }
        Err(Silent { wanted: format!("its end within {patience:?}"), said: self.said() })
    }
}

async fn listen(output: impl AsyncRead + Unpin, words: watch::Sender<Said>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        words.send_modify(|said| said.lines.push(line));
    }
    words.send_modify(|said| said.open -= 1);
}
