//! `explain`: the record of a decision, from the store alone.

use std::sync::Arc;

use oci::{Digest, Reference, Repository};
use policy::UntrustedEvidence;
use storage::EdgeKind;

use super::{
    answer::{Explained, Failure, Judged, TagTold},
    gather,
    image::Image,
};
use crate::{
    app::{App, InForce},
    error::ApiError,
};

/// Indexes looked at around one image.
const PARENTS_MAX: usize = 64;

pub(super) async fn explain(app: &Arc<App>, image: &str) -> Result<Explained, Failure> {
    let in_force = app.in_force();
    let image = Image::parse(image, &in_force)?;
    let (repository, typed) = (&image.repository, image.typed.as_str());
    let (tag, digest) = match &image.reference {
        Reference::Digest(digest) => (None, digest.clone()),
        Reference::Tag(tag) => {
            let known =
                app.store.facts().read().map_err(ApiError::from)?.tag(repository, tag).map_err(ApiError::from)?;
            let fact = known.ok_or_else(|| {
                let hint = "pull it, or ask by digest; pratique verify asks upstream";
                Failure::no(format!("{repository}:{tag} was never asked for here")).hint(hint)
            })?;
            let (digest, seen_at, checked_at) = (fact.digest.clone(), fact.seen_at, fact.checked_at);
            (Some(TagTold { name: tag.to_string(), digest: digest.clone(), seen_at, checked_at }), digest)
        }
    };
    if let Some(judged) = stored(app, &in_force, typed, repository, &digest).await? {
        return Ok(Explained { image: typed.to_owned(), digest, tag, judged, is_stored: true, through: None });
    }
    for index in indexes(app, repository, &digest)? {
        if let Some(judged) = stored(app, &in_force, typed, repository, &index).await?
            && judged.verdict.serves()
        {
            return Ok(Explained {
                image: typed.to_owned(),
                digest,
                tag,
                judged,
                is_stored: true,
                through: Some(index),
            });
        }
    }
    let judged = anew(app, &in_force, typed, repository, &digest).await?;
    Ok(Explained { image: typed.to_owned(), digest, tag, judged, is_stored: false, through: None })
}

/// The verdict that is remembered under what is in force, where it holds.
async fn stored(
    app: &App,
    in_force: &InForce,
    typed: &str,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Judged>, Failure> {
    let record = app.admission.told(in_force, repository, digest).await?;
    Ok(record.map(|record| gather::of_record(typed, &record)))
}

fn indexes(app: &App, repository: &Repository, digest: &Digest) -> Result<Vec<Digest>, Failure> {
    let snapshot = app.store.facts().read().map_err(ApiError::from)?;
    let parents = snapshot.parents(repository, digest, None, PARENTS_MAX).map_err(ApiError::from)?;
    Ok(parents.found.into_iter().filter(|edge| edge.kind == EdgeKind::Child).map(|edge| edge.parent).collect())
}

/// What is in force says about the evidence that is stored.
async fn anew(
    app: &Arc<App>,
    in_force: &Arc<InForce>,
    typed: &str,
    repository: &Repository,
    digest: &Digest,
) -> Result<Judged, Failure> {
    let judge = Arc::clone(&in_force.judge);
    let wanted = judge.wanted(repository, digest);
    let now = app.clock.now();
    if wanted.is_empty() {
        let assessment = judge.assess(repository, digest, &UntrustedEvidence::default(), now);
        return Ok(gather::judged(typed, repository, digest, &assessment));
    }
    let stored = app.admission.kept(&judge, (repository, digest), &wanted).await?.ok_or_else(|| {
        Failure::no(format!("nothing is known of {repository}@{digest}"))
            .hint("pull it, or let pratique verify ask upstream")
    })?;
    let (repository, digest, typed) = (repository.clone(), digest.clone(), typed.to_owned());
    gather::judging(move || {
        let assessment = judge.assess(&repository, &digest, &stored.evidence, now);
        gather::judged(&typed, &repository, &digest, &assessment)
    })
    .await
}
