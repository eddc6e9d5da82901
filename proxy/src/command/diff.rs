//! `policy diff`: which kept images would be decided about otherwise under other policies, from stored evidence alone.

use std::sync::Arc;

use oci::{Digest, Repository};
use policy::Judge;

use super::{
    answer::{Changed, Differences, Failure, Judged},
    kept::{self, Kept},
    request::{PolicyText, Rules},
    rules,
};
use crate::{app::App, error::ApiError};

/// Manifests read from the store at a time.
const PAGE: usize = 256;

pub(super) async fn diff(app: &Arc<App>, policies: &[PolicyText]) -> Result<Differences, Failure> {
    let in_force = app.in_force();
    let rules::Loaded { set, notes } = rules::of_files(&in_force, policies)?;
    let judges =
        Judges { old: Arc::clone(&in_force.judge), new: Arc::new(rules::judge(&in_force, set, &Rules::default())?) };
    let mut differences = Differences { kept: 0, changed: Vec::new(), notes };
    let mut after = None;
    loop {
        // A snapshot for each page: one that is kept long keeps old pages of the file alive.
        let page =
            app.store.facts().read().and_then(|facts| facts.manifests(after.as_ref(), PAGE)).map_err(ApiError::from)?;
        for (repository, digest) in &page {
            if let Some((old, new)) = judges.both(app, repository, digest).await? {
                differences.kept += 1;
                differences.changed.extend(changed(&old, &new));
            }
        }
        let is_last = page.len() < PAGE;
        after = page.into_iter().next_back();
        if is_last || after.is_none() {
            return Ok(differences);
        }
    }
}

struct Judges {
    old: Arc<Judge>,
    new: Arc<Judge>,
}

impl Judges {
    /// What both say about an image; `None` where it is none that was ever asked for: evidence, or a manifest that nobody judged.
    async fn both(
        &self,
        app: &App,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(Judged, Judged)>, Failure> {
        if !self.is_judged(app, repository, digest)? {
            return Ok(None);
        }
        let old = Kept::new(app, &self.old).said(repository, digest).await?;
        let new = Kept::new(app, &self.new).said(repository, digest).await?;
        Ok(Some((old, new)))
    }

    /// Whether evidence about it was once collected, or a verdict on it is stored; or on an index that lists it.
    fn is_judged(&self, app: &App, repository: &Repository, digest: &Digest) -> Result<bool, Failure> {
        let facts = app.store.facts().read().map_err(ApiError::from)?;
        for digest in kept::indexes(app, repository, digest)?.iter().chain([digest]) {
            let fingerprint = self.old.fingerprint(repository, digest);
            if facts.evidence(repository, digest).map_err(ApiError::from)?.is_some()
                || facts.verdict(repository, digest, fingerprint.as_bytes()).map_err(ApiError::from)?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn changed(old: &Judged, new: &Judged) -> Option<Changed> {
    (old.verdict != new.verdict).then(|| Changed {
        repository: new.repository.clone(),
        digest: new.digest.clone(),
        from: old.verdict,
        to: new.verdict,
        message: new.message.clone(),
    })
}
