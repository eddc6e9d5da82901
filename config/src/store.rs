//! Where content and facts are kept.

use std::path::PathBuf;

use figment::value::magic::RelativePathBuf;
use serde::Deserialize;

use crate::{ConfigError, environment::Environment, notes::Notes, sources::Sources, units};

/// `[storage]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The directory, created with mode 0700 where it is missing. Default: `$STATE_DIRECTORY`, else `/var/lib/pratique` for root,
    /// else `$XDG_DATA_HOME/pratique`, else `$HOME/.local/share/pratique`.
    pub path: PathBuf,
    /// When layers read from disk are hashed again. Default scrub.
    pub verify_reads: VerifyReads,
    /// What is on disk when an answer is given. Default always.
    pub fsync: Fsync,
    /// What keeps facts. Default redb.
    pub facts: FactsIn,
    /// How many bytes per second the background re-hash reads. Default 20 MiB.
    pub scrub_bytes_per_second: u64,
    /// Most bytes of layers that are kept. Default: as many as there is room for.
    pub max_bytes: Option<u64>,
    /// Most bytes of manifests, configs and evidence that are kept. Default: as many as there is room for.
    pub metadata_max_bytes: Option<u64>,
    /// What layers leave free of the disk, bytes, so that manifests, verdicts and facts find room. Default 256 MiB.
    pub min_free_bytes: u64,
    /// Above so many hundredths of either the least recently used leave. Default 95.
    pub high_water: u8,
    /// They leave until no more than so many hundredths are left. Default 85.
    pub low_water: u8,
}

/// `storage.verify_reads`. Manifests, configs and evidence are hashed at every read in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyReads {
    /// Size and identity when a layer is opened, its hash in the background.
    Scrub,
    /// Every layer at every read.
    Always,
}

/// `storage.fsync`. Whatever it is, no half blob is served, and a lost verdict is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Everything that was acknowledged.
    Always,
    /// The content of blobs; names and facts follow within seconds.
    Content,
    /// Nothing for sure; only together with `verify_reads = "always"`.
    Never,
}

/// `storage.facts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactsIn {
    /// One file of redb.
    Redb,
    /// A directory of sled, in builds with the feature `sled`.
    Sled,
}

/// `[storage]` as written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WrittenStorage {
    path: Option<RelativePathBuf>,
    verify_reads: VerifyReads,
    fsync: Fsync,
    facts: FactsIn,
    #[serde(deserialize_with = "units::bytes")]
    scrub_bytes_per_second: u64,
    #[serde(deserialize_with = "units::optional_bytes")]
    max_bytes: Option<u64>,
    #[serde(deserialize_with = "units::optional_bytes")]
    metadata_max_bytes: Option<u64>,
    #[serde(deserialize_with = "units::bytes")]
    min_free_bytes: u64,
    #[serde(deserialize_with = "units::count")]
    high_water: u8,
    #[serde(deserialize_with = "units::count")]
    low_water: u8,
}

impl Default for WrittenStorage {
    fn default() -> Self {
        Self {
            path: None,
            verify_reads: VerifyReads::Scrub,
            scrub_bytes_per_second: 20 << 20,
            max_bytes: None,
            metadata_max_bytes: None,
            min_free_bytes: 256 << 20,
            high_water: 95,
            low_water: 85,
            fsync: Fsync::Always,
            facts: FactsIn::Redb,
        }
    }
}

impl WrittenStorage {
    pub(crate) fn check(
        self,
        sources: &Sources,
        environment: &Environment,
        notes: &mut Notes,
    ) -> Result<Storage, ConfigError> {
        told(self.fsync, self.verify_reads, sources, notes)?;
        let path = if let Some(path) = self.path {
            if path.original().as_os_str().is_empty() {
                return Err(sources.unexpected("storage.path", "a directory", ""));
            }
            path.relative()
        } else {
            let path = default_path(environment).ok_or_else(|| {
                sources.missing(
                    "storage.path",
                    "a directory, as none of $STATE_DIRECTORY, $XDG_DATA_HOME and $HOME is set",
                )
            })?;
            notes.told(format!("storage.path is not set: storing in {}", path.display()));
            path
        };
        if self.high_water > 100 {
            let got = &self.high_water.to_string();
            return Err(sources.unexpected("storage.high_water", "at most 100, hundredths of the budget", got));
        }
        if self.low_water > self.high_water {
            let want = format!("at most storage.high_water ({})", self.high_water);
            return Err(sources.unexpected("storage.low_water", want, &self.low_water.to_string()));
        }
        Ok(Storage {
            path,
            verify_reads: self.verify_reads,
            scrub_bytes_per_second: self.scrub_bytes_per_second,
            max_bytes: self.max_bytes,
            metadata_max_bytes: self.metadata_max_bytes,
            min_free_bytes: self.min_free_bytes,
            high_water: self.high_water,
            low_water: self.low_water,
            fsync: self.fsync,
            facts: self.facts,
        })
    }
}

/// Half a blob may have a name where nothing is synced: then only a hash at every read finds it.
fn told(fsync: Fsync, reads: VerifyReads, sources: &Sources, notes: &mut Notes) -> Result<(), ConfigError> {
    match (fsync, reads) {
        (Fsync::Always, _) => {}
        (Fsync::Content, _) => notes.weakened(
            "storage.fsync = \"content\": a power cut loses what was stored in the seconds before it, tag history for good",
        ),
        (Fsync::Never, VerifyReads::Always) => notes.weakened(
            "storage.fsync = \"never\": a power cut can leave half blobs, found when they are read, and can lose all facts",
        ),
        (Fsync::Never, VerifyReads::Scrub) => {
            return Err(sources.conflict(
                "storage.fsync",
                "\"never\" can leave half a blob under its name, and verify_reads = \"scrub\" would serve it",
                "set storage.verify_reads = \"always\", or fsync = \"content\"",
            ));
        }
    }
    Ok(())
}

fn default_path(environment: &Environment) -> Option<PathBuf> {
    if let Some(state) = &environment.state_directory {
        return Some(state.clone());
    }
    if environment.is_root {
        return Some("/var/lib/pratique".into());
    }
    let data_home = || environment.data_home.clone();
    let home = || environment.home.as_ref().map(|home| home.join(".local/share"));
    data_home().or_else(home).map(|data| data.join("pratique"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_path_follows_the_service_manager_then_root_then_the_user() {
        let mut environment = Environment {
            state_directory: Some("/run/state".into()),
            data_home: Some("/home/u/data".into()),
            home: Some("/home/u".into()),
            is_root: true,
            ..Environment::default()
        };
        assert_eq!(default_path(&environment), Some("/run/state".into()));
        environment.state_directory = None;
        assert_eq!(default_path(&environment), Some("/var/lib/pratique".into()));
        environment.is_root = false;
        assert_eq!(default_path(&environment), Some("/home/u/data/pratique".into()));
        environment.data_home = None;
        assert_eq!(default_path(&environment), Some("/home/u/.local/share/pratique".into()));
        environment.home = None;
        assert_eq!(default_path(&environment), None);
    }
}
