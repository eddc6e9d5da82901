//! What a test needs of the machine, and what happens where that is not there.

use std::{
    io::{Write as _, stderr},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

/// Whether a missing client is a failure: so in CI, where all of them are installed.
pub fn required() -> bool {
    std::env::var_os("PRATIQUE_E2E").is_some_and(|value| value == "required")
}

/// Whether all these programs are installed, and we are root where daemons need that; if not, says so, or fails.
pub fn are_met(programs: &[&str], root: bool) -> bool {
    let missing: Vec<_> = programs.iter().copied().filter(|name| program(name).is_none()).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {}", missing.join(", ")));
    } else if root && !rustix::process::geteuid().is_root() {
        skip(&format!("{} needs root", programs.join(", ")));
    } else {
        return true;
    }
    false
}

/// Tells that the current test, or part of it, does not run here; fails where everything is required.
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(!required(), "PRATIQUE_E2E=required, but {name} cannot run: {why}");
    note(&format!("SKIPPED: {name}: {why}"));
}

/// A line that everybody sees: the test harness shows what a passing test prints by macro to nobody.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Where a program lies. Daemons are in directories that a user's PATH often lacks.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let is_executable = |file: &PathBuf| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    directories.map(|directory| directory.join(name)).find(is_executable)
}
