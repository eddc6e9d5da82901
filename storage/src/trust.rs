//! `trust/`: small files about trust roots. It has a lock of its own, which is held only while something is being changed, so that
//! a command can work here while a server holds the store.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use crate::{
    StoreError,
    directory::{
        create_root, lock, make_directory, open_file, refuse_exposed, rename, replace_file, sync_directory, unexpected,
    },
};

/// The directory `trust` of a store, which need not be there yet.
#[derive(Debug, Clone)]
pub struct TrustDirectory {
    store: PathBuf,
}

/// The right to change what lies in [`TrustDirectory`]; one process, and in it one holder, has it at a time.
#[derive(Debug)]
pub struct TrustLock {
    path: PathBuf,
    /// Closing it releases the lock, and so does the death of the process.
    _lock: File,
}

impl TrustDirectory {
    /// That of the store in `store`. Touches nothing.
    #[must_use]
    pub fn of(store: &Path) -> Self {
        Self { store: store.to_owned() }
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.store.join("trust")
    }

    /// The file of that name, or its first `bytes_max` bytes; `None` where there is none. Makes nothing. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or others could have written it.
    pub fn load(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let directory = self.path();
        match directory.symlink_metadata() {
            Err(_) => return Ok(None),
            Ok(metadata) if !metadata.is_dir() => return Err(unexpected(&directory, "directory")),
            Ok(_) => {}
        }
        refuse_exposed(&self.store)?;
        refuse_exposed(&directory)?;
        let path = directory.join(name);
        let Some((file, _)) = open_file(&path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes).map_err(StoreError::io("read", &path))?;
        Ok(Some(bytes))
    }

    /// Takes the lock, and makes the directory where it is missing. Blocks, but never waits for another holder.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while somebody else has it.
    pub fn lock(&self) -> Result<TrustLock, StoreError> {
        create_root(&self.store)?;
        refuse_exposed(&self.store)?;
        let path = self.path();
        make_directory(&path)?;
        sync_directory(&self.store)?;
        let lock = lock(&path)?;
        Ok(TrustLock { path, _lock: lock })
    }
}

impl TrustLock {
    /// Writes a file whole, durably, in place of the one of that name. Blocks.
    ///
    /// # Errors
    /// When the disk refuses; the former file is then still there.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        replace_file(&self.path.join(name), bytes)
    }

    /// Moves a file out of the way, for a person to look at, and says where it lies now. Blocks.
    ///
    /// # Errors
    /// When the disk refuses, or there is no such file.
    pub fn set_aside(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.path.join(name);
        let free = (1..u64::MAX)
            .map(|number| path.with_extension(format!("damaged-{number}")))
            .find(|name| name.symlink_metadata().is_err())
            .expect("there are more numbers than files");
        rename(&path, &free)?;
        Ok(free)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at what lies on the disk, and damage it")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn made() -> (tempfile::TempDir, TrustDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let trust = TrustDirectory::of(&directory.path().join("store"));
        (directory, trust)
    }

    #[test]
    fn looking_makes_nothing_and_what_is_kept_is_found_again() {
        let (directory, trust) = made();
        assert_eq!(trust.load("a.kept", 10).unwrap(), None);
        assert!(!directory.path().join("store").exists());
        trust.lock().unwrap().keep("a.kept", b"first").unwrap();
        trust.lock().unwrap().keep("a.kept", b"second").unwrap();
        assert_eq!(trust.load("a.kept", 100).unwrap().unwrap(), b"second");
        assert_eq!(trust.load("a.kept", 3).unwrap().unwrap(), b"sec");
        let names: Vec<_> = std::fs::read_dir(trust.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "the file and the lock: {names:?}");
    }

    #[test]
    fn one_changes_it_at_a_time_also_while_the_store_is_open() {
        let (_directory, trust) = made();
        let store = crate::Store::open(&trust.store, 1).unwrap();
        let held = trust.lock().unwrap();
        assert!(matches!(trust.lock(), Err(StoreError::Locked { .. })));
        drop(held);
        trust.lock().unwrap();
        drop(store);
        crate::Store::open(&trust.store, 1).unwrap();
    }

    #[test]
    fn a_store_can_be_made_where_trust_was_first() {
        let (_directory, trust) = made();
        trust.lock().unwrap().keep("a.kept", b"a").unwrap();
        crate::Store::open(&trust.store, 1).unwrap();
        assert_eq!(trust.load("a.kept", 10).unwrap().unwrap(), b"a");
    }

    #[test]
    fn what_is_set_aside_is_gone_and_still_there_for_a_person() {
        let (_directory, trust) = made();
        for number in 1..=2 {
            let held = trust.lock().unwrap();
            held.keep("a.kept", b"rotten").unwrap();
            let moved = held.set_aside("a.kept").unwrap();
            assert!(moved.ends_with(format!("trust/a.damaged-{number}")), "{}", moved.display());
            assert_eq!(std::fs::read(moved).unwrap(), b"rotten");
            assert_eq!(trust.load("a.kept", 10).unwrap(), None);
        }
    }

    #[test]
    fn what_others_may_have_written_or_a_planted_link_is_an_error() {
        let (directory, trust) = made();
        trust.lock().unwrap().keep("a.kept", b"a").unwrap();
        let elsewhere = directory.path().join("elsewhere");
        std::fs::write(&elsewhere, "b").unwrap();
        std::os::unix::fs::symlink(&elsewhere, trust.path().join("b.kept")).unwrap();
        assert!(matches!(trust.load("b.kept", 10), Err(StoreError::Unexpected { .. })));
        for exposed in [trust.path(), trust.store.clone()] {
            std::fs::set_permissions(&exposed, std::fs::Permissions::from_mode(0o777)).unwrap();
            assert!(matches!(trust.load("a.kept", 10), Err(StoreError::Exposed { .. })));
            assert!(matches!(trust.lock(), Err(StoreError::Exposed { .. })));
            std::fs::set_permissions(&exposed, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        trust.load("a.kept", 10).unwrap();
    }
}
