//! Real data that is not ours to commit: where it lies, on a machine that has it.

use std::path::{Path, PathBuf};

use crate::needs::note;

/// The folder of vectors: `$PRATIQUE_VECTORS`, else beside the checkout. Where it is not there that is told on standard error, past what
/// the test harness holds back, and the test has nothing to run on.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = std::env::var_os("PRATIQUE_VECTORS").map_or(beside, PathBuf::from);
    if folder.join("PROVENANCE.md").is_file() {
        return Some(folder);
    }
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    note(&format!("SKIPPED: {name}: no vectors in {} (PRATIQUE_VECTORS)", folder.display()));
    None
}
