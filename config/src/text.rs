//! Bounded reading of the files that a configuration names.

use std::{fs::File, io::Read, path::Path};

use crate::ConfigError;

/// The text of a file of at most `bytes_max` bytes: policies, trust roots, certificates, passwords.
///
/// # Errors
///
/// The file cannot be read, is larger, or is not UTF-8.
#[expect(clippy::disallowed_methods, reason = "reading what the operator wrote is this crate's purpose")]
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that "too large" is seen without reading it all.
    File::open(path)
        .and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > bytes_max) {
        return Err(ConfigError::TooLarge { path: path.into(), bytes_max });
    }
    String::from_utf8(bytes)
        .map_err(|error| ConfigError::NotText { path: path.into(), valid_up_to: error.utf8_error().valid_up_to() })
}

/// Whether every user of this machine may read the file. A file that cannot be asked is told by whoever reads it.
#[expect(clippy::disallowed_methods, reason = "secrets are watched over where their paths are parsed")]
pub(crate) fn is_world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write the files that they read")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        let error = read_text(&path, 4).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: want at most 4 bytes, got more", path.display()));
    }

    #[test]
    fn bytes_that_are_not_text_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        std::fs::write(&path, b"ab\xff").unwrap();
        let error = read_text(&path, 100).unwrap_err();
        assert!(error.to_string().ends_with("want UTF-8 text, got other bytes from byte 2 on"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_or_a_directory_is_an_error_with_its_cause() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("missing"), dir.path().to_path_buf()] {
            let error = read_text(&path, 100).unwrap_err();
            assert!(std::error::Error::source(&error).is_some(), "{error}");
        }
    }
}
