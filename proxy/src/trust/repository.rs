//! Where TUF gets its files from, and where it leaves what it has verified.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use config::{ConfigError, read_text};
use sigstore_tuf::{Error, MetadataStore, Repository, transport::FetchFuture};

use super::error::FetchError;
use crate::upstream::Mirror;

/// A TUF repository.
pub(super) enum Source {
    /// Over http.
    Mirror(Box<Mirror>),
    /// In a directory that was carried over, laid out as a mirror.
    Directory(PathBuf),
}

/// The last file that was asked for and did not come, and why.
pub(super) type LastFailure = Arc<Mutex<Option<(String, FetchError)>>>;

/// [`Source`] as the TUF client wants it.
pub(super) struct Files {
    pub(super) source: Source,
    /// The client's errors say only that something did not come; here is what, in our words.
    pub(super) failure: LastFailure,
}

impl Files {
    async fn fetch(&self, path: String, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let outcome = self.source.fetch(&path, bytes_max).await;
        let failed = |error| Some((path.clone(), error));
        let (answer, failure) = match outcome {
            Ok(Some(bytes)) => (Ok(Some(bytes)), None),
            Ok(None) => (Ok(None), failed(FetchError::Missing)),
            Err(error) => (Err(Error::transport("no answer")), failed(error)),
        };
        *locked(&self.failure) = failure;
        answer
    }
}

impl Source {
    async fn fetch(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, FetchError> {
        if !is_plain(path) {
            return Err(FetchError::Name(path.chars().take(200).collect()));
        }
        match self {
            Self::Mirror(mirror) => Ok(mirror.get(path, bytes_max).await?.map(Vec::from)),
            Self::Directory(directory) => Ok(read_file(&directory.join(path), bytes_max)?),
        }
    }
}

fn read_file(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, ConfigError> {
    match read_text(path, bytes_max) {
        Ok(text) => Ok(Some(text.into_bytes())),
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether every part is the name of a file and nothing else: parts of it come from metadata. In an address escaped dots count as dots.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| {
        !matches!(&*part.to_ascii_lowercase().replace("%2e", "."), "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte))
    })
}

impl Repository for Files {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.fetch(name.to_owned(), max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.fetch(format!("targets/{path}"), max_length))
    }
}

/// Verified metadata, kept in memory until the refresh has ended; then the whole is written at once.
#[derive(Clone)]
pub(super) struct Metadata(Arc<Mutex<BTreeMap<String, String>>>);

impl Metadata {
    pub(super) fn of(kept: BTreeMap<String, String>) -> Self {
        Self(Arc::new(Mutex::new(kept)))
    }

    /// What is there now.
    pub(super) fn now(&self) -> BTreeMap<String, String> {
        locked(&self.0).clone()
    }
}

impl MetadataStore for Metadata {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(locked(&self.0).get(name).map(|text| text.clone().into_bytes()))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        // Only what the client reads again. Copies under a versioned name, and targets, would pile up.
        let is_read_again =
            name.starts_with("root_history/") || matches!(name, "timestamp.json" | "snapshot.json" | "targets.json");
        if is_read_again && let Ok(text) = str::from_utf8(bytes) {
            locked(&self.0).insert(name.to_owned(), text.to_owned());
        }
        Ok(())
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_metadata_lead_nowhere_else() {
        for good in ["1.root.json", "timestamp.json", "targets/00ff.trusted_root.json", "a%2Fb.json", "..a.json"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", "..", "../a", "targets/../../a", "/etc/passwd", "a//b", "a b", "a?b", "a#b", "a\\b", "a\0", "ä"]
        {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }

    #[test]
    fn names_that_an_address_would_resolve_lead_nowhere_else() {
        // Who puts an address together takes escaped dots for dots.
        for bad in ["%2e%2e", "%2E%2e/a", ".%2e/a", "targets/%2e./a", "%2e", "a/%2E"] {
            assert!(!is_plain(bad), "{bad}");
        }
        for good in ["%252e%252e", "%2e%2ea", "1.%2e%2e.json", "...", "%2e%2e%2fa"] {
            assert!(is_plain(good), "{good}");
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a repository that was carried over is files of the operator's")]
    async fn a_name_that_is_too_long_for_a_file_is_an_error_and_one_that_leads_elsewhere_is_not_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("repository");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(directory.path().join("a"), "secret").unwrap();
        std::fs::write(below.join("a"), "open").unwrap();
        let source = Source::Directory(below);
        assert_eq!(source.fetch("a", 100).await.unwrap().unwrap(), b"open");
        assert!(matches!(source.fetch(&"x".repeat(300), 100).await, Err(FetchError::Directory(_))));
        for bad in ["../a", "%2e%2e/a", "/a", "b/../../a", "a\0"] {
            assert!(matches!(source.fetch(bad, 100).await, Err(FetchError::Name(_))), "{bad:?}");
        }
    }

    #[test]
    fn only_what_is_read_again_is_kept() {
        let metadata = Metadata::of(BTreeMap::new());
        for name in
            ["root.json", "root_history/2.root.json", "7.snapshot.json", "snapshot.json", "targets/a", "role.json"]
        {
            metadata.store(name, b"{}").unwrap();
        }
        assert_eq!(metadata.now().into_keys().collect::<Vec<_>>(), ["root_history/2.root.json", "snapshot.json"]);
        assert_eq!(metadata.load("snapshot.json").unwrap().unwrap(), b"{}");
        assert_eq!(metadata.load("timestamp.json").unwrap(), None);
    }
}
