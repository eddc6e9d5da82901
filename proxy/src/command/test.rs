//! `policy test`: what would be decided about images under other policies, without serving them.

use std::sync::Arc;

use policy::Judge;

use super::{
    answer::{Failure, Judged},
    gather,
    image::Image,
    request::{PolicyText, Rules},
    rules,
};
use crate::app::{App, InForce};

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
        tested.push(one(app, &in_force, &judge, image).await);
    }
    Ok(tested)
}

async fn one(app: &Arc<App>, in_force: &Arc<InForce>, judge: &Arc<Judge>, image: &str) -> Result<Judged, Failure> {
    let image = Image::parse(image, in_force)?;
    let subject = gather::subject(app, in_force, &image, None).await?;
    let gathered = gather::evidence(app, in_force, judge, &subject, None).await;
    let (judge, now) = (Arc::clone(judge), app.clock.now());
    gather::judging(move || {
        let assessment = judge.assess(&subject.repository, subject.digest(), &gathered.evidence, now);
        gather::judged(&image.typed, &subject.repository, subject.digest(), &assessment)
    })
    .await
}
