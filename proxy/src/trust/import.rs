//! A trust root that was carried here, past the network.

use std::{path::Path, path::PathBuf, sync::Arc};

use config::{Settings, read_text};
use oci::UnixTime;
use policy::TrustRoot;

use super::{
    Current, TRUST_ROOT_BYTES_MAX,
    changes::{Change, changes},
    error::TrustError,
    kept::{KeptRoot, Provenance},
    load, modified_at,
    repository::Source,
    update::{Begun, Outcome, blocking, from_tuf},
};
use crate::clock::Clock;

/// Keeps the trust root in `path` as the last good one: a `trusted_root.json`, or a directory laid out as a TUF repository, which is
/// verified like a mirror.
///
/// A bare file carries no signature and no version. It is refused where it was written before what is in force was last known to be
/// current, or does not name all that is trusted now; `danger_allow_older` takes it all the same.
///
/// # Errors
/// As [`TrustError`] says; what was in force stays.
pub async fn import(
    settings: &Arc<Settings>,
    path: &Path,
    danger_allow_older: bool,
    clock: &Clock,
) -> Result<Outcome, TrustError> {
    let from = path.display().to_string();
    if path.is_dir() {
        let provenance = Provenance::Imported(from.clone());
        return from_tuf(settings, clock, Source::Directory(path.to_owned()), from, provenance).await;
    }
    let (settings, path, now) = (Arc::clone(settings), path.to_owned(), clock.now());
    blocking(move || file(&settings, path, danger_allow_older, now)).await
}

fn file(settings: &Settings, path: PathBuf, allow_older: bool, now: UnixTime) -> Result<Outcome, TrustError> {
    let Begun { held, mut kept, before, .. } = Begun::new(settings, now)?;
    let in_force = load(settings, now)?.value;
    let from = path.display().to_string();
    let text = read_text(&path, TRUST_ROOT_BYTES_MAX)?;
    let after =
        TrustRoot::parse(text.as_bytes()).map_err(|source| TrustError::Unusable { from: from.clone(), source })?;
    let written = modified_at(&path).map_or(now, |written| written.min(now));
    let is_same = before.content_digest() == after.content_digest();
    let as_of = if is_same {
        written.max(in_force.as_of)
    } else if allow_older {
        // The operator says that it is current, now.
        now
    } else {
        refuse_older(path, written, &in_force, &after)?;
        written
    };
    kept.root = Some(KeptRoot { text, as_of, from: Provenance::Imported(from.clone()) });
    held.keep(&kept)?;
    Ok(Outcome { before, after, as_of, from, versions: None })
}

fn refuse_older(path: PathBuf, written: UnixTime, in_force: &Current, after: &TrustRoot) -> Result<(), TrustError> {
    if written < in_force.as_of {
        return Err(TrustError::Older { path, file_as_of: written, as_of: in_force.as_of });
    }
    match changes(&in_force.root, after).into_iter().find(Change::is_backwards) {
        Some(lost) => Err(TrustError::Lacks { path, lost: lost.to_string() }),
        None => Ok(()),
    }
}
