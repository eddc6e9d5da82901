//! The real binary, started and stopped as an operator would: by command line, configuration file and signals.

mod child;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    process::Command,
    sync::{OnceCell, RwLock},
};

pub use child::{Child, Signal, Silent};

/// How long it may take to come up.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end: the drain, and some more.
const END: Duration = Duration::from_secs(45);

/// A pratique that serves, in a process of its own.
pub struct Process {
    child: Child,
    config: PathBuf,
    /// Where clients pull from.
    pub address: SocketAddr,
}

/// Why there is no pratique.
#[derive(Debug)]
pub enum NotServing {
    /// The binary could not be built or run.
    Binary(io::Error),
    /// It never said that it serves; what it said instead.
    Silent(Silent),
}

impl fmt::Display for NotServing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary(error) => write!(f, "no binary: {error}"),
            Self::Silent(silent) => silent.fmt(f),
        }
    }
}

impl std::error::Error for NotServing {}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// Everything it had logged.
    pub log: Vec<String>,
}

impl Process {
    /// `pratique serve --config <config>`, up to the line in which it says where it serves.
    ///
    /// # Errors
    /// When the binary cannot be built, or ends instead of serving.
    pub async fn serve(config: &Path) -> Result<Self, NotServing> {
        Self::serve_with(config, &[]).await
    }

    /// The same with further flags.
    ///
    /// # Errors
    /// When the binary cannot be built, or ends instead of serving.
    pub async fn serve_with(config: &Path, flags: &[&str]) -> Result<Self, NotServing> {
        Self::serve_under(&[], config, flags).await
    }

    /// The same with these variables, such as `HTTPS_PROXY`, in its environment.
    ///
    /// # Errors
    /// When the binary cannot be built, or ends instead of serving.
    pub async fn serve_among(variables: &[(&str, &str)], config: &Path) -> Result<Self, NotServing> {
        Self::start(Command::new(binary().await.map_err(NotServing::Binary)?), variables, config, &[]).await
    }

    /// The same, started by another program, which takes the command line as its last arguments and whose process becomes pratique's.
    ///
    /// # Errors
    /// When the binary cannot be built, or ends instead of serving.
    pub async fn serve_under(starter: &[&str], config: &Path, flags: &[&str]) -> Result<Self, NotServing> {
        let binary = binary().await.map_err(NotServing::Binary)?;
        let command = match starter.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        Self::start(command, &[], config, flags).await
    }

    async fn start(
        mut command: Command,
        variables: &[(&str, &str)],
        config: &Path,
        flags: &[&str],
    ) -> Result<Self, NotServing> {
        command.arg("serve").arg("--config").arg(config).args(flags);
        alone(&mut command);
        command.env("PRATIQUE_LOG__FORMAT", "json").envs(variables.iter().copied());
        let _stays_in_place = IN_PLACE.read().await;
        Self::spawn(command, config).await
    }

    /// Any command that runs pratique in the foreground with its log, in JSON, on one of its outputs.
    ///
    /// # Errors
    /// When it cannot be started, or ends instead of serving.
    pub async fn spawn(command: Command, config: &Path) -> Result<Self, NotServing> {
        let child = Child::start(command).map_err(NotServing::Binary)?;
        let address = child
            .line(0, "a line that says \"serving\" and where", START, |line| {
                let entry: Value = serde_json::from_str(line).ok()?;
                let serving = entry["message"] == "serving";
                serving.then(|| entry["address"].as_str()?.parse().ok())?
            })
            .await
            .map_err(NotServing::Silent)?;
        Ok(Self { child, config: config.to_owned(), address })
    }

    /// Where its admin listener is, with its scheme; it is told before it says that it serves. `None` where it has none.
    #[must_use]
    pub fn admin_url(&self) -> Option<String> {
        let log = self.log();
        let line = log.iter().find(|entry| entry["message"] == "admin listener")?;
        Some(format!("http://{}", line["address"].as_str()?))
    }

    /// `VmHWM`: the most memory that it ever had resident, bytes.
    ///
    /// # Errors
    /// When it has ended, or the system does not say.
    pub fn resident_peak(&self) -> Result<u64, String> {
        self.in_status("VmHWM:")
    }

    /// `VmRSS`: the memory that it has resident now, bytes.
    ///
    /// # Errors
    /// As [`Self::resident_peak`].
    pub fn resident(&self) -> Result<u64, String> {
        self.in_status("VmRSS:")
    }

