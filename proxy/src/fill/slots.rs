//! Who may download next: so many at one time, no repository and no upstream more than its share of them, and of those who wait one
//! repository after the other.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci::{Repository, UpstreamName};
use tokio::sync::oneshot;

/// The places among the downloads that may be under way at one time.
pub(super) struct Slots {
    state: Arc<Mutex<State>>,
}

/// One of them, given back when dropped.
pub(super) struct Slot {
    state: Arc<Mutex<State>>,
    repository: Repository,
}

struct State {
    free: usize,
    each_max: usize,
    held: HashMap<Repository, usize>,
    each_upstream_max: usize,
    held_of: HashMap<UpstreamName, usize>,
    /// Repositories that wait, the next one first.
    waiting: VecDeque<Queue>,
}

struct Queue {
    repository: Repository,
    places: VecDeque<oneshot::Sender<Slot>>,
}

impl Slots {
    /// `max` of them, of which one repository holds `each_max` at most.
    pub(super) fn new(max: usize, each_max: usize) -> Self {
        let state = State {
            free: max,
            each_max,
            held: HashMap::new(),
            each_upstream_max: max,
            held_of: HashMap::new(),
            waiting: VecDeque::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// From now on one upstream is given no more than `max`. Who has more keeps them.
    pub(super) fn set_upstream_share(&self, max: usize) {
        lock(&self.state).each_upstream_max = max;
        give(&self.state);
    }

    /// Stands in line for a download from `repository`. Who drops the receiver leaves the line.
    pub(super) fn queue(&self, repository: &Repository) -> oneshot::Receiver<Slot> {
        let (place, slot) = oneshot::channel();
        let mut state = lock(&self.state);
        if let Some(queue) = state.waiting.iter_mut().find(|queue| queue.repository == *repository) {
            queue.places.push_back(place);
        } else {
            let queue = Queue { repository: repository.clone(), places: VecDeque::from([place]) };
            state.waiting.push_back(queue);
        }
        drop(state);
        give(&self.state);
        slot
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.state).returned(&self.repository);
        give(&self.state);
    }
}

impl State {
    fn returned(&mut self, repository: &Repository) {
        self.free += 1;
        one_less(&mut self.held, repository);
        one_less(&mut self.held_of, repository.upstream());
    }

