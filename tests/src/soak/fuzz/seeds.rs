//! Seeds that are committed beside their target.

use std::path::Path;

/// The files of a folder in the order of their names.
///
/// # Panics
/// Where there are none: a target without seeds attacks nothing.
pub(crate) fn committed(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder that can be read").path()).collect();
    assert!(!paths.is_empty(), "no seeds in {}", folder.display());
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed that can be read")).collect()
}
