//! Running a client, and what it said.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::needs;

/// No client takes this long; one that does hangs, and is killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a client ended.
pub struct Said {
    /// Its command line, for messages.
    pub line: String,
    /// Whether it exited with 0.
    pub is_ok: bool,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard output and then its standard error, as text.
    pub text: String,
}

/// A command for an installed program, without what the environment would add to what the test says.
pub fn command(program: &str) -> Command {
    let path = needs::program(program).unwrap_or_else(|| panic!("{program} is installed: the test asked for it"));
    let mut command = Command::new(path);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINERD_NAMESPACE", "SSL_CERT_FILE"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
pub async fn run(mut command: Command) -> Said {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let std = command.as_std();
    let words = std::iter::once(std.get_program()).chain(std.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = timeout(PATIENCE, command.output()).await.unwrap_or_else(|_| panic!("{line} hangs"));
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    Said { line, is_ok: output.status.success(), output: output.stdout, text }
}

impl Said {
    /// Fails the test unless it ended well.
    #[track_caller]
    pub fn well(self) -> Self {
        assert!(self.is_ok, "{} failed:\n{}", self.line, self.text);
        self
    }

    /// Fails the test unless it failed, and printed this.
    #[track_caller]
    pub fn refused_with(&self, reason: &str) {
        assert!(!self.is_ok, "{} succeeded:\n{}", self.line, self.text);
        // Some clients print the message as a quoted string.
        let plain = self.text.replace("\\\"", "\"");
        assert!(plain.contains(reason), "{} does not show {reason:?}:\n{}", self.line, self.text);
        // For a reader of the log (`--nocapture`), and for the README.
        println!("$ {}\n{}", self.line, self.text);
    }

    /// Standard output, without blanks around it.
    pub fn trimmed(&self) -> String {
        String::from_utf8_lossy(&self.output).trim().to_owned()
    }
}

/// The file's bytes.
#[track_caller]
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
