//! Finding the file of facts, making it, or setting it aside.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{FactsState, engine::Engine, migrate, redb::Redb, table::Table};
use crate::{
    StoreError,
    directory::{self, Directory},
};

const FORMAT_KEY: &[u8] = b"format";
/// What the tables hold and how it is encoded.
const FORMAT: &[u8] = b"facts 2";

pub(super) fn open(directory: &Directory) -> Result<(Engine, FactsState), StoreError> {
    let path = directory.facts();
    let Some((file, size)) = directory::open_file(&path)? else {
        let engine = create(directory, &path)?;
        return Ok((engine, FactsState::New));
    };
    drop(file);
    let reason = if size == 0 {
        // Ours is never empty: it gets its name only when it is complete. The key-value store would take it for a new one.
        "the file is empty".to_owned()
    } else {
        let suspect = suspect(&path);
        let thorough = suspect.symlink_metadata().is_ok();
        match open_existing(directory, &path, thorough) {
            Ok(engine) => {
                directory::remove_if_present(&suspect)?;
                return Ok((engine, FactsState::Intact));
            }
            Err(error) if error.is_damage() => told_with_cause(&error),
            Err(error) => return Err(error),
        }
    };
    let moved_to = set_aside(&path)?;
    tracing::error!(
        path = %path.display(),
        moved_to = %moved_to.display(),
        reason,
        "the facts file is damaged: it was set aside, and the store starts with no facts; tag history is lost, the rest is fetched and judged anew"
    );
    let engine = create(directory, &path)?;
    Ok((engine, FactsState::SetAside { moved_to, reason }))
}

/// Notes that the open file gave answers it cannot have been given: the next start looks at all of it before trusting it.
pub(super) fn mark_suspect(directory: &Directory) {
    let path = suspect(&directory.facts());
    match directory::create_file(&path) {
        Ok(_) => tracing::error!(
            path = %directory.facts().display(),
            "the facts file is damaged: it will be checked, and set aside if need be, at the next start"
        ),
        Err(_) if path.exists() => {}
        Err(error) => {
            tracing::error!(error = %error, "cannot note that the facts file is damaged");
        }
    }
}

fn suspect(path: &Path) -> PathBuf {
    path.with_extension("suspect")
}

fn open_existing(directory: &Directory, path: &Path, thorough: bool) -> Result<Engine, StoreError> {
    let engine = open_engine(path, thorough)?;
    let mut format = engine.view()?.get(Table::Meta, FORMAT_KEY)?;
    if format.as_deref() == Some(migrate::FROM) {
        migrate::run(&engine, |batch| batch.put(Table::Meta, FORMAT_KEY, FORMAT))?;
        format = Some(FORMAT.to_owned());
    }
    if format.as_deref() == Some(FORMAT) {
        return Ok(engine);
    }
    let found = format.map_or("none".to_owned(), |found| format!("{:?}", String::from_utf8_lossy(&found)));
    Err(StoreError::OtherFormat {
        path: directory.path().to_owned(),
        want: format!("{:?}", String::from_utf8_lossy(FORMAT)),
        got: found,
    })
}

/// Made under another name first, so that a file with the right name is always complete.
fn create(directory: &Directory, path: &Path) -> Result<Engine, StoreError> {
    let new = path.with_extension("new");
    directory::remove_if_present(&new)?;
    directory::remove_if_present(&suspect(path))?;
    Redb::create(&new)?;
    let engine = open_engine(&new, false)?;
    engine.make(&Table::ALL)?;
    engine.commit(|batch| {
        batch.put(Table::Meta, FORMAT_KEY, FORMAT);
        Ok(())
    })?;
    drop(engine);
    directory::rename(&new, path)?;
    open_existing(directory, path, false)
}

/// Only the first opening is `thorough`: what is opened again after a full disk was looked at then.
fn open_engine(path: &Path, thorough: bool) -> Result<Engine, StoreError> {
    let (path, first) = (path.to_owned(), AtomicBool::new(thorough));
    Engine::new(move || Redb::open(&path, first.swap(false, Ordering::Relaxed)))
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
