//! What a test needs of the machine, and what happens where that is not there.

use std::{
    io::{Write as _, stderr},
    process::Command,
};

/// Whether what is missing here is a failure: so in CI, where everything is installed.
#[must_use]
pub fn required() -> bool {
    std::env::var_os("PRATIQUE_E2E").is_some_and(|value| value == "required")
}

/// Tells that the current test, or part of it, does not run here.
///
/// # Panics
/// Where everything is required.
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(!required(), "PRATIQUE_E2E=required, but {name} cannot run: {why}");
    note(&format!("SKIPPED: {name}: {why}"));
}

/// A line that everybody sees: the test harness shows what a passing test prints by macro to nobody.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Whether this command does here what it is to do, and not only whether it is installed; if not, [skips](skip).
pub fn does(command: &mut Command) -> bool {
    let failed = match command.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => error.to_string(),
    };
    skip(&format!("{command:?}: {failed}"));
    false
}
