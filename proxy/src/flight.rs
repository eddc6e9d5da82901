//! One piece of work for everyone who wants its result at the same time.
//!
//! Nobody can end what is under way by leaving. So the request that begins it has its slot taken along until it ends (`stack`): there is no
//! more under way than requests may be. Who only joins takes no part in that.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use storage::Told;

use crate::{error::ApiError, stack};

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
    /// Those of the work; a fault when it panicked, or when the runtime closed before its end.
    pub async fn join<W>(&self, key: K, work: impl FnOnce() -> W) -> Outcome<V>
    where
        W: Future<Output = Outcome<V>> + Send + 'static,
    {
        let landed = self.begin(key, work);
        landed.until(Option::is_some).await.unwrap_or_else(|| Err(unfinished()))
    }

    fn begin<W>(&self, key: K, work: impl FnOnce() -> W) -> Landed<V>
    where
        W: Future<Output = Outcome<V>> + Send + 'static,
    {
        let landed = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(landed) = under_way.get(&key) {
                return Arc::clone(landed);
            }
            let landed = Landed::default();
            under_way.insert(key.clone(), Arc::clone(&landed));
            landed
        };
        // The board is free again: work that panics before it begins, or that a closing runtime does not take, lands here and now.
        let landing = Landing {
            under_way: Arc::clone(&self.under_way),
            key,
            outcome: Err(unfinished()),
            landed: Arc::clone(&landed),
        };
        let work = stack::carried(work());
        tokio::spawn(async move {
            let mut landing = landing;
            landing.outcome = work.await;
        });
        landed
    }
}

fn unfinished() -> ApiError {
    ApiError::Fault { message: "a task ended without a result".to_owned() }
}

/// Takes the key off the board and tells the result when the work ends, however it ends.
struct Landing<K: Eq + Hash, V> {
    under_way: Board<K, V>,
    key: K,
    /// No result, until there is one.
    outcome: Outcome<V>,
    landed: Landed<V>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        // Off the board before the result is told: who comes later begins anew, as the result may be old by then.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.landed.set(Some(std::mem::replace(&mut self.outcome, Err(unfinished()))));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::AssertUnwindSafe,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::FutureExt as _;
    use tokio::sync::{Semaphore, watch};

    use super::*;
    use crate::{listen::client::Client, stack::Slot};

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

    #[tokio::test]
    async fn who_joined_work_that_panics_is_told() {
        let flight = Flight::<u8, usize>::default();
        let (release, mut gate) = watch::channel(false);
        let leading = flight.join(1, || async move {
            gate.wait_for(|open| *open).await.unwrap();
            panic!("work")
        });
        let following = || flight.join(1, || async { Ok(1) });
        let opened = async { release.send(true).unwrap() };
        let (leader, first, second, ()) = tokio::join!(leading, following(), following(), opened);
        for outcome in [leader, first, second] {
            assert!(matches!(outcome, Err(ApiError::Fault { .. })), "{outcome:?}");
        }
        assert_eq!(following().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn who_begins_work_and_leaves_holds_a_slot_until_it_ends_and_who_joined_does_not() {
        let flight = Flight::<u8, usize>::default();
        let (release, gate) = watch::channel(false);
        let clients = [1, 2].map(|last| Client::alone([192, 0, 2, last].into(), 1));
        let [begins, joins] = &clients;
        for client in &clients {
            let own = Arc::clone(&client.slots).try_acquire_owned().unwrap();
            let everybodys = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            let slot = Arc::new(Slot::new(client, own, everybodys));
            let mut gate = gate.clone();
            let asking = flight.join(1, || async move {
                gate.wait_for(|open| *open).await.unwrap();
                Ok(7)
            });
            // Asked once, and left.
            assert!(slot.work(asking).now_or_never().is_none());
        }
        assert_eq!((begins.slots.available_permits(), joins.slots.available_permits()), (0, 1));
        release.send(true).unwrap();
        assert_eq!(flight.join(1, || async { Ok(8) }).await.unwrap(), 7);
        assert_eq!(begins.slots.available_permits(), 1);
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// What comes of `work` in a thread of its own. None: it does not end.
    fn ended<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(work()));
        told.recv_timeout(std::time::Duration::from_secs(10)).ok()
    }

    #[test]
    fn who_waits_for_work_whose_runtime_closes_is_told() {
        let (flight, working) = (Arc::new(Flight::<u8, usize>::default()), runtime());
        let who_have_it = || flight.under_way.lock().unwrap().get(&1).map_or(0, Arc::strong_count);
        let begun = Arc::clone(&flight);
        let leader = working.spawn(async move { begun.join(1, std::future::pending).await });
        // The board, the work and who began it; then who joined as well.
        while who_have_it() < 3 {
            std::thread::yield_now();
        }
        let joined = Arc::clone(&flight);
        let follower = std::thread::spawn(|| {
            ended(move || runtime().block_on(joined.join(1, || async { Ok(1) }))).expect("an end")
        });
        while who_have_it() < 4 {
            std::thread::yield_now();
        }
        drop(working);
        assert!(runtime().block_on(leader).unwrap_err().is_cancelled());
        let outcome = follower.join().unwrap();
        assert!(matches!(outcome, Err(ApiError::Fault { .. })), "{outcome:?}");
        assert_eq!(who_have_it(), 0);
    }

    #[test]
    fn work_that_is_begun_in_a_runtime_that_has_closed_is_a_fault() {
        let outcome = ended(|| {
            let flight = Flight::<u8, usize>::default();
            let closed = runtime();
            let handle = closed.handle().clone();
            drop(closed);
            let _entered = handle.enter();
            let mut joined = std::pin::pin!(flight.join(1, || async { Ok(1) }));
            let polled = joined.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            (polled, flight.under_way.lock().unwrap().len())
        });
        let (polled, left) = outcome.expect("an end");
        assert!(matches!(polled, std::task::Poll::Ready(Err(ApiError::Fault { .. }))), "{polled:?}");
        assert_eq!(left, 0);
    }

    #[test]
    fn work_that_panics_before_it_begins_holds_up_nobody() {
        let outcome = ended(|| {
            runtime().block_on(async {
                let flight = Flight::<u8, usize>::default();
                let failing = || -> std::future::Ready<Outcome<usize>> { panic!("before there is any work") };
                let failed = AssertUnwindSafe(flight.join(1, failing)).catch_unwind().await;
                (failed.is_err(), flight.join(1, || async { Ok(1) }).await)
            })
        });
        let (has_failed, next) = outcome.expect("an end");
        assert!(has_failed);
        assert_eq!(next.unwrap(), 1);
    }
}
