//! The programs that a test needs.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use support::needs::skip;

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

/// Where a program lies. Daemons are in directories that a user's PATH often lacks.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let is_executable = |file: &PathBuf| {
        file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    directories.map(|directory| directory.join(name)).find(is_executable)
}
