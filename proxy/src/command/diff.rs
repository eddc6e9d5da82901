//! `policy diff`: which kept images would be decided about otherwise under other policies, from stored evidence alone.

use std::sync::Arc;

use oci::{Digest, Repository, Tag};
use policy::Judge;

use super::{
    answer::{Changed, ChangedTag, Differences, Failure, Judged},
    kept::{self, Kept},
    leads::Leads,
    request::{PolicyText, Rules},
    rules,
};
use crate::{app::App, error::ApiError, evidence_tag::subject_of};

/// Manifests read from the store at a time.
const PAGE: usize = 256;

pub(super) async fn diff(app: &Arc<App>, policies: &[PolicyText]) -> Result<Differences, Failure> {
    let in_force = app.in_force();
    let rules::Loaded { set, notes } = rules::of_files(&in_force, policies)?;
    let judges =
        Judges { old: Arc::clone(&in_force.judge), new: Arc::new(rules::judge(&in_force, set, &Rules::default())?) };
    let mut differences = Differences { kept: 0, changed: Vec::new(), tags: Vec::new(), notes };
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
            break;
        }
    }
    differences.tags = judges.tags(app).await?;
    Ok(differences)
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
        if !Self::is_judged(app, repository, digest)? {
            return Ok(None);
        }
        let old = Kept::new(app, &self.old).said(repository, digest).await?;
        let new = Kept::new(app, &self.new).said(repository, digest).await?;
        Ok(Some((old, new)))
    }

    /// Tags that the two answer otherwise.
    async fn tags(&self, app: &App) -> Result<Vec<ChangedTag>, Failure> {
        let (mut changed, mut after) = (Vec::new(), None);
        loop {
            let page = app
                .store
                .facts()
                .read()
                .and_then(|facts| facts.tag_facts(after.as_ref(), PAGE))
                .map_err(ApiError::from)?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(repository, tag, _)| (repository.clone(), tag.clone()));
            for (repository, tag, fact) in page {
                if fact.gone_at.is_none() && subject_of(&tag).is_none() {
                    changed.extend(self.tag(app, (repository, tag), &fact.digest).await?);
                }
            }
            if is_last || after.is_none() {
                return Ok(changed);
            }
        }
    }

    async fn tag(
        &self,
        app: &App,
        (repository, tag): (Repository, Tag),
        digest: &Digest,
    ) -> Result<Option<ChangedTag>, Failure> {
        if !Self::is_judged(app, &repository, digest)? {
            return Ok(None);
        }
        let served = app.store.facts().read().and_then(|facts| facts.tag_served(&repository, &tag));
        let served = served.map_err(ApiError::from)?.unwrap_or_default();
        let leads = |judge| Leads { app, judge, repository: &repository, tag: &tag, served: &served };
        let (from, _) = leads(&self.old).answer(digest).await?;
        let (to, message) = leads(&self.new).answer(digest).await?;
        let is_changed = from != to;
        Ok(is_changed.then(|| ChangedTag { repository, tag: tag.to_string(), from, to, message }))
    }

    /// Whether somebody judged it, or an index that lists it.
    fn is_judged(app: &App, repository: &Repository, digest: &Digest) -> Result<bool, Failure> {
        for digest in kept::indexes(app, repository, digest)?.iter().chain([digest]) {
            if app.admission.is_judged(repository, digest)? {
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
