//! The store's directory: who may write to it, who owns it now, what format it has. And files, opened so that a planted link is
//! an error and a new file is for its owner only.

#![expect(clippy::disallowed_methods, reason = "the one file through which files are made, opened, moved and removed")]

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use oci::{Algorithm, Digest};
use rustix::fs::OFlags;

use crate::{StoreError, blobs::interrupted};

/// What the file `format` says. Any change to the tree changes it; the facts have a format of their own.
const FORMAT: &str = "pratique store 1";
/// The socket's name.
const SOCKET: &str = "control.sock";

/// Where the server that owns the store in `path` answers, where one does; the store need not be opened for it.
///
/// # Errors
/// Where others can write into the directory: they could answer in the server's place.
pub(crate) fn socket_of(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Ok(path) = fs::canonicalize(path) else { return Ok(None) };
    refuse_exposed(&path)?;
    let socket = path.join(SOCKET);
    Ok(socket.symlink_metadata().is_ok_and(|it| it.file_type().is_socket()).then_some(socket))
}

/// The directory, held by this process until dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Closing it releases the lock, and so does the death of the process.
    _lock: File,
    ingests: AtomicU64,
}

impl Directory {
    /// Makes or opens the directory, takes the lock and removes what a killed process was writing and nobody takes up.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        create_root(path)?;
        // The operator may well put a link where the store is; inside of it nothing is followed.
        let path = fs::canonicalize(path).map_err(StoreError::io("find directory", path))?;
        refuse_exposed(&path)?;
        let lock = lock(&path)?;
        let this = Self { path, _lock: lock, ingests: AtomicU64::new(0) };
        this.check_format()?;
        this.refuse_without_blobs()?;
        this.make_directories()?;
        this.remove_leftovers()?;
        Ok(this)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the server that owns the store answers commands.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// A place where only the owner of the store can reach a socket that is not yet closed to others. Nothing lies there.
    pub(crate) fn socket_in_the_making(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.join("ingest").join(SOCKET);
        remove_if_present(&path)?;
        Ok(path)
    }

