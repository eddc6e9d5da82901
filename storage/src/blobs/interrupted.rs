//! Content that was interrupted on its way and kept: `ingest/<algorithm>-<hex>.<size>.<origin>.part`, as far as it came.
//!
//! What nobody has found right yet is nobody else's: the origin is the upstream that sent it, and another one's download of the same
//! blob has a file of its own.
//!
//! A name is one ingest's at a time, until the last who reads or writes the file has let go of it: a late write of the former ingest
//! never meets the next one.

use std::{
    collections::HashSet,
    fs::{File, FileTimes, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci::{Digest, UnixTime, UpstreamName};
use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};

use super::Interrupted;
use crate::{
    StoreError,
    directory::{self, Directory},
    ledger::AHEAD_BYTES,
};

const SUFFIX: &str = ".part";
/// How much of the hash of an upstream's name stands for it, hexadecimal digits.
const ORIGIN_DIGITS: usize = 16;

/// The names that somebody is at.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<Mutex<HashSet<String>>>);

/// One of them; given back when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    names: Names,
    name: String,
}

/// What a name under `ingest/` says: which blob, of which size. `None` for what was not meant to be kept.
pub(crate) fn parse(name: &str) -> Option<(Digest, u64)> {
    let (rest, origin) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let (digest, size) = rest.rsplit_once('.')?;
    let digest: Digest = digest.replacen('-', ":", 1).parse().ok()?;
    let size: u64 = size.parse().ok()?;
    let is_origin = origin.len() == ORIGIN_DIGITS && origin.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    (is_origin && name == named(&digest, size, origin)).then_some((digest, size))
}

fn name_of(digest: &Digest, size: u64, upstream: &UpstreamName) -> String {
    // A name of an upstream may be longer than a file's, and have characters that a file's has not.
    let hash = Digest::sha256(upstream.as_str().as_bytes());
    named(digest, size, hash.hex().get(..ORIGIN_DIGITS).unwrap_or_default())
}

fn named(digest: &Digest, size: u64, origin: &str) -> String {
    format!("{}-{}.{size}.{origin}{SUFFIX}", digest.algorithm(), digest.hex())
}

/// The file of an interrupted ingest, made where there is none, and how much of it there is. Takes room for what comes first.
pub(super) fn open(path: &Path, size: u64, min_free_bytes: u64) -> Result<(File, u64), StoreError> {
    match directory::writable_if_present(path) {
        Ok(Some((file, there))) if 0 < there && there <= size => {
            begin(&file, there, size, min_free_bytes).map_err(|error| {
                cut(&file);
                StoreError::io("reserve", path)(error)
            })?;
            Ok((file, there))
        }
        // Empty, longer than the blob, or no file at all: of no use to anybody.
        Ok(_) | Err(StoreError::Unexpected { .. }) => {
            directory::remove_if_present(path)?;
            Ok((create(path, size, min_free_bytes)?, 0))
        }
        // It may be opened another time: what has come so far stays.
        Err(error) => Err(error),
    }
}

/// A new file for `size` bytes, with room for the first of them. None stays where there is no room for all of them.
pub(super) fn create(path: &Path, size: u64, min_free_bytes: u64) -> Result<File, StoreError> {
    let file = directory::create_file(path)?;
    if let Err(error) = begin(&file, 0, size, min_free_bytes) {
        directory::remove_if_present(path)?;
        return Err(StoreError::io("reserve", path)(error));
    }
    Ok(file)
}

/// Gives back the room that was taken for what has not come. Best effort: what cannot be cut is counted as large as it is.
pub(super) fn cut(file: &File) {
    let cut = || {
        let metadata = file.metadata()?;
        file.set_len(metadata.len())?;
        // It is no younger for that.
        file.set_times(FileTimes::new().set_modified(metadata.modified()?))
    };
    if let Err(error) = cut() {
        tracing::warn!("an interrupted download keeps the room for its rest: {error}");
    }
}

/// So that a full disk is known before the first byte was read by anybody. Room that is there is not taken on the strength of a size that
/// upstream has yet to send.
fn begin(file: &File, there: u64, size: u64, min_free_bytes: u64) -> std::io::Result<()> {
    if there == size {
        return Ok(());
    }
    leaves(file, size - there, min_free_bytes)?;
    allocate(file, there, reserved_at(there, size))
}

