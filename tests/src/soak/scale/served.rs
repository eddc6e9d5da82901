//! The real server on a store of many images, and the commands that look at all of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::Command;

use super::{BLOBS, TURNS, content, manifest, name, percent};
use crate::{
    image,
    process::{self, Process},
    soak::{
        Got, Page, Say, Stage, Truth, ask, failed,
        stage::{clients_view, ended_well},
    },
    upstream::noise,
    world::Setup,
};

const REPOSITORY: &str = "chainguard/pulled";
const ASKED: usize = 500;
/// The comparison of facts and directory takes a minute or two for the largest: so often a minute is waited.
const MINUTES: usize = 20;
/// Between two looks at how much memory a command has taken.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A store in which one real image lies, pulled through the real server.
pub(super) struct Stand {
    stage: Stage,
    truth: Truth,
}

/// What was measured.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// From the start of the process to the end of the first answer, a blob of an image that was admitted; the best of several.
    pub(super) start: Duration,
    /// The same after SIGKILL.
    pub(super) start_killed: Duration,
    /// Of an answer while facts and directory are compared.
    pub(super) p50: Duration,
    /// What took how much memory at most, MiB.
    pub(super) peaks: Vec<(&'static str, u64)>,
}

impl Stand {
    pub(super) async fn new() -> Result<Self, String> {
        let stage = Stage::new(&Setup::default()).await;
        let image = image::single("linux/amd64", [noise(1000, 1)]);
        stage.world.push_signed(REPOSITORY, "latest", &image);
        let stand = Self { stage, truth: Truth::of(REPOSITORY, "latest", &image) };
        let process = stand.stage.serve(&stand.store()).await?;
        for page in &stand.truth.pages {
            whole(&process, page).await?;
        }
        ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
        Ok(stand)
    }

    pub(super) fn directory(&self) -> &Path {
        self.stage.world.directory.path()
    }

    pub(super) fn store(&self) -> PathBuf {
        self.stage.store("scale")
    }

    /// Measures the server and the commands.
    pub(super) async fn served(&self, images: u64, say: Say) -> Result<Served, String> {
        let store = self.store();
        let laid = Instant::now();
        lay(&store, images).map_err(|error| failed("blobs", error))?;
        say(&format!("{images:>7} images: blobs laid in {:?}", laid.elapsed()));
        let (process, first) = self.start().await?;
        let mut took = self.asked(&process).await?;
        let (p50, p99) = (percent(&mut took, 50), percent(&mut took, 99));
        compared(&process).await?;
        let compared = laid.elapsed();
        let mut peaks = vec![("the server", peak_mib(process.id()).unwrap_or_default())];
        let (start, start_killed) = self.starts(process, first).await?;
        say(&format!(
            "{images:>7} images: first answer {start:?} after the start, {start_killed:?} after a kill; beside the comparison p50 {p50:?} \
             p99 {p99:?}; all was compared {compared:?} after it was laid; {} MiB at most",
            peaks.iter().map(|(_, mib)| *mib).max().unwrap_or_default(),
        ));
        // A budget that nearly all has to leave for.
        let small = self.stage.world.write(&Setup { storage: "max_bytes = 1000".to_owned(), ..Setup::default() });
        for (what, arguments) in [
            ("ls", &["ls"][..]),
            ("ls as JSON", &["ls", "-o", "json"]),
            ("stats", &["stats"]),
            ("gc", &["gc", "--dry-run"]),
        ] {
            let (took, mib) = command(&small, &store, arguments).await.map_err(|why| failed(what, why))?;
            say(&format!("{images:>7} images: cache {what} took {took:?} and {mib} MiB at most"));
            peaks.push((what, mib));
        }
        self.stage.world.write(&Setup::default());
        Ok(Served { start, start_killed, p50, peaks })
    }

    /// A process whose first answer has come, and how long that took.
    async fn start(&self) -> Result<(Process, Duration), String> {
        let started = Instant::now();
        let process = self.stage.serve(&self.store()).await?;
        whole(&process, self.truth.largest()).await?;
        Ok((process, started.elapsed()))
    }

    /// The best start after a proper end, of which `first` is one, and the best after SIGKILL.
    async fn starts(&self, mut process: Process, first: Duration) -> Result<(Duration, Duration), String> {
        let (mut start, mut start_killed) = (first, Duration::MAX);
        for _ in 0..TURNS {
            process.kill().await.map_err(|silent| silent.to_string())?;
            let (killed, took) = self.start().await?;
            start_killed = start_killed.min(took);
            ended_well(&killed.terminate().await.map_err(|silent| silent.to_string())?)?;
            let (next, took) = self.start().await?;
            (process, start) = (next, start.min(took));
        }
        ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
        Ok((start, start_killed))
    }

    async fn asked(&self, process: &Process) -> Result<Vec<Duration>, String> {
        let mut took = Vec::new();
        for page in self.truth.pages.iter().cycle().take(ASKED) {
            let started = Instant::now();
            whole(process, page).await?;
            took.push(started.elapsed());
        }
        Ok(took)
    }
}

async fn whole(process: &Process, page: &Page) -> Result<(), String> {
    let (client, base) = clients_view(process);
    match ask(&client, &base, page, None).await? {
        Got::Whole => Ok(()),
        other => Err(format!("{other:?} for {}", page.path)),
    }
}

/// All blobs of which the facts speak, and the one of which they do not: once it is told of, all was compared.
fn lay(store: &Path, images: u64) -> std::io::Result<()> {
    let write = |name: &str| {
        let digest = super::digest(name);
        fs::write(store.join("blobs/sha256").join(digest.hex()), content(name))
    };
    for image in 0..images {
        write(&manifest(image))?;
        // The shared one is the same again.
        (0..BLOBS)
            .filter(|number| *number != 1 || image % 10 == 0)
            .try_for_each(|number| write(&name(image, number)))?;
    }
    Ok(())
}

async fn compared(process: &Process) -> Result<(), String> {
    let told = |entry: &serde_json::Value| {
        entry["message"].as_str().is_some_and(|text| text.starts_with("accounts corrected"))
    };
    for _ in 0..MINUTES {
        if process.logged("that accounts were corrected", told).await.is_ok() {
            return Ok(());
        }
    }
    Err("facts and directory were never compared".to_owned())
}

/// `pratique cache …` without a server: how long it takes, and how much memory.
async fn command(config: &Path, store: &Path, arguments: &[&str]) -> Result<(Duration, u64), String> {
    let binary = process::binary().await.map_err(|error| failed("no binary", error))?;
    let mut command = Command::new(binary);
    command.arg("cache").args(arguments).arg("--config").arg(config).arg("--storage").arg(store);
    process::alone(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let started = Instant::now();
    let mut child = command.spawn().map_err(|error| failed("start", error))?;
    let (id, mut peak, mut look) = (child.id(), 0, tokio::time::interval(LOOK_EVERY));
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| error.to_string())?;
                return if status.success() { Ok((started.elapsed(), peak)) } else { Err(status.to_string()) };
            }
            _ = look.tick() => peak = peak.max(peak_mib(id).unwrap_or_default()),
        }
    }
}

/// Peak resident memory of a process so far.
fn peak_mib(id: Option<u32>) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", id?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib >> 10)
}
