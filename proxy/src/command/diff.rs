//! `policy diff`: which kept images would be decided about otherwise under other policies, from stored evidence alone.

use std::sync::Arc;

use oci::{Digest, Repository, UnixTime};
use policy::{Assessment, Judge, UntrustedEvidence};

use super::{
    answer::{Changed, Differences, Failure, Judged, Verdict},
    gather,
    request::{PolicyText, Rules},
    rules,
};
use crate::{app::App, error::ApiError, evidence::Gathered};

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
    /// What both say about an image; `None` where it is none that was ever judged by evidence of its own: a child that its index
    /// admits, or evidence.
    async fn both(
        &self,
        app: &App,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(Judged, Judged)>, Failure> {
        if !is_judged(app, &self.old, repository, digest)? {
            return Ok(None);
        }
        let mut wanted = self.old.wanted(repository, digest);
        let more = self.new.wanted(repository, digest);
        wanted.origins.extend(more.origins);
        wanted.configs |= more.configs;
        let stored =
            if wanted.is_empty() { None } else { app.admission.kept(&self.new, (repository, digest), &wanted).await? };
        let (old, new, now) = (Arc::clone(&self.old), Arc::clone(&self.new), app.clock.now());
        let (repository, digest) = (repository.clone(), digest.clone());
        let said = move || {
            let say = |judge: &Judge| said(judge, &repository, &digest, stored.as_ref(), now);
            (say(&old), say(&new))
        };
        gather::judging(said).await.map(Some)
    }
}

fn said(judge: &Judge, repository: &Repository, digest: &Digest, stored: Option<&Gathered>, now: UnixTime) -> Judged {
    let image = format!("{repository}@{digest}");
    let judged = |assessment: &Assessment| gather::judged(&image, repository, digest, assessment);
    match stored {
        Some(stored) => judged(&judge.assess(repository, digest, &stored.evidence, now)),
        None if judge.wanted(repository, digest).is_empty() => {
            judged(&judge.assess(repository, digest, &UntrustedEvidence::default(), now))
        }
        None => Judged {
            image: image.clone(),
            repository: repository.clone(),
            digest: digest.clone(),
            verdict: Verdict::Undecided,
            message: Some("no evidence is stored, and these policies want to see some".to_owned()),
            hint: None,
            policies: Vec::new(),
            decided_at: None,
            ends_at: None,
        },
    }
}

/// Whether evidence about it was once collected, or a verdict on it is stored.
fn is_judged(app: &App, judge: &Judge, repository: &Repository, digest: &Digest) -> Result<bool, Failure> {
    let facts = app.store.facts().read().map_err(ApiError::from)?;
    if facts.evidence(repository, digest).map_err(ApiError::from)?.is_some() {
        return Ok(true);
    }
    let fingerprint = judge.fingerprint(repository, digest);
    Ok(facts.verdict(repository, digest, fingerprint.as_bytes()).map_err(ApiError::from)?.is_some())
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
