//! Where policies and trust roots are found.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::value::magic::RelativePathBuf;
use serde::Deserialize;

use crate::{
    ConfigError,
    listen::existing_file,
    notes::Notes,
    refresh::{Interval, TrustRootRefresh, WrittenRefresh},
    sources::Sources,
    units,
};

/// `[policy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rules. Default: the built-in policy.
    pub files: PolicyFiles,
    /// What happens to an image that no policy matches. Default deny.
    pub no_match: NoMatch,
    /// Whose signatures and logs are believed. Default: public-good Sigstore.
    pub trust_root: TrustRootSource,
    /// A trust root older than this is told. Default 30d.
    pub trust_root_warn_age: Duration,
    /// A trust root older than this admits nothing. Default: none, air-gapped stores go on.
    pub trust_root_max_age: Option<Duration>,
    /// From where the trust root is refreshed. Default: Sigstore's mirror where the root is public-good Sigstore's, else nowhere.
    pub trust_root_refresh: Option<TrustRootRefresh>,
}

/// `policy.files`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFiles {
    /// The policy compiled in: Chainguard's public identity for its public images.
    BuiltIn,
    /// At least one file; sorted, each once.
    Files(Vec<PathBuf>),
}

/// `policy.no_match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoMatch {
    /// Refuse.
    Deny,
    /// Serve with a warning.
    Warn,
    /// Serve.
    Allow,
}

/// `policy.trust_root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustRootSource {
    /// The one compiled in.
    PublicGood,
    /// A `trusted_root.json`, which replaces it.
    File(PathBuf),
}

/// `[policy]` as written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WrittenPolicy {
    files: Option<Vec<RelativePathBuf>>,
    no_match: NoMatch,
    trust_root: Option<RelativePathBuf>,
    #[serde(deserialize_with = "units::positive_duration")]
    trust_root_warn_age: Duration,
    #[serde(deserialize_with = "units::optional_duration")]
    trust_root_max_age: Option<Duration>,
    trust_root_refresh: Interval,
    trust_root_mirror: Option<String>,
    trust_root_mirror_ca: Option<RelativePathBuf>,
    trust_root_initial: Option<RelativePathBuf>,
}

impl Default for WrittenPolicy {
    fn default() -> Self {
        Self {
            files: None,
            no_match: NoMatch::Deny,
            trust_root: None,
            trust_root_warn_age: Duration::from_secs(30 * 86_400),
            trust_root_max_age: None,
            trust_root_refresh: Interval::default(),
            trust_root_mirror: None,
            trust_root_mirror_ca: None,
            trust_root_initial: None,
        }
    }
}

impl WrittenPolicy {
    pub(crate) fn check(self, files_max: usize, sources: &Sources, notes: &mut Notes) -> Result<Policy, ConfigError> {
        let files = if let Some(patterns) = self.files {
            PolicyFiles::Files(expand(&patterns, files_max, sources)?)
        } else {
            notes.told("policy.files is not set: the built-in policy is in force (Chainguard's public images, signed by Chainguard; nothing else)");
            PolicyFiles::BuiltIn
        };
        let written = WrittenRefresh {
            every: self.trust_root_refresh,
            mirror: self.trust_root_mirror,
            ca: self.trust_root_mirror_ca,
            initial: self.trust_root_initial,
        };
        let trust_root_refresh = written.check(self.trust_root.is_some(), sources, notes)?;
        let trust_root = match self.trust_root {
            None => TrustRootSource::PublicGood,
            Some(path) => {
                let path = existing_file("policy.trust_root", path.relative(), sources)?;
                notes
                    .told(format!("policy.trust_root: {} is trusted in place of public-good Sigstore", path.display()));
                TrustRootSource::File(path)
            }
        };
        match self.no_match {
            NoMatch::Deny => {}
            NoMatch::Warn => notes.weakened(
                "policy.no_match = \"warn\": images that no policy matches are served unverified, with a warning",
            ),
            NoMatch::Allow => {
                notes.weakened("policy.no_match = \"allow\": images that no policy matches are served unverified")
            }
        }
        Ok(Policy {
            files,
            no_match: self.no_match,
            trust_root,
            trust_root_warn_age: self.trust_root_warn_age,
            trust_root_max_age: self.trust_root_max_age,
            trust_root_refresh,
        })
    }
}

/// The files that the patterns match. Each must match one: a policy that silently went missing would be a gate left open.
fn expand(patterns: &[RelativePathBuf], files_max: usize, sources: &Sources) -> Result<Vec<PathBuf>, ConfigError> {
    if patterns.is_empty() {
        return Err(ConfigError::Unexpected {
            place: sources.place("policy.files"),
            expected: "at least one file or pattern".into(),
            written: "an empty list".into(),
            hint: Some("without the key, the built-in policy is in force".into()),
        });
    }
    let mut files = BTreeSet::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let key = format!("policy.files[{index}]");
        let matched = matches_of(&key, pattern, sources)?;
        if matched.is_empty() {
            let written = pattern.relative();
            let hint = written
                .is_dir()
                .then(|| format!("for all policies of a directory, write \"{}\"", written.join("*.yaml").display()));
            return Err(ConfigError::Unexpected {
                place: sources.place(&key),
                expected: "a file, or a pattern that matches one".into(),
                written: format!("{:?}, which matches no file", written.to_string_lossy()),
                hint,
            });
        }
        files.extend(matched);
    }
    if files.len() > files_max {
        return Err(ConfigError::Unexpected {
            place: sources.place("policy.files"),
            expected: format!("at most {files_max} files"),
            written: files.len().to_string(),
            hint: Some("raise limits.policy_files_max, or put several documents into one file".into()),
        });
    }
    Ok(files.into_iter().collect())
}

fn matches_of(key: &str, pattern: &RelativePathBuf, sources: &Sources) -> Result<Vec<PathBuf>, ConfigError> {
    let text = pattern_text(pattern);
    let invalid = |error: glob::PatternError| {
        let written = pattern.original().to_string_lossy();
        sources.unexpected(key, format!("a file or a pattern with * ? [ ] ({})", error.msg), &written)
    };
    let mut files = Vec::new();
    for entry in glob::glob(&text).map_err(invalid)? {
        let path = entry.map_err(|error| ConfigError::Read { path: error.path().into(), source: error.into() })?;
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// The pattern under its directory, in which special characters stand for themselves.
fn pattern_text(pattern: &RelativePathBuf) -> String {
    let (whole, written) = (pattern.relative(), pattern.original());
    let text = written.to_string_lossy();
    let Some(directory) = whole.to_str().and_then(|whole| whole.strip_suffix(text.as_ref())) else {
        return text.into_owned();
    };
    Path::new(&glob::Pattern::escape(directory)).join(text.as_ref()).to_string_lossy().into_owned()
}
