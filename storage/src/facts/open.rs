//! Finding the file of facts, making it, or setting it aside.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    FactsState, Loss,
    engine::{Durability, Engine, FactsStore},
    loss, migrate,
    redb::Redb,
    table::Table,
};
use crate::{
    StoreError,
    directory::{self, Directory},
};

const FORMAT_KEY: &[u8] = b"format";
/// What the tables hold and how it is encoded.
const FORMAT: &[u8] = b"facts 3";

/// What can keep facts in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactsIn {
    /// One file of redb.
    Redb,
    /// A directory of sled; only in builds with the feature `sled`, an error in all others.
    Sled,
}

impl FactsIn {
    const ALL: [Self; 2] = [Self::Redb, Self::Sled];

    fn name(self) -> &'static str {
        match self {
            Self::Redb => "facts.redb",
            Self::Sled => "facts.sled",
        }
    }

    fn open(self, path: &Path, thorough: bool) -> Result<Arc<dyn FactsStore>, StoreError> {
        match self {
            Self::Redb => Redb::open(path, thorough),
            #[cfg(feature = "sled")]
            Self::Sled => super::sled::Sled::open(path, thorough),
            #[cfg(not(feature = "sled"))]
            Self::Sled => Err(StoreError::NotBuilt { path: path.to_owned(), what: "sled" }),
        }
    }

    fn create(self, path: &Path) -> Result<(), StoreError> {
        match self {
            Self::Redb => Redb::create(path),
            #[cfg(feature = "sled")]
            Self::Sled => super::sled::Sled::create(path),
            #[cfg(not(feature = "sled"))]
            Self::Sled => Err(StoreError::NotBuilt { path: path.to_owned(), what: "sled" }),
        }
    }

    /// Whether something lies at `path`, and is more than an empty beginning; an error where it cannot be ours.
    fn found(self, path: &Path) -> Result<Found, StoreError> {
        let is_empty = match self {
            Self::Redb => directory::open_file(path)?.map(|(_, size)| size == 0),
            Self::Sled => directory::directory_is_empty(path)?,
        };
        Ok(match is_empty {
            None => Found::Nothing,
            Some(true) => Found::Empty,
            Some(false) => Found::Content,
        })
    }
}

enum Found {
    Nothing,
    Empty,
    Content,
}

pub(super) fn open(directory: &Directory, kind: FactsIn) -> Result<(Engine, FactsState), StoreError> {
    let place = Place { directory, kind, path: directory.path().join(kind.name()) };
    place.refuse_others()?;
    let path = &place.path;
    let has_blobs = directory.has_blobs()?;
    let reason = match kind.found(path)? {
        Found::Nothing if has_blobs => {
            tracing::error!(
                path = %path.display(),
                "the facts file is gone, and blobs are there: the store starts with no facts; pins, tag history and how new each tag was are lost, the rest is fetched and judged anew, and blobs are kept for that"
            );
            return Ok((place.create(has_blobs)?, FactsState::Lost));
        }
        Found::Nothing => return Ok((place.create(has_blobs)?, FactsState::New)),
        // Ours is never empty: it gets its name only when it is complete. The key-value store would take it for a new one.
        Found::Empty => "the file is empty".to_owned(),
        Found::Content => {
            let suspect = suspect(directory);
            let thorough = suspect.symlink_metadata().is_ok();
            match place.open(thorough) {
                Ok(engine) => {
                    directory::remove_if_present(&suspect)?;
                    return Ok((engine, FactsState::Intact));
                }
                Err(error) if error.is_damage() => told_with_cause(&error),
                Err(error) => return Err(error),
            }
        }
    };
    let moved_to = set_aside(path)?;
    tracing::error!(
        path = %path.display(),
        moved_to = %moved_to.display(),
        reason,
        "the facts file is damaged: it was set aside, and the store starts with no facts; pins, tag history and how new each tag was are lost, the rest is fetched and judged anew, and blobs are kept for that"
    );
    let engine = place.create(has_blobs)?;
    Ok((engine, FactsState::SetAside { moved_to, reason }))
}

