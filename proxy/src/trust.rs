//! The trust root's life: which one is in force, since when it is known to be current, and how it becomes another.
//!
//! ```text
//! compiled in, or policy.trust_root ─┐
//!                                    ├─ load ──▶ Current ──▶ the judge (app)
//! <storage>/trust/<source>.kept ─────┘
//!        ▲
//!        └─ keep ── update ◀── TUF repository: mirror over http, or a directory carried over
//!                └─ import ◀── a trusted_root.json carried over
//! ```
//!
//! What is in force is the one that was known to be current last. Bytes are handed over to `policy`, which reads them; what TUF
//! vouches for and `policy` cannot read is not taken. Nothing here stops a server: a refresh that fails leaves what is in force.

mod changes;
mod error;
mod import;
mod kept;
mod refresh;
mod repository;
mod tuf;
mod update;

use std::{fmt, path::Path, path::PathBuf, time::Duration, time::UNIX_EPOCH};

use config::{Settings, TrustRootSource};
use oci::UnixTime;
use policy::TrustRoot;

use crate::{
    app::{Noted, StartError},
    error::chain,
};

pub use changes::{Change, changes};
pub use error::TrustError;
pub use import::import;
pub(crate) use refresh::run;
pub use tuf::Versions;
pub use update::{Outcome, update};

use kept::{Keeper, KeptRoot, Provenance};

/// A `trusted_root.json` is larger than a policy: it holds certificates of every authority there ever was.
const TRUST_ROOT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// When the root inside was last compared with the published one: 2026-08-21.
const PUBLIC_GOOD_AS_OF: UnixTime = UnixTime::from_millis(1_787_270_400_000);

/// The trust root in force.
#[derive(Debug, Clone)]
pub struct Current {
    /// Whom we trust.
    pub root: TrustRoot,
    /// Where it came from.
    pub origin: Origin,
    /// When it was last known to be current.
    pub as_of: UnixTime,
}

/// Where a trust root came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is compiled in: public-good Sigstore's.
    CompiledIn,
    /// `policy.trust_root`.
    File(PathBuf),
    /// The store, where a refresh had put it, from this TUF repository.
    Refreshed(String),
    /// The store, where an import had put it, from this file.
    Imported(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CompiledIn => f.write_str("public-good Sigstore, compiled in"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Refreshed(mirror) => write!(f, "kept in the store, refreshed from {mirror}"),
            Self::Imported(file) => write!(f, "kept in the store, imported from {file}"),
        }
    }
}

impl Current {
    /// Whether it lies in the store, by a refresh or an import.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self.origin, Origin::Refreshed(_) | Origin::Imported(_))
    }

    /// How long ago it was last known to be current.
    #[must_use]
    pub fn age(&self, now: UnixTime) -> Duration {
        now.since(self.as_of).unwrap_or(Duration::ZERO)
    }

    /// When it becomes too old to be used, where the operator set an age.
    #[must_use]
    pub fn ends(&self, settings: &Settings) -> Option<UnixTime> {
        settings.policy.trust_root_max_age.map(|max| self.as_of.plus(max))
    }

    /// The line about its age, where it is old enough to be told.
    #[must_use]
    pub fn warning(&self, settings: &Settings, now: UnixTime) -> Option<String> {
        let age = self.age(now);
        if age <= settings.policy.trust_root_warn_age {
            return None;
        }
        let days = age.as_secs() / 86_400;
        let refused = match self.ends(settings) {
            Some(ends) if ends <= now => ": older than policy.trust_root_max_age, it admits nothing",
            Some(_) | None => "",
        };
        Some(format!("the trust root is {days} days old (of {}){refused}; refresh it", self.as_of))
    }
}

/// The trust root to be in force: the configured one, or the one kept in the store where that was known to be current later, or was
/// refreshed over TUF where the configured one is a file.
///
/// A kept one that cannot be read is set aside and told, and never stops anything.
///
/// # Errors
/// When the configured one cannot be used.
pub fn load(settings: &Settings, now: UnixTime) -> Result<Noted<Current>, StartError> {
    let configured = configured(settings, now)?;
    let mut notes = Vec::new();
    let Some(keeper) = Keeper::of(settings)? else {
        return Ok(Noted { value: configured, notes });
    };
    let kept = match keeper.read() {
        Ok(kept) => kept.and_then(|kept| kept.root),
        Err(error) => {
            let why = chain(&error);
            notes.push(format!("what is kept of the trust root is not used: {why}; in force is {}", configured.origin));
            None
        }
    };
    // The date of a file is when it was put there, which says little: what a TUF repository signed goes before it, whatever the dates.
    let outranks = |kept: &KeptRoot| {
        let signed = matches!((&kept.from, &configured.origin), (Provenance::Refreshed(_), Origin::File(_)));
        signed || kept.as_of >= configured.as_of
    };
    let Some(kept) = kept.filter(outranks) else {
        return Ok(Noted { value: configured, notes });
    };
    let value = match TrustRoot::parse(kept.text.as_bytes()) {
        Ok(root) => {
            let origin = match kept.from {
                Provenance::Refreshed(mirror) => Origin::Refreshed(mirror),
                Provenance::Imported(file) => Origin::Imported(file),
            };
            // Dated in the future: the clock was wrong then, or is now. The content holds, its date does not.
            let as_of = if kept.as_of > now { configured.as_of } else { kept.as_of };
            notes.push(format!("trust root: {origin}, of {as_of}"));
            Current { root, origin, as_of }
        }
        Err(error) => {
            let why = chain(&error);
            notes.push(format!("the kept trust root is not used: {why}; in force is {}", configured.origin));
            configured
        }
    };
    Ok(Noted { value, notes })
}

fn configured(settings: &Settings, now: UnixTime) -> Result<Current, StartError> {
    match &settings.policy.trust_root {
        TrustRootSource::PublicGood => {
            Ok(Current { root: TrustRoot::public_good(), origin: Origin::CompiledIn, as_of: PUBLIC_GOOD_AS_OF })
        }
        TrustRootSource::File(path) => {
            let text = config::read_text(path, TRUST_ROOT_BYTES_MAX)?;
            let root = TrustRoot::parse(text.as_bytes())
                .map_err(|error| StartError::TrustRoot { path: path.display().to_string(), why: chain(&error) })?;
            let as_of = modified_at(path).map_or(now, |at| at.min(now));
            Ok(Current { root, origin: Origin::File(path.clone()), as_of })
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "only the time of the file is looked at; its content is read by config")]
fn modified_at(path: &Path) -> Option<UnixTime> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    Some(UnixTime::from_millis(0).plus(modified.duration_since(UNIX_EPOCH).ok()?))
}
