//! One piece of work for everyone who wants its result at the same time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use storage::Told;

use crate::error::ApiError;

/// Work under way, by key. The work runs in a task of its own: who asked first may leave, the others still get the result.
pub struct Flight<K, V> {
    under_way: Board<K, V>,
}

type Outcome<V> = Result<V, ApiError>;
type Landed<V> = Arc<Told<Option<Outcome<V>>>>;
type Board<K, V> = Arc<Mutex<HashMap<K, Landed<V>>>>;

impl<K, V> Default for Flight<K, V> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<K, V> Flight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The result of the work under `key`: joined where it is under way, else begun with `work`.
    ///
    /// # Errors
    /// Those of the work; a fault when it panicked.
    pub async fn join<W>(&self, key: K, work: impl FnOnce() -> W) -> Outcome<V>
    where
        W: Future<Output = Outcome<V>> + Send + 'static,
    {
        let landed = self.begin(key, work);
        landed.until(Option::is_some).await.unwrap_or_else(|| Err(panicked()))
    }

    fn begin<W>(&self, key: K, work: impl FnOnce() -> W) -> Landed<V>
    where
        W: Future<Output = Outcome<V>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landed) = under_way.get(&key) {
            return Arc::clone(landed);
        }
        let landed = Landed::default();
        under_way.insert(key.clone(), Arc::clone(&landed));
        let landing = Landing {
            under_way: Arc::clone(&self.under_way),
            key,
            outcome: Err(panicked()),
            landed: Arc::clone(&landed),
        };
        let work = work();
        tokio::spawn(async move {
            let mut landing = landing;
            landing.outcome = work.await;
        });
        landed
    }
}

fn panicked() -> ApiError {
    ApiError::Fault { message: "a task ended without a result".to_owned() }
}

/// Takes the key off the board and tells the result when the work ends, however it ends.
struct Landing<K: Eq + Hash, V> {
    under_way: Board<K, V>,
    key: K,
    /// A panic, until there is another.
    outcome: Outcome<V>,
    landed: Landed<V>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        // Off the board before the result is told: who comes later begins anew, as the result may be old by then.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.landed.set(Some(std::mem::replace(&mut self.outcome, Err(panicked()))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_piece_of_work() {
        let flight = Flight::<u8, usize>::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let (release, gate) = watch::channel(false);
        let ask = || {
            let (calls, mut gate) = (Arc::clone(&calls), gate.clone());
            flight.join(1, move || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                gate.wait_for(|open| *open).await.unwrap();
                Ok(7)
            })
        };
        let opened = async { release.send(true).unwrap() };
        let (a, b, c, ()) = tokio::join!(ask(), ask(), ask(), opened);
        assert_eq!([a, b, c].map(Result::unwrap), [7, 7, 7]);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(ask().await.unwrap(), 7);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_and_does_not_block_the_key() {
        let flight = Flight::<u8, usize>::default();
        let result = flight.join(1, || async { panic!("work") }).await;
        assert!(matches!(result, Err(ApiError::Fault { .. })));
        assert_eq!(flight.join(1, || async { Ok(1) }).await.unwrap(), 1);
    }
}