/// Whether the disk has room for `bytes` and `min_free_bytes` besides.
fn leaves(file: &File, bytes: u64, min_free_bytes: u64) -> std::io::Result<()> {
    // File systems that do not tell are believed to have room.
    let told = fstatvfs(file).ok().filter(|disk| disk.f_blocks > 0);
    let free = told.map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if free < bytes.saturating_add(min_free_bytes) {
        return Err(Errno::NOSPC.into());
    }
    Ok(())
}

/// Up to where a file of `size` bytes has room taken for it when so many have come.
pub(super) fn reserved_at(there: u64, size: u64) -> u64 {
    there.saturating_add(AHEAD_BYTES).min(size)
}

/// Takes room for the bytes between, where `min_free_bytes` are left then: several downloads that began while there was room for each of
/// them do not fill the disk together. File systems that cannot take room are believed to have it.
pub(super) fn reserve(file: &File, from: u64, to: u64, min_free_bytes: u64) -> std::io::Result<()> {
    if from >= to {
        return Ok(());
    }
    leaves(file, to - from, min_free_bytes)?;
    allocate(file, from, to)
}

fn allocate(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, from, to - from) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
        _ => Ok(()),
    }
}

impl Names {
    /// Takes the name of such content from such an upstream, unless somebody is at it.
    pub(super) fn take(&self, digest: &Digest, size: u64, upstream: &UpstreamName) -> Option<Taken> {
        self.take_named(name_of(digest, size, upstream))
    }

    /// The same for content that lies there.
    pub(super) fn take_kept(&self, kept: &Interrupted) -> Option<Taken> {
        self.take_named(kept.name.clone())
    }

    fn take_named(&self, name: String) -> Option<Taken> {
        self.lock().insert(name.clone()).then(|| Taken { names: self.clone(), name })
    }

    /// All that lies there and nobody is at.
    pub(super) fn list(&self, directory: &Directory) -> Result<Vec<Interrupted>, StoreError> {
        let mut found = Vec::new();
        for name in directory::list(&directory.ingests())? {
            let Ok(name) = name?.into_string() else { continue };
            let Some((digest, _)) = parse(&name) else { continue };
            // Nobody else is at it meanwhile: what is being written must not be cut.
            let Some(taken) = self.take_named(name.clone()) else { continue };
            let path = taken.path(directory);
            if let Some((file, _)) = directory::writable_if_present(&path)? {
                cut(&file);
                let metadata = file.metadata().map_err(StoreError::io("look at", &path))?;
                let since = written_at(&metadata);
                found.push(Interrupted { digest, name, bytes: metadata.blocks().saturating_mul(512), since });
            }
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a file was last written to. One from before 1970 is the first to go.
fn written_at(metadata: &Metadata) -> UnixTime {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    UnixTime::from_millis(unsigned(metadata.mtime()).saturating_mul(1000) + unsigned(metadata.mtime_nsec()) / 1_000_000)
}

impl Taken {
    /// Where it lies.
    pub(super) fn path(&self, directory: &Directory) -> PathBuf {
        directory.ingests().join(&self.name)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_is_the_beginning_of() {
        let long = "a".repeat(200);
        for upstream in ["cgr.dev", "localhost:5000", &long] {
            for digest in [Digest::sha256(b"x"), format!("sha512:{}", "ab".repeat(64)).parse().unwrap()] {
                let name = name_of(&digest, 17, &upstream.parse().unwrap());
                assert_eq!(parse(&name), Some((digest, 17)));
                assert!(name.len() < 255, "{name}");
            }
        }
        let (hex, origin) = ("ab".repeat(32), "0123456789abcdef");
        assert!(parse(&format!("sha256-{hex}.1.{origin}.part")).is_some());
        for name in [
            format!("sha256-{hex}.0"),
            // As they were named when any upstream's download went on from them.
            format!("sha256-{hex}.1.part"),
            format!("sha256-{hex}.part"),
            format!("sha256-{hex}.{origin}.part"),
            format!("sha256-{hex}..{origin}.part"),
            format!("sha256-{hex}.+1.{origin}.part"),
            format!("sha256-{hex}.01.{origin}.part"),
            format!("sha256-{hex}.1..part"),
            format!("sha256-{hex}.1.{}.part", &origin[1..]),
            format!("sha256-{hex}.1.{}.part", origin.to_uppercase()),
            format!("sha256:{hex}.1.{origin}.part"),
            format!("sha256-{}.1.{origin}.part", &hex[1..]),
            format!("md5-{hex}.1.{origin}.part"),
            format!("sha256-{hex}.99999999999999999999.{origin}.part"),
        ] {
            assert_eq!(parse(&name), None, "{name}");
        }
    }
}
