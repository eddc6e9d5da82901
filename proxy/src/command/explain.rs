//! `explain`: the record of a decision, from the store alone.

use std::sync::Arc;

use oci::{Digest, Reference, Repository, Tag};
use storage::{TagEvent, TagFact, TagLook, TagServed, TagTarget};

use super::{
    answer::{EventTold, Explained, Failure, Judged, LookTold, TagAnswer, TagTold, TargetTold, Verdict},
    gather,
    image::Image,
    kept::{self, Kept},
    leads::Leads,
};
use crate::{
    app::{App, InForce},
    error::ApiError,
};

pub(super) async fn explain(app: &Arc<App>, image: &str) -> Result<Explained, Failure> {
    let in_force = app.in_force();
    let image = Image::parse(image, &in_force)?;
    let (repository, typed) = (&image.repository, image.typed.as_str());
    let (tag, digest) = match &image.reference {
        Reference::Digest(digest) => (None, digest.clone()),
        Reference::Tag(tag) => {
            let facts = app.store.facts().read().map_err(ApiError::from)?;
            let known = facts.tag(repository, tag).map_err(ApiError::from)?;
            let fact = known.ok_or_else(|| {
                let hint = "pull it, or ask by digest; pratique verify asks upstream";
                Failure::no(format!("{repository}:{tag} was never asked for here")).hint(hint)
            })?;
            let digest = fact.digest.clone();
            let served = facts.tag_served(repository, tag).map_err(ApiError::from)?.unwrap_or_default();
            let history = facts.tag_history(repository, tag).map_err(ApiError::from)?;
            drop(facts);
            let leads = Leads { app, judge: &in_force.judge, repository, tag, served: &served };
            let answered = leads.answer(&digest).await?;
            (Some(Box::new(tag_told(tag, fact, served, history, answered))), digest)
        }
    };
    let told = |judged, is_stored, through| {
        Ok(Explained { image: typed.to_owned(), digest: digest.clone(), tag: tag.clone(), judged, is_stored, through })
    };
    // In the order of admission: its own yes, then an index, then its own no.
    let own = stored(app, &in_force, typed, repository, &digest).await?;
    if let Some(judged) = own.as_ref().filter(|judged| judged.verdict.serves()) {
        return told(judged.clone(), true, None);
    }
    let mut refused = None;
    for index in kept::indexes(app, repository, &digest)? {
        let Some(through) = app.admission.told_through(&in_force, repository, &digest, &index).await? else { continue };
        let judged = gather::of_record(typed, &through.record);
        if judged.verdict.serves() {
            return told(judged, through.is_stored, Some(index));
        }
        refused = Some((judged, through.is_stored, index));
    }
    match (refused, own) {
        (Some((judged, is_stored, index)), _) => told(judged, is_stored, Some(index)),
        (None, Some(judged)) => told(judged, true, None),
        (None, None) => {
            match (Kept::new(app, &in_force.judge).by_itself(repository, &digest).await?, &tag) {
                (Some(judged), _) => told(Judged { image: typed.to_owned(), ..judged }, false, None),
                // Of the tag there is something to tell, whatever has left.
                (None, Some(_)) => {
                    let why = "nothing is stored of it any more".to_owned();
                    let judged = gather::without_record(typed, repository, &digest, Verdict::Undecided, why);
                    told(judged, false, None)
                }
                (None, None) => Err(Failure::no(format!("nothing is known of {repository}@{digest}"))
                    .hint("pull it, or let pratique verify ask upstream")),
            }
        }
    }
}

/// What is known of a tag, and of where it has led.
fn tag_told(
    tag: &Tag,
    fact: TagFact,
    TagServed { newest, targets }: TagServed,
    history: Vec<TagEvent>,
    (answer, why): (TagAnswer, Option<String>),
) -> TagTold {
    let target = |TagTarget { digest, served_at, signed_at }: TagTarget| TargetTold { digest, served_at, signed_at };
    let look =
        |TagLook { at, served, signed_at, evidence, told }: TagLook| LookTold { at, served, signed_at, evidence, told };
    let event = |event: TagEvent| EventTold { digest: event.digest, at: event.at, look: event.look.map(look) };
    TagTold {
        name: tag.to_string(),
        digest: fact.digest,
        seen_at: fact.seen_at,
        checked_at: fact.checked_at,
        gone_at: fact.gone_at,
        newest,
        targets: targets.into_iter().map(target).collect(),
        history: history.into_iter().map(event).collect(),
        answer,
        why,
    }
}

/// The verdict that is remembered under what is in force, where it holds.
async fn stored(
    app: &App,
    in_force: &InForce,
    typed: &str,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<Judged>, Failure> {
    let record = app.admission.told(&in_force.judge, repository, digest).await?;
    Ok(record.map(|record| gather::of_record(typed, &record)))
}