    /// Closes the socket to everybody else and puts it into its place, whatever a killed server left there.
    pub(crate) fn install_socket(&self) -> Result<PathBuf, StoreError> {
        let (made, path) = (self.path.join("ingest").join(SOCKET), self.socket());
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600)).map_err(StoreError::io("close", &made))?;
        fs::rename(&made, &path).map_err(StoreError::io("rename", &made))?;
        Ok(path)
    }

    pub(crate) fn remove_socket(&self) -> Result<(), StoreError> {
        remove_if_present(&self.socket())
    }

    /// Where a blob lies: `blobs/<algorithm>/<hex>`.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.hex())
    }

    pub(crate) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.path.join("blobs").join(algorithm.as_str())
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.path.join("quarantine")
    }

    /// A name for new content that no other ingest has, and that tells a person what was being written.
    pub(crate) fn ingest(&self, digest: &Digest) -> PathBuf {
        let number = self.ingests.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}.{number}", digest.algorithm(), digest.hex());
        self.ingests().join(name)
    }

    /// Where content lies on its way in.
    pub(crate) fn ingests(&self) -> PathBuf {
        self.path.join("ingest")
    }

    /// Says, for all who open the store from now on, that what lies in it may be half there: nothing of it is waited for to be on disk.
    pub(crate) fn mark_unsynced(&self) -> Result<(), StoreError> {
        replace_file(
            &self.unsynced(),
            b"written with fsync = \"never\": to be hashed when it is read, until a scrub has seen all of it\n",
        )
    }

    /// Whether somebody has said so and nobody has taken it back.
    pub(crate) fn is_unsynced(&self) -> Result<bool, StoreError> {
        Ok(open_file(&self.unsynced())?.is_some())
    }

    /// All was hashed since: brings to disk what is only in memory, and takes it back.
    pub(crate) fn unmark_unsynced(&self) -> Result<(), StoreError> {
        let root = File::open(&self.path).map_err(StoreError::io("open", &self.path))?;
        rustix::fs::syncfs(&root).map_err(|error| StoreError::io("sync", &self.path)(error.into()))?;
        remove_if_present(&self.unsynced())?;
        sync_directory(&self.path)
    }

    fn unsynced(&self) -> PathBuf {
        self.path.join("unsynced")
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let path = self.path.join("format");
        let other = |got: String| StoreError::OtherFormat { path: self.path.clone(), want: format!("{FORMAT:?}"), got };
        match read_small(&path)? {
            Some(text) if text.trim_end() == FORMAT => Ok(()),
            Some(text) => Err(other(format!("{:?}", text.trim_end()))),
            None if self.has_content() => Err(other("none (it has content, but no file \"format\")".to_owned())),
            None => replace_file(&path, format!("{FORMAT}\n").as_bytes()),
        }
    }

    /// The file `format` is written before anything else, so content without it is not of our making.
    fn has_content(&self) -> bool {
        ["blobs", "ingest", "quarantine", "facts.redb", "facts.sled"]
            .iter()
            .any(|name| self.path.join(name).symlink_metadata().is_ok())
    }

    /// Facts are made after the directories of blobs, so facts alone are a volume that is not mounted, or a loss that a person has to
    /// know of: an empty store in its place would forget what it holds, and fill another disk.
    fn refuse_without_blobs(&self) -> Result<(), StoreError> {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        // Everything there is lies under sha256, but for the few that upstream named otherwise.
        let blobs = self.blobs(Algorithm::Sha256);
        if is_there(&blobs) || !["facts.redb", "facts.sled"].iter().any(|name| is_there(&self.path.join(name))) {
            return Ok(());
        }
        // What lies in its place is told by whoever makes the directory.
        if blobs.parent().is_some_and(|parent| is_there(parent) && !parent.is_dir()) {
            return Ok(());
        }
        Err(StoreError::NoBlobs { path: self.path.clone(), blobs })
    }

    /// Whether any blob is there.
    pub(crate) fn has_blobs(&self) -> Result<bool, StoreError> {
        for algorithm in Algorithm::ALL {
            if list(&self.blobs(algorithm))?.next().transpose()?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn make_directories(&self) -> Result<(), StoreError> {
        make_directory(&self.path.join("ingest"))?;
        make_directory(&self.quarantine())?;
        let blobs = self.path.join("blobs");
        make_directory(&blobs)?;
        for algorithm in Algorithm::ALL {
            make_directory(&self.blobs(algorithm))?;
        }
        sync_directory(&blobs)?;
        sync_directory(&self.path)
    }

    /// What was interrupted and is kept stays; whoever resumes it decides whether it is of any use.
    fn remove_leftovers(&self) -> Result<(), StoreError> {
        for name in list(&self.ingests())? {
            let name = name?;
            if name.to_str().and_then(interrupted::parse).is_some() {
                continue;
            }
            let path = self.ingests().join(name);
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// Creates the directory and those above it that are missing, and makes their names durable: a store is nothing without its name.
pub(crate) fn create_root(path: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("create directory", path))?;
    missing
        .iter()
        .filter_map(|created| created.parent())
        .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        .try_for_each(sync_directory)
}

pub(crate) fn refuse_exposed(path: &Path) -> Result<(), StoreError> {
    let mode = fs::metadata(path).map_err(StoreError::io("look at", path))?.permissions().mode() & 0o7777;
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(StoreError::Exposed { path: path.to_owned(), mode })
}

pub(crate) fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let file = options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StoreError::io("lock", path)(source)),
    }
}

/// Options that do not follow a link, do not hang on a pipe, and make files for their owner only.
fn options() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

/// A new file, readable too: followers read what is being written.
pub(crate) fn create_file(path: &Path) -> Result<File, StoreError> {
    options().read(true).write(true).create_new(true).open(path).map_err(StoreError::io("create", path))
}

/// A file that has to be there, to be written to.
pub(crate) fn open_file_writable(path: &Path) -> Result<File, StoreError> {
    let missing = || StoreError::io("open", path)(io::ErrorKind::NotFound.into());
    writable_if_present(path)?.map(|(file, _)| file).ok_or_else(missing)
}