/// Where facts lie, and in what.
struct Place<'a> {
    directory: &'a Directory,
    kind: FactsIn,
    path: PathBuf,
}

impl Place<'_> {
    /// Facts of another kind would be forgotten, tag history for good.
    fn refuse_others(&self) -> Result<(), StoreError> {
        for other in FactsIn::ALL.into_iter().filter(|other| *other != self.kind) {
            if self.directory.path().join(other.name()).symlink_metadata().is_ok() {
                let path = self.directory.path().to_owned();
                return Err(StoreError::OtherFacts { path, want: self.kind.name(), got: other.name() });
            }
        }
        Ok(())
    }

    fn open(&self, thorough: bool) -> Result<Engine, StoreError> {
        let engine = self.engine(&self.path, thorough)?;
        let format = engine.view()?.get(Table::Meta, FORMAT_KEY)?;
        match format {
            Some(format) if format == FORMAT => Ok(engine),
            Some(format) if migrate::FROM.contains(&format.as_slice()) => {
                migrate::run(&engine, &format, |batch| batch.put(Table::Meta, FORMAT_KEY, FORMAT))?;
                Ok(engine)
            }
            other => Err(StoreError::OtherFormat {
                path: self.directory.path().to_owned(),
                want: format!("{:?}", String::from_utf8_lossy(FORMAT)),
                got: other.map_or("none".to_owned(), |found| format!("{:?}", String::from_utf8_lossy(&found))),
            }),
        }
    }

    /// Made under another name first, so that what has the right name is always complete. Where earlier facts are lost, that is one of
    /// the new ones.
    fn create(&self, is_loss: bool) -> Result<Engine, StoreError> {
        let new = self.path.with_extension("new");
        directory::remove_tree_if_present(&new)?;
        directory::remove_if_present(&suspect(self.directory))?;
        self.kind.create(&new)?;
        let engine = self.engine(&new, false)?;
        prepare(&engine, is_loss)?;
        drop(engine);
        directory::rename(&new, &self.path)?;
        self.open(false)
    }

    /// Only the first opening is `thorough`: what is opened again after a full disk was looked at then.
    fn engine(&self, path: &Path, thorough: bool) -> Result<Engine, StoreError> {
        let (kind, path, first) = (self.kind, path.to_owned(), AtomicBool::new(thorough));
        Engine::new(move || kind.open(&path, first.swap(false, Ordering::Relaxed)))
    }
}

/// All tables first: a format is never written before what it promises.
fn prepare(engine: &Engine, is_loss: bool) -> Result<(), StoreError> {
    engine.make(&Table::ALL)?;
    engine.commit(Durability::Now, |batch| {
        batch.put(Table::Meta, FORMAT_KEY, FORMAT);
        loss::set(batch, is_loss.then_some(Loss { noticed_at: None }));
        Ok(())
    })
}

/// Notes that the open file gave answers it cannot have been given: the next start looks at all of it before trusting it.
pub(super) fn mark_suspect(directory: &Directory) {
    let path = suspect(directory);
    match directory::create_file(&path) {
        Ok(_) => tracing::error!(
            path = %directory.path().display(),
            "the facts are damaged: they will be checked, and set aside if need be, at the next start"
        ),
        Err(_) if path.exists() => {}
        Err(error) => {
            tracing::error!(error = %error, "cannot note that the facts are damaged");
        }
    }
}

fn suspect(directory: &Directory) -> PathBuf {
    directory.path().join("facts.suspect")
}

fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let free = (1..u64::MAX)
        .map(|number| path.with_extension(format!("damaged-{number}")))
        .find(|name| name.symlink_metadata().is_err())
        .expect("there are more numbers than files");
    directory::rename(path, &free)?;
    Ok(free)
}

fn told_with_cause(error: &StoreError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
