//! Who is judging by the evidence about an image.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci::{Digest, Repository};

type Key = (Repository, Digest);

/// How many judgements are under way, by image.
#[derive(Default)]
pub(super) struct Holds(Arc<Mutex<HashMap<Key, usize>>>);

/// One judgement, from before its evidence is read or collected until it is remembered.
pub(super) struct Hold {
    holds: Arc<Mutex<HashMap<Key, usize>>>,
    key: Key,
}

impl Holds {
    pub(super) fn hold(&self, repository: &Repository, subject: &Digest) -> Hold {
        let key = (repository.clone(), subject.clone());
        *locked(&self.0).entry(key.clone()).or_default() += 1;
        Hold { holds: Arc::clone(&self.0), key }
    }
}

impl Hold {
    /// Whether another judgement of the same image is under way.
    pub(super) fn is_shared(&self) -> bool {
        locked(&self.holds).get(&self.key).is_some_and(|count| *count > 1)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = locked(&self.holds);
        if let Some(count) = holds.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.key);
            }
        }
    }
}

fn locked(holds: &Mutex<HashMap<Key, usize>>) -> MutexGuard<'_, HashMap<Key, usize>> {
    holds.lock().unwrap_or_else(PoisonError::into_inner)
}
