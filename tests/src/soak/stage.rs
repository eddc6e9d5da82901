//! A world with the real binary in front of it, started and stopped again and again on stores of its own.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::failed;
use crate::{
    client::Client,
    process::{Ended, NotServing, Process},
    world::{Setup, World},
};

/// How long anything may take that is waited for; only what fails takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A world, and a configuration in it.
pub struct Stage {
    /// What stands behind pratique.
    pub world: World,
    config: PathBuf,
}

impl Stage {
    /// A plain upstream, nothing in it, and this configuration.
    pub async fn new(setup: &Setup) -> Self {
        let world = World::new().await;
        let config = world.write(setup);
        Self { world, config }
    }

    /// Where the store of that name lies.
    #[must_use]
    pub fn store(&self, name: &str) -> PathBuf {
        self.world.directory.path().join(name)
    }

    /// pratique on that store.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn serve(&self, store: &Path) -> Result<Process, String> {
        self.serve_under(&[], store).await
    }

    /// The same, started by another program.
    ///
    /// # Errors
    /// When it does not serve.
    pub async fn serve_under(&self, starter: &[&str], store: &Path) -> Result<Process, String> {
        let store = store.to_string_lossy();
        let served = Process::serve_under(starter, &self.config, &["--storage", &store]).await;
        served.map_err(|error: NotServing| error.to_string())
    }

    /// Gives a store's space back.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard(&self, store: &Path) -> Result<(), String> {
        std::fs::remove_dir_all(store).map_err(|error| failed(&store.display().to_string(), error))
    }
}

/// `http://127.0.0.1:port`, and a client that has no connection to it yet.
pub(super) fn clients_view(process: &Process) -> (Client, String) {
    (Client::plain(), format!("http://{}", process.address))
}

/// The end of an orderly stop.
pub(super) fn ended_well(ended: &Ended) -> Result<(), String> {
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("ended with {} after SIGTERM; its log:\n{}", ended.status, server_log(&ended.log)))
}

/// The last lines of a log, for a message.
#[must_use]
pub fn server_log(log: &[String]) -> String {
    log.iter().skip(log.len().saturating_sub(20)).cloned().collect::<Vec<_>>().join("\n")
}

/// Looks again and again, as often as the machine lets us, until it is so. There is nothing to wait on in another process's files.
pub(super) async fn until(what: &str, mut so: impl FnMut() -> bool) -> Result<(), String> {
    let started = Instant::now();
    while !so() {
        if started.elapsed() > PATIENCE {
            return Err(format!("never came: {what}"));
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}