    /// Takes a free slot for the next in turn, if there are both.
    fn next(&mut self) -> Option<(Repository, oneshot::Sender<Slot>)> {
        self.waiting.retain_mut(|queue| {
            queue.places.retain(|place| !place.is_closed());
            !queue.places.is_empty()
        });
        if self.free == 0 {
            return None;
        }
        let has_share = |repository: &Repository| {
            self.held.get(repository).copied().unwrap_or(0) < self.each_max
                && self.held_of.get(repository.upstream()).copied().unwrap_or(0) < self.each_upstream_max
        };
        let at = self.waiting.iter().position(|queue| has_share(&queue.repository))?;
        let mut queue = self.waiting.remove(at)?;
        let (place, repository) = (queue.places.pop_front()?, queue.repository.clone());
        if !queue.places.is_empty() {
            self.waiting.push_back(queue);
        }
        self.free -= 1;
        *self.held.entry(repository.clone()).or_default() += 1;
        *self.held_of.entry(repository.upstream().clone()).or_default() += 1;
        Some((repository, place))
    }
}

fn one_less<K: Eq + Hash>(held: &mut HashMap<K, usize>, who: &K) {
    if let Some(many) = held.get_mut(who) {
        *many -= 1;
        if *many == 0 {
            held.remove(who);
        }
    }
}

/// Hands out what is free. Nothing is sent under the lock: a slot that nobody takes gives itself back.
fn give(state: &Arc<Mutex<State>>) {
    loop {
        let Some((repository, place)) = lock(state).next() else { return };
        drop(place.send(Slot { state: Arc::clone(state), repository }));
    }
}

/// A panic elsewhere leaves the numbers whole: each step changes them under one lock.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Repository {
        Repository::new("cgr.dev".parse().unwrap(), name.parse().unwrap())
    }

    fn taken(place: &mut oneshot::Receiver<Slot>) -> Option<Slot> {
        place.try_recv().ok()
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let slots = Slots::new(2, 2);
        let mut places: Vec<_> = (0..3).map(|_| slots.queue(&repository("a"))).collect();
        let held: Vec<_> = places.iter_mut().filter_map(taken).collect();
        assert_eq!(held.len(), 2);
        drop(held);
        assert!(taken(&mut places[2]).is_some());
    }

    #[test]
    fn a_repository_with_many_missing_blobs_does_not_hold_up_another() {
        let slots = Slots::new(1, 1);
        let first = slots.queue(&repository("many")).try_recv().unwrap();
        let mut many: Vec<_> = (0..300).map(|_| slots.queue(&repository("many"))).collect();
        let mut few = [slots.queue(&repository("few")), slots.queue(&repository("few"))];
        drop(first);
        let mut order = Vec::new();
        for _ in 0..5 {
            let (from, slot) = many
                .iter_mut()
                .map(|place| ("many", taken(place)))
                .chain(few.iter_mut().map(|place| ("few", taken(place))))
                .find_map(|(from, slot)| Some((from, slot?)))
                .unwrap();
            order.push(from);
            drop(slot);
        }
        assert_eq!(order, ["many", "few", "many", "few", "many"]);
    }

    #[test]
    fn a_repository_holds_no_more_than_its_share_even_where_nobody_else_waits() {
        let slots = Slots::new(3, 2);
        let mut many: Vec<_> = (0..3).map(|_| slots.queue(&repository("many"))).collect();
        let held: Vec<_> = many.iter_mut().filter_map(taken).collect();
        assert_eq!(held.len(), 2);
        assert!(slots.queue(&repository("few")).try_recv().is_ok(), "the third is for others");
        drop(held);
        assert!(taken(&mut many[2]).is_some());
    }

    #[test]
    fn an_upstream_holds_no_more_than_its_share_however_many_repositories_it_has() {
        let slots = Slots::new(3, 2);
        slots.set_upstream_share(2);
        let mut slow: Vec<_> = ["a", "b", "c"].iter().map(|name| slots.queue(&repository(name))).collect();
        let mut held: Vec<_> = slow.iter_mut().filter_map(taken).collect();
        assert_eq!(held.len(), 2);
        let other = Repository::new("other.example".parse().unwrap(), "a".parse().unwrap());
        assert!(slots.queue(&other).try_recv().is_ok(), "the third is for other upstreams");
        held.pop();
        assert!(taken(&mut slow[2]).is_some());
        // Where there is no other any more, nothing is left to others.
        let mut more: Vec<_> = (0..2).map(|_| slots.queue(&repository("d"))).collect();
        let one_more: Vec<_> = more.iter_mut().filter_map(taken).collect();
        assert_eq!(one_more.len(), 1);
        slots.set_upstream_share(3);
        assert!(taken(&mut more[1]).is_some());
    }

    #[test]
    fn who_left_the_line_costs_no_slot() {
        let slots = Slots::new(1, 1);
        let first = slots.queue(&repository("a")).try_recv().unwrap();
        drop((slots.queue(&repository("a")), slots.queue(&repository("b"))));
        let mut last = slots.queue(&repository("c"));
        drop(first);
        assert!(taken(&mut last).is_some());
        assert!(lock(&slots.state).waiting.is_empty());
    }

    #[test]
    fn a_slot_that_is_never_looked_at_is_given_back() {
        let slots = Slots::new(1, 1);
        let first = slots.queue(&repository("a"));
        let mut second = slots.queue(&repository("a"));
        drop(first);
        assert!(taken(&mut second).is_some());
        let state = lock(&slots.state);
        assert_eq!((state.free, state.held.len(), state.held_of.len()), (1, 0, 0));
    }
}
