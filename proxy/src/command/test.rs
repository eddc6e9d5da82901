//! `policy test`: what would be decided about images under other policies, without serving them.

use std::sync::Arc;

use oci::{Descriptor, ManifestKind, Reference};
use policy::{Admitted, ChildOutcome, Judge, Manifest, Outcome};

use super::{
    answer::{Failure, Judged, Verdict},
    gather,
    image::Image,
    request::{PolicyText, Rules},
    rules,
};
use crate::{
    app::{App, InForce},
    collect::About,
    evidence::Subject,
};

pub(super) async fn test(
    app: &Arc<App>,
    policies: &[PolicyText],
    images: &[String],
) -> Result<Vec<Result<Judged, Failure>>, Failure> {
    let in_force = app.in_force();
    let rules::Loaded { set, .. } = rules::of_files(&in_force, policies)?;
    let judge = Arc::new(rules::judge(&in_force, set, &Rules::default())?);
    let mut tested = Vec::with_capacity(images.len());
    for image in images {
        match one(app, &in_force, &judge, image).await {
            Ok(judged) => tested.extend(judged),
            Err(failure) => tested.push(Err(failure)),
        }
    }
    Ok(tested)
}

/// What would be decided about an image; and where it is an index, about each platform of which something is asked besides.
async fn one(
    app: &Arc<App>,
    in_force: &Arc<InForce>,
    judge: &Arc<Judge>,
    image: &str,
) -> Result<Vec<Result<Judged, Failure>>, Failure> {
    let image = Image::parse(image, in_force)?;
    let subject = gather::subject(app, in_force, &image, None).await?;
    let gathered = gather::evidence(app, in_force, judge, &subject, None).await;
    let (judging, typed, now) = (Arc::clone(judge), image.typed.clone(), app.clock.now());
    let manifest = Arc::clone(&subject.manifest);
    let is_by_digest = matches!(image.reference, Reference::Digest(_));
    let (mut judged, index) = gather::judging(move || {
        let (repository, digest) = (&subject.repository, subject.digest());
        let assessment = judging.assess(repository, digest, &gathered.evidence, now);
        let judged = gather::judged(&typed, repository, digest, &assessment);
        let is_open = judged.verdict.serves() && matches!(subject.manifest.kind(), ManifestKind::Index { .. });
        let admitted = is_open.then(|| {
            match judging.admit(repository, subject.manifest.as_ref().clone(), &gathered.evidence, now).outcome {
                Outcome::Admitted(admitted) => Some(Arc::new(admitted)),
                Outcome::Refused(_) | Outcome::Absent(_) | Outcome::Undecided(_) => None,
            }
        });
        (judged, admitted.flatten())
    })
    .await?;
    if is_by_digest && matches!(judged.verdict, Verdict::Absent | Verdict::Refused) {
        let more = "only its own evidence was looked at; an index that lists it and is served lets it in, too";
        judged.hint = Some(judged.hint.map_or_else(|| more.to_owned(), |hint| format!("{hint}; {more}")));
    }
    let mut all = vec![Ok(judged)];
    let (Some(index), ManifestKind::Index { manifests }) = (index, manifest.kind()) else { return Ok(all) };
    for child in manifests.iter().filter(|child| !judge.besides(&index, &child.digest).is_empty()) {
        all.push(platform(app, in_force, judge, (&image.typed, &index), child).await);
    }
    Ok(all)
}

/// What would be decided about a platform through its index.
async fn platform(
    app: &Arc<App>,
    in_force: &Arc<InForce>,
    judge: &Arc<Judge>,
    (typed, index): (&str, &Arc<Admitted<Manifest>>),
    child: &Descriptor,
) -> Result<Judged, Failure> {
    let (repository, now) = (index.repository(), app.clock.now());
    let upstream = in_force.upstream(repository.upstream())?;
    let manifest = app.resolver.manifest(&upstream, repository, &child.digest).await?;
    let mut judgement = judge.admit_child(index, manifest.as_ref().clone(), None, now);
    if let ChildOutcome::NeedsEvidence(wanted) = &judgement.outcome {
        let about = About::Through(Arc::clone(index), Box::new(manifest.as_ref().clone()));
        let subject = Subject { repository, manifest: &manifest };
        let offered = app.admission.offered(in_force, (judge, about), subject, wanted, None).await;
        let (judge, index, child) = (Arc::clone(judge), Arc::clone(index), manifest.as_ref().clone());
        let judging = move || judge.admit_child(&index, child, Some(&offered.evidence), now);
        judgement = gather::judging(judging).await?;
    }
    let named = child.platform.as_ref().map_or_else(|| child.digest.to_string(), gather::written);
    let judged = gather::judged_through(&format!("{typed} ({named})"), repository, &child.digest, &judgement);
    judged.ok_or_else(|| Failure::no(format!("{}: the index lists another manifest", child.digest)))
}
