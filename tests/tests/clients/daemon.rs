//! A daemon that belongs to one test: it comes up, and goes with everything it mounted.

use std::{path::Path, time::Duration};

use support::process::{Child, Signal};
use tempfile::TempDir;
use tokio::{process::Command, runtime::Handle, task::block_in_place};

/// How long it may take to come up, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon; it ends when this is dropped, within a multi-thread runtime.
pub struct Daemon {
    child: Child,
    /// Everything it writes.
    pub directory: TempDir,
}

impl Daemon {
    /// Starts it; `ready` is a part of the line by which it says that it serves.
    pub async fn start(command: Command, directory: TempDir, ready: &str) -> Self {
        let child = Child::start(command).expect("a daemon that is installed can be started");
        // In this order: should it not come up, it is ended like one that did.
        let daemon = Self { child, directory };
        let is_ready = |line: &str| line.contains(ready).then_some(());
        if let Err(silent) = daemon.child.line(0, ready, PATIENCE, is_ready).await {
            panic!("the daemon does not come up: {silent}");
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.signal(Signal::TERM);
        // It ends its own children and containers then; what does not end is killed when the child is dropped.
        let ended = block_in_place(|| Handle::current().block_on(self.child.ended(PATIENCE)));
        if let Err(silent) = ended {
            support::needs::note(&format!("a daemon was killed: {silent}"));
        }
        unmount(self.directory.path());
    }
}

/// Network namespaces and the like stay mounted, and would keep the directory from being removed.
fn unmount(directory: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(directory)) {
        let _ = std::process::Command::new("umount").arg(point).status();
    }
}
