//! What upstream is out for, and until when: by a 5xx that names a time, for what it was asked for, of that repository.
//!
//! Such an answer may come from what is in front of all of upstream, or from what only this question leads to: a storage, a service of its own,
//! another registry behind this one. Which of them it was it does not say. Held for everything, it would stop pulls that nothing is
//! wrong with; held for what was asked, an upstream that is out as a whole is asked once for each of these in the time that it named.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use oci::RepositoryPath;
use tokio::time::Instant;

use super::error::Kind;

/// What is remembered. Names come from clients, so there must be an end to them; what is forgotten is asked for once more.
const PLACES_MAX: usize = 1024;

/// What was asked for, and of which repository.
pub(super) type Place = (RepositoryPath, Kind);

/// Until when not to ask for what.
#[derive(Default)]
pub(super) struct Outages {
    until: Mutex<HashMap<Place, Instant>>,
}

impl Outages {
    /// How long upstream is still not to be asked for this.
    pub(super) fn left(&self, place: &Place) -> Option<Duration> {
        let until = *self.lock().get(place)?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Upstream is out for this. Whether that is new.
    pub(super) fn hold(&self, place: &Place, pause: Duration) -> bool {
        let now = Instant::now();
        let mut places = self.lock();
        let former = places.get(place).copied().filter(|until| *until > now);
        if places.len() >= PLACES_MAX {
            places.retain(|_, until| *until > now);
        }
        if former.is_some() || places.len() < PLACES_MAX {
            // Answers that were on their way when it began do not end it sooner than it said.
            let until = former.map_or(now + pause, |until| until.max(now + pause));
            places.insert(place.clone(), until);
        }
        former.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Instant>> {
        // No code panics while it holds the lock, and a map is whole after any of its operations.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, what: Kind) -> Place {
        (name.parse().unwrap(), what)
    }

    const PAUSE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_of_one_kind_in_one_repository_until_its_time_is_over() {
        let outages = Outages::default();
        let manifest = place("a", Kind::Manifest);
        assert!(outages.hold(&manifest, PAUSE));
        assert!(!outages.hold(&manifest, Duration::from_secs(1)), "it is known, and not shorter");
        assert_eq!(outages.left(&manifest), Some(PAUSE));
        for other in [place("b", Kind::Manifest), place("a", Kind::Head), place("a/b", Kind::Manifest)] {
            assert_eq!(outages.left(&other), None, "{other:?}");
        }
        tokio::time::advance(PAUSE).await;
        assert_eq!(outages.left(&manifest), None);
        assert!(outages.hold(&manifest, PAUSE), "again");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_outages_are_remembered_than_there_is_room_for_and_those_that_are_over_make_room() {
        let outages = Outages::default();
        for n in 0..PLACES_MAX {
            outages.hold(&place(&format!("a{n}"), Kind::Blob), PAUSE);
        }
        let one_more = place("b", Kind::Blob);
        outages.hold(&one_more, PAUSE);
        assert_eq!(outages.left(&one_more), None);
        assert!(outages.left(&place("a0", Kind::Blob)).is_some());
        outages.hold(&place("a0", Kind::Blob), 2 * PAUSE);
        tokio::time::advance(PAUSE).await;
        assert_eq!(outages.left(&place("a0", Kind::Blob)), Some(PAUSE), "what is known is kept");
        outages.hold(&one_more, PAUSE);
        assert_eq!(outages.left(&one_more), Some(PAUSE));
        assert_eq!(outages.lock().len(), 2);
    }
}