/// A file to be written to, and its size in bytes; `None` where there is none.
pub(crate) fn writable_if_present(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    opened(path, options().read(true).write(true))
}

/// An existing file and its size in bytes; `None` where there is none.
pub(crate) fn open_file(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    opened(path, options().read(true))
}

fn opened(path: &Path, options: &OpenOptions) -> Result<Option<(File, u64)>, StoreError> {
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(_) if path.is_symlink() => return Err(unexpected(path, "regular file")),
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let size = regular_size(&file, path)?;
    Ok(Some((file, size)))
}

/// As [`open_file`], but where the directory is gone too, that is an error: a disk that went away has not lost just this file.
pub(crate) fn open_file_in_place(path: &Path) -> Result<Option<(File, u64)>, StoreError> {
    let found = open_file(path)?;
    if found.is_none()
        && let Some(parent) = path.parent()
    {
        parent.symlink_metadata().map_err(StoreError::io("look at", parent))?;
    }
    Ok(found)
}

fn regular_size(file: &File, path: &Path) -> Result<u64, StoreError> {
    let metadata = file.metadata().map_err(StoreError::io("look at", path))?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err(unexpected(path, "regular file")) }
}

/// Whether that very file lies at `path`; a link is not followed.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, StoreError> {
    let open = file.metadata().map_err(StoreError::io("look at", path))?;
    match path.symlink_metadata() {
        Ok(there) => Ok((open.dev(), open.ino()) == (there.dev(), there.ino())),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}

pub(crate) fn unexpected(path: &Path, want: &'static str) -> StoreError {
    StoreError::Unexpected { path: path.to_owned(), want }
}

pub(crate) fn make_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("create directory", path)(error)),
    }
    let metadata = path.symlink_metadata().map_err(StoreError::io("look at", path))?;
    if metadata.is_dir() { refuse_exposed(path) } else { Err(unexpected(path, "directory")) }
}

/// The names in a directory, as the system gives them.
pub(crate) fn list(path: &Path) -> Result<impl Iterator<Item = Result<OsString, StoreError>>, StoreError> {
    let entries = fs::read_dir(path).map_err(StoreError::io("list", path))?;
    Ok(entries.map(move |entry| entry.map(|entry| entry.file_name()).map_err(StoreError::io("list", path))))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StoreError::io("sync", path))
}

/// Moves a file within the store, durably. An error of the sync leaves it at its new name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    rename_unsynced(from, to)?;
    to.parent().map_or(Ok(()), sync_directory)
}

/// As [`rename`], but after a power cut either name may hold.
pub(crate) fn rename_unsynced(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(StoreError::io("rename", from))
}

/// As [`rename`], but fine where there is nothing to move.
pub(crate) fn rename_if_present(from: &Path, to: &Path) -> Result<(), StoreError> {
    match rename(from, to) {
        Err(_) if from.symlink_metadata().is_err_and(|error| is_missing(&error)) => Ok(()),
        other => other,
    }
}

fn read_small(path: &Path) -> Result<Option<String>, StoreError> {
    let Some((file, _)) = open_file(path)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, 1024), &mut text).map_err(StoreError::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Writes a small file whole or not at all.
pub(crate) fn replace_file(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    remove_if_present(&new)?;
    let mut file = create_file(&new)?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(StoreError::io("write", &new))?;
    rename(&new, path)
}

pub(crate) fn remove_if_present(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if !is_missing(&error) => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether a directory has nothing in it; `None` where there is none.
pub(crate) fn directory_is_empty(path: &Path) -> Result<Option<bool>, StoreError> {
    match path.symlink_metadata() {
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(StoreError::io("look at", path)(error)),
        Ok(metadata) if !metadata.is_dir() => Err(unexpected(path, "directory")),
        Ok(_) => list(path)?.next().transpose().map(|first| Some(first.is_none())),
    }
}

/// Removes a file, or a directory and all that is in it. No link is followed.
pub(crate) fn remove_tree_if_present(path: &Path) -> Result<(), StoreError> {
    if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        return fs::remove_dir_all(path).map_err(StoreError::io("remove", path));
    }
    remove_if_present(path)
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