    fn in_status(&self, key: &str) -> Result<u64, String> {
        let id = self.id().ok_or("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"));
        let status = status.map_err(|error| format!("its status: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| format!("its status has no {key} in kB"))
    }

    /// `127.0.0.1:<port>`, as it stands in an image reference.
    #[must_use]
    pub fn host_port(&self) -> String {
        self.address.to_string()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Everything logged so far, as JSON; lines that are none are strings.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let parse = |line: String| serde_json::from_str(&line).unwrap_or(Value::String(line));
        self.child.said().into_iter().map(parse).collect()
    }

    /// Waits until the log has a line that is `such`, old or new.
    ///
    /// # Errors
    /// When it has not within a minute.
    pub async fn logged(&self, wanted: &str, such: impl Fn(&Value) -> bool) -> Result<Value, Silent> {
        let entry = |line: &str| serde_json::from_str(line).ok().filter(|entry| such(entry));
        self.child.line(0, wanted, START, entry).await
    }

    /// SIGHUP, up to the line in which it tells what came of it.
    ///
    /// # Errors
    /// With its words, when what was in force stays; and when it says nothing.
    pub async fn reload(&self) -> Result<(), String> {
        let before = self.child.said().len();
        self.child.signal(Signal::HUP).map_err(|error| error.to_string())?;
        let message = self
            .child
            .line(before, "a line that says what came of the reload", START, |line| {
                let entry: Value = serde_json::from_str(line).ok()?;
                let message = entry["message"].as_str()?;
                message.starts_with("reload").then(|| message.to_owned())
            })
            .await
            .map_err(|silent| silent.to_string())?;
        if message.starts_with("reloaded") { Ok(()) } else { Err(message) }
    }

    /// SIGTERM, up to its end.
    ///
    /// # Errors
    /// When it does not end, drain included.
    pub async fn terminate(self) -> Result<Ended, Silent> {
        self.end(Signal::TERM).await
    }

    /// SIGKILL, up to its end.
    ///
    /// # Errors
    /// When the system does not let go of it.
    pub async fn kill(self) -> Result<Ended, Silent> {
        self.end(Signal::KILL).await
    }

    /// SIGTERM, and then the same again on the same address, so that clients need not be told.
    ///
    /// # Errors
    /// When it does not end, or does not serve again.
    pub async fn restart(self) -> Result<Self, NotServing> {
        let (config, address) = (self.config.clone(), self.address.to_string());
        self.terminate().await.map_err(NotServing::Silent)?;
        Self::serve_with(&config, &["--listen", &address]).await
    }

    async fn end(mut self, signal: Signal) -> Result<Ended, Silent> {
        let refused = |error: io::Error| Silent { wanted: error.to_string(), said: Vec::new() };
        self.child.signal(signal).map_err(refused)?;
        let status = self.child.ended(END).await?;
        Ok(Ended { status, log: self.child.said() })
    }
}

/// Written to while Cargo replaces the binary under test, read from while it is started.
static IN_PLACE: RwLock<()> = RwLock::const_new(());

/// The binary under test: `$PRATIQUE_BIN`, else the one that Cargo builds from this tree with the profile of this test; built once
/// in the life of a test binary.
///
/// # Errors
/// When it does not build.
pub async fn binary() -> io::Result<PathBuf> {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    let found = BINARY.get_or_try_init(|| async {
        if let Some(path) = std::env::var_os("PRATIQUE_BIN") {
            return Ok(PathBuf::from(path));
        }
        let _nobody_links_another = IN_PLACE.write().await;
        build("build", &[]).await
    });
    found.await.cloned()
}

/// Puts a static binary into `directory`, as a container image needs it: `$PRATIQUE_STATIC_BIN`, else this tree's, built with the
/// profile of this test.
///
/// The Dockerfile hands the flag to every crate; here only the binary is linked anew, which decides the same (the standard library
/// is the same either way) and takes seconds instead of another build of all there is.
///
/// # Errors
/// When it does not build: not every system has a static C library.
pub async fn static_binary(directory: &Path) -> io::Result<PathBuf> {
    let copy = directory.join("pratique");
    if let Some(path) = std::env::var_os("PRATIQUE_STATIC_BIN") {
        std::fs::copy(path, &copy)?;
        return Ok(copy);
    }
    let _nobody_starts_it = IN_PLACE.write().await;
    let built = build("rustc", &["--", "-C", "target-feature=+crt-static"]).await;
    let copied = built.and_then(|built| std::fs::copy(built, &copy));
    // Cargo puts both in the same place: the usual one goes back there.
    build("build", &[]).await?;
    copied.map(|_| copy)
}

/// Where the binary lies that `cargo <command>` makes.
async fn build(command: &str, arguments: &[&str]) -> io::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--quiet", "--package", "proxy", "--bin", "pratique"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.args(["--message-format", "json-render-diagnostics"]).args(arguments);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().await?;
    let words = String::from_utf8_lossy(&output.stdout);
    let artifacts = words.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables = artifacts.filter_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    executables
        .next_back()
        .filter(|_| output.status.success())
        .ok_or_else(|| io::Error::other(format!("cargo {command} failed: {}", String::from_utf8_lossy(&output.stderr))))
}

/// Takes every variable that would configure pratique out of the command's environment: a test says all there is to say, and an
/// unknown `PRATIQUE_*` name is an error. The forward proxy of whoever runs it is none of its concern either.
pub fn alone(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let capitals = name.to_string_lossy().to_ascii_uppercase();
        let is_proxy = matches!(capitals.as_str(), "HTTPS_PROXY" | "HTTP_PROXY" | "NO_PROXY");
        if name.to_string_lossy().starts_with("PRATIQUE_") || is_proxy {
            command.env_remove(name);
        }
    }
    command.env_remove("STATE_DIRECTORY");
}
