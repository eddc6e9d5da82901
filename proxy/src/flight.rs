//! One piece of work for everyone who wants its result at the same time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::error::ApiError;

/// Work under way, by key. The work runs in a task of its own: who asked first may leave, the others still get the result.
pub struct Flight<K, V> {
    under_way: Board<K, V>,
}

type Outcome<V> = Result<V, ApiError>;
type Board<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<Outcome<V>>>>>>;

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
        let mut receiver = self.begin(key, work);
        let outcome = receiver.wait_for(Option::is_some).await;
        match outcome {
            Ok(value) => value.clone().unwrap_or_else(|| Err(panicked())),
            Err(_) => Err(panicked()),
        }
    }

    fn begin<W>(&self, key: K, work: impl FnOnce() -> W) -> watch::Receiver<Option<Outcome<V>>>
    where
        W: Future<Output = Outcome<V>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = under_way.get(&key) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        let landing = Landing { under_way: Arc::clone(&self.under_way), key };
        let work = work();
        tokio::spawn(async move {
            let outcome = work.await;
            // Off the board before the result is told: who comes later begins anew, as the result may be old by then.
            drop(landing);
            sender.send_replace(Some(outcome));
        });
        receiver
    }
}

fn panicked() -> ApiError {
    ApiError::Fault { message: "a task ended without a result".to_owned() }
}

/// Takes the key off the board when the work ends, however it ends.
struct Landing<K: Eq + Hash, V> {
    under_way: Board<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
