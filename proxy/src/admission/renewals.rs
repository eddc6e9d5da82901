//! Verdicts that will end, of images that are asked for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use oci::{Digest, Repository, UnixTime};

/// When verdicts are to be made anew, the next first. An image is in it once.
pub(super) struct Renewals {
    max: usize,
    planned: Mutex<Planned>,
}

#[derive(Default)]
struct Planned {
    by_time: BTreeSet<(UnixTime, Repository, Digest)>,
    /// When it is due, and when the verdict ends.
    by_image: HashMap<(Repository, Digest), (UnixTime, UnixTime)>,
}

impl Renewals {
    /// Room for `max` of them; others are made anew when they are asked for.
    pub(super) fn new(max: usize) -> Self {
        Self { max, planned: Mutex::default() }
    }

    /// Somebody got this image, by a verdict that ends then: it is due when a quarter of what is left now remains.
    pub(super) fn plan(&self, repository: &Repository, digest: &Digest, ends: UnixTime, now: UnixTime) {
        let Some(left) = ends.since(now) else { return };
        let due = now.plus(left / 4 * 3);
        let image = (repository.clone(), digest.clone());
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        match planned.by_image.get(&image) {
            // The same verdict, asked for again.
            Some((_, known)) if *known == ends => return,
            Some((due, _)) => {
                let former = (*due, image.0.clone(), image.1.clone());
                planned.by_time.remove(&former);
            }
            None if planned.by_image.len() >= self.max => return,
            None => {}
        }
        planned.by_time.insert((due, image.0.clone(), image.1.clone()));
        planned.by_image.insert(image, (due, ends));
    }

    /// The next that is due, and when its verdict ends.
    pub(super) fn take(&self, now: UnixTime) -> Option<(Repository, Digest, UnixTime)> {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        if planned.by_time.first()?.0 > now {
            return None;
        }
        let (_, repository, digest) = planned.by_time.pop_first()?;
        let (_, ends) = planned.by_image.remove(&(repository.clone(), digest.clone()))?;
        Some((repository, digest, ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_millis(seconds * 1000)
    }

    fn image(name: &str) -> (Repository, Digest) {
        ("cgr.dev/chainguard/nginx".parse().unwrap(), Digest::sha256(name.as_bytes()))
    }

    fn taken(renewals: &Renewals, now: u64) -> Option<(Digest, UnixTime)> {
        renewals.take(at(now)).map(|(_, digest, ends)| (digest, ends))
    }

    #[test]
    fn a_verdict_is_due_when_a_quarter_of_it_is_left_and_once() {
        let renewals = Renewals::new(10);
        let (repository, digest) = image("a");
        renewals.plan(&repository, &digest, at(400), at(0));
        // Whoever asks later does not put it off.
        renewals.plan(&repository, &digest, at(400), at(299));
        assert_eq!(taken(&renewals, 299), None);
        assert_eq!(taken(&renewals, 300), Some((digest.clone(), at(400))));
        assert_eq!(taken(&renewals, 1000), None, "nobody has asked since");
        renewals.plan(&repository, &digest, at(800), at(400));
        renewals.plan(&repository, &digest, at(1600), at(800));
        assert_eq!(taken(&renewals, 700), None, "another verdict took the place of the one that was due");
        assert_eq!(taken(&renewals, 1400), Some((digest, at(1600))));
    }

    #[test]
    fn what_has_ended_is_not_planned_and_the_plan_is_bounded() {
        let renewals = Renewals::new(2);
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            let (repository, digest) = image(name);
            renewals.plan(&repository, &digest, at(5), at(6));
            renewals.plan(&repository, &digest, at(100 + n as u64 * 4), at(0));
        }
        assert_eq!(taken(&renewals, 1000).map(|(digest, _)| digest), Some(image("a").1));
        assert_eq!(taken(&renewals, 1000).map(|(digest, _)| digest), Some(image("b").1));
        assert_eq!(taken(&renewals, 1000), None);
    }
}
