//! Kills, and errors of the disk, at every single step: the writer runs under strace, which strikes at the n-th call of a kind, and n
//! grows until the writer comes to its end unharmed.

use std::{path::Path, process::Command};

use storage::FactsIn;

use super::{
    Start,
    ledger::{Acknowledged, Order, Writer, check},
    run,
};

/// The calls that make up a commit: of a blob (create, write, sync, rename, sync of the directory) and of facts.
pub const CALLS: [&str; 11] = [
    "openat",
    "write",
    "pwritev",
    "pwrite64",
    "ftruncate",
    "fallocate",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "mkdir",
];
/// The calls that can fail, and how.
pub const ERRORS: [(&str, &str); 10] = [
    ("pwritev", "EIO"),
    ("pwritev", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("ftruncate", "ENOSPC"),
    ("fsync", "EIO"),
    ("fsync", "ENOSPC"),
    ("fdatasync", "EIO"),
    ("rename", "EIO"),
    ("rename", "ENOSPC"),
];
/// No commit has so many calls of a kind in one thread.
const STEPS_MAX: u64 = 400;

/// What strace does at a step.
#[derive(Debug, Clone, Copy)]
pub enum Strike {
    /// kill -9, before the call is made.
    Kill,
    /// The call fails with this error.
    Error(&'static str),
}

/// Why steps cannot be walked here, where they cannot.
pub fn refused() -> Option<String> {
    run(Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=fsync:error=EIO:when=1", "true"]))
        .err()
}

/// One series: the n-th call of that kind, for n from `first` on in everys, in stores made anew or in one that goes on.
pub struct Series<'a> {
    pub start: &'a Start,
    pub facts: FactsIn,
    pub call: &'static str,
    pub strike: Strike,
    /// Each strike hits a store that is being made.
    pub fresh: bool,
    /// Every so many-th step is taken.
    pub every: u64,
}

impl Series<'_> {
    /// Walks all steps in a store below `directory`, and says what was found after each.
    pub fn walk(&self, directory: &Path, mut told: impl FnMut(u64, Result<(), String>)) {
        let mut acknowledged = Acknowledged::new();
        let mut step = 1;
        while step < STEPS_MAX {
            let name = if self.fresh { format!("store-{step}") } else { "store".to_owned() };
            if self.fresh {
                acknowledged.clear();
            }
            let order = Order { store: directory.join(name), facts: self.facts, round: step, count: Some(2) };
            let hit = self.strike(&order, step, &mut acknowledged);
            told(step, hit.as_ref().map(drop).map_err(Clone::clone).and_then(|()| check(&order, &acknowledged)));
            if self.fresh {
                drop(std::fs::remove_dir_all(&order.store));
            }
            if hit != Ok(true) {
                return;
            }
            step += self.every;
        }
    }

    /// Whether it was hit.
    fn strike(&self, order: &Order, step: u64, acknowledged: &mut Acknowledged) -> Result<bool, String> {
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = (self.start)();
        let what = match self.strike {
            Strike::Kill => "signal=SIGKILL".to_owned(),
            Strike::Error(error) => format!("error={error}"),
        };
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-o"])
            .arg(log.path())
            .args(["-e", &format!("trace={}", self.call), "-e", &format!("inject={}:{what}:when={step}", self.call)])
            .arg(writer.get_program())
            .args(writer.get_args());
        let status = Writer::start(strace, order).end(acknowledged);
        let text = String::from_utf8_lossy(&std::fs::read(log.path()).unwrap()).into_owned();
        match self.strike {
            Strike::Kill => Ok(!status.success()),
            Strike::Error(_) if status.success() => Ok(text.contains("(INJECTED)")),
            Strike::Error(error) => Err(format!("{error} at call {step} of {} ended the writer: {status}", self.call)),
        }
    }
}
