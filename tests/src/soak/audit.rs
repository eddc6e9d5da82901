//! A look into a store from outside: the names of its files, and whether they are true.

use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use oci::{Algorithm, Digest, Hasher};

use super::failed;

const PIECE: usize = 256 * 1024;

/// Every blob is what its name says, and nothing is left of what was being written. Returns the digests of what is there.
///
/// # Errors
/// At the first file that is not so.
pub fn audit(store: &Path, leftovers: Leftovers) -> Result<Vec<Digest>, String> {
    let mut left = names(&store.join("ingest"))?;
    match leftovers {
        Leftovers::Ignored => left.clear(),
        Leftovers::Interrupted => left.retain(|path| path.extension().is_none_or(|extension| extension != "part")),
        Leftovers::Refused => {}
    }
    if !left.is_empty() {
        return Err(format!("left in ingest/: {left:?}"));
    }
    let set_aside = names(&store.join("quarantine"))?;
    if !set_aside.is_empty() {
        return Err(format!("something was stored and found wrong later: quarantine/ holds {set_aside:?}"));
    }
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        let directory = store.join("blobs").join(algorithm.as_str());
        for path in names(&directory)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let digest = match hash(&path, algorithm) {
                Ok(digest) => digest,
                // A server beside us has made room.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&name, error)),
            };
            if digest.hex() != name {
                return Err(format!("blobs/{algorithm}/{name} holds {digest}"));
            }
            found.push(digest);
        }
    }
    Ok(found)
}

/// Whether files may lie in `ingest/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// After a kill, before the next start: nobody looks at them.
    Ignored,
    /// While nothing is being written: what was interrupted and is kept to be taken up again, and nothing else.
    Interrupted,
    /// While nothing is being written, and nothing was interrupted.
    Refused,
}

/// How many bytes of `digest` are being written, where it is being written at all.
pub(super) fn ingested(store: &Path, digest: &Digest) -> Option<u64> {
    let beginning = format!("{}-{}.", digest.algorithm(), digest.hex());
    let files = names(&store.join("ingest")).ok()?;
    let file = files
        .iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&beginning)))?;
    fs::metadata(file).ok().map(|metadata| metadata.len())
}

/// Whether it is stored.
pub(super) fn is_stored(store: &Path, digest: &Digest) -> bool {
    store.join("blobs").join(digest.algorithm().as_str()).join(digest.hex()).exists()
}

fn names(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // Killed before it was made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&directory.display().to_string(), error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| error.to_string()));
    paths.collect()
}

fn hash(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    let (mut file, mut hasher) = (fs::File::open(path)?, Hasher::new(algorithm));
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with this file in it.
    fn store(name: &str, content: &[u8]) -> tempfile::TempDir {
        let store = tempfile::tempdir().unwrap();
        for directory in ["blobs/sha256", "blobs/sha512", "ingest", "quarantine"] {
            fs::create_dir_all(store.path().join(directory)).unwrap();
        }
        fs::write(store.path().join(name), content).unwrap();
        store
    }

    #[test]
    fn a_file_that_is_what_its_name_says_is_found() {
        let digest = Digest::sha256(b"content");
        let store = store(&format!("blobs/sha256/{}", digest.hex()), b"content");
        assert!(is_stored(store.path(), &digest));
        assert_eq!(audit(store.path(), Leftovers::Refused), Ok(vec![digest]));
    }

    #[test]
    fn half_a_file_another_file_and_a_leftover_are_told() {
        let digest = Digest::sha256(b"content");
        let name = format!("blobs/sha256/{}", digest.hex());
        for (name, content) in [
            (name.as_str(), &b"cont"[..]),
            (&name, b""),
            (&name, b"another"),
            ("blobs/sha512/x", b"content"),
            ("blobs/sha256/x.new", b"content"),
            ("ingest/x", b""),
            ("quarantine/x", b"content"),
        ] {
            let store = store(name, content);
            assert!(audit(store.path(), Leftovers::Refused).is_err(), "{name}");
        }
        let interrupted = store(&format!("ingest/sha256-{}.9.part", digest.hex()), b"cont");
        assert!(audit(interrupted.path(), Leftovers::Refused).is_err());
        assert_eq!(audit(interrupted.path(), Leftovers::Interrupted), Ok(vec![]));
        assert_eq!(ingested(interrupted.path(), &digest), Some(4));
        let being_written = store(&format!("ingest/sha256-{}.0", digest.hex()), b"cont");
        assert_eq!(audit(being_written.path(), Leftovers::Ignored), Ok(vec![]));
        assert!(audit(being_written.path(), Leftovers::Interrupted).is_err());
        assert_eq!(ingested(being_written.path(), &digest), Some(4));
        assert_eq!(ingested(being_written.path(), &Digest::sha256(b"other")), None);
    }
}
