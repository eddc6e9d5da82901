//! Verdicts that will end, of images that are asked for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use oci::{Digest, Repository, UnixTime};
use policy::{Admitted, Manifest};

/// A verdict that ends by itself, on something that somebody got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) repository: Repository,
    /// On this image, or on this index that the image was reached through.
    pub(crate) digest: Digest,
    /// The indexes, outermost first, through which that was reached.
    pub(crate) path: Vec<Digest>,
    pub(crate) ends: UnixTime,
}

impl Ending {
    /// What is to be made anew for this to go on, where it ends at all.
    pub(super) fn of(admitted: &Admitted<Manifest>) -> Option<Self> {
        let first = admitted.first_to_end()?;
        let (repository, digest, path) = (admitted.repository().clone(), first.digest.clone(), first.path.to_vec());
        Some(Self { repository, digest, path, ends: first.ends })
    }

    fn image(&self) -> (Repository, Digest) {
        (self.repository.clone(), self.digest.clone())
    }
}

/// When verdicts are to be made anew, the next first. An image is in it once.
pub(super) struct Renewals {
    max: usize,
    planned: Mutex<Planned>,
}

#[derive(Default)]
struct Planned {
    by_time: BTreeSet<(UnixTime, Repository, Digest)>,
    /// When it is due.
    by_image: HashMap<(Repository, Digest), (UnixTime, Ending)>,
}

impl Renewals {
    /// Room for `max` of them; others are made anew when they are asked for.
    pub(super) fn new(max: usize) -> Self {
        Self { max, planned: Mutex::default() }
    }

    /// Somebody got this image, by a verdict that ends then: it is due when a quarter of what is left now remains.
    pub(super) fn plan(&self, ending: Ending, now: UnixTime) {
        // The same verdict, asked for again. Another one takes the place of the one that was planned.
        self.put(ending, now, |known, ending| known.ends == ending.ends);
    }

    /// One that was taken could not be made anew: it is due when a quarter of what is left now remains. Whatever was planned meanwhile is
    /// newer.
    pub(super) fn plan_again(&self, ending: Ending, now: UnixTime) {
        self.put(ending, now, |_, _| true);
    }

    fn put(&self, ending: Ending, now: UnixTime, stays: impl FnOnce(&Ending, &Ending) -> bool) {
        let Some(left) = ending.ends.since(now) else { return };
        let due = now.plus(left / 4 * 3);
        let image = ending.image();
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        match planned.by_image.get(&image) {
            Some((_, known)) if stays(known, &ending) => return,
            Some((due, _)) => {
                let former = (*due, image.0.clone(), image.1.clone());
                planned.by_time.remove(&former);
            }
            None if planned.by_image.len() >= self.max => return,
            None => {}
        }
        planned.by_time.insert((due, image.0.clone(), image.1.clone()));
        planned.by_image.insert(image, (due, ending));
    }

    /// The next that is due.
    pub(super) fn take(&self, now: UnixTime) -> Option<Ending> {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        if planned.by_time.first()?.0 > now {
            return None;
        }
        let (_, repository, digest) = planned.by_time.pop_first()?;
        planned.by_image.remove(&(repository, digest)).map(|(_, ending)| ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_millis(seconds * 1000)
    }

    fn ending(name: &str, ends: u64) -> Ending {
        let repository = "cgr.dev/chainguard/nginx".parse().unwrap();
        Ending { repository, digest: Digest::sha256(name.as_bytes()), path: Vec::new(), ends: at(ends) }
    }

    #[test]
    fn a_verdict_is_due_when_a_quarter_of_it_is_left_and_once() {
        let renewals = Renewals::new(10);
        renewals.plan(ending("a", 400), at(0));
        // Whoever asks later does not put it off.
        renewals.plan(ending("a", 400), at(299));
        assert_eq!(renewals.take(at(299)), None);
        assert_eq!(renewals.take(at(300)), Some(ending("a", 400)));
        assert_eq!(renewals.take(at(1000)), None, "nobody has asked since");
        renewals.plan(ending("a", 800), at(400));
        renewals.plan(ending("a", 1600), at(800));
        assert_eq!(renewals.take(at(700)), None, "another verdict took the place of the one that was due");
        assert_eq!(renewals.take(at(1400)), Some(ending("a", 1600)));
    }

    #[test]
    fn one_that_could_not_be_made_anew_is_due_again_before_its_end() {
        let renewals = Renewals::new(10);
        renewals.plan(ending("a", 400), at(0));
        for due in [300, 375] {
            assert_eq!(renewals.take(at(due - 1)), None);
            assert_eq!(renewals.take(at(due)), Some(ending("a", 400)));
            renewals.plan_again(ending("a", 400), at(due));
        }
        // Somebody judged it meanwhile.
        renewals.plan(ending("a", 800), at(390));
        renewals.plan_again(ending("a", 400), at(391));
        assert_eq!(renewals.take(at(400)), None);
        assert_eq!(renewals.take(at(800)), Some(ending("a", 800)));
    }

    #[test]
    fn what_has_ended_is_not_planned_and_the_plan_is_bounded() {
        let renewals = Renewals::new(2);
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            renewals.plan(ending(name, 5), at(6));
            renewals.plan(ending(name, 100 + n as u64 * 4), at(0));
        }
        assert_eq!(renewals.take(at(1000)), Some(ending("a", 100)));
        assert_eq!(renewals.take(at(1000)), Some(ending("b", 104)));
        assert_eq!(renewals.take(at(1000)), None);
    }
}
