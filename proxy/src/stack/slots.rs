//! Room for requests: each has a slot while it is worked on, waits a while for one where there is none, and is told to come again then.
//!
//! Work that a request began and that goes on without it holds the slot as well: who asks and leaves at once has no more under way than
//! who stays.

use std::{sync::Arc, time::Duration};

use config::Limits;
use futures_util::future::Either;
use metrics::{counter, gauge};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    error::{ApiError, Crowd},
    listen::client::Client,
    seldom::Seldom,
};

/// All slots, and the queue before them.
pub(super) struct Slots {
    all: Arc<Semaphore>,
    waiting: Semaphore,
    patience: Duration,
    requests_max: usize,
    per_client_max: usize,
    waiting_max: usize,
    told: Seldom,
}

tokio::task_local! {
    /// The slot of the request that is being worked on.
    static HELD: Arc<Slot>;
}

/// What a request holds while it is worked on: one of its client's, and one of everybody's.
pub(crate) struct Slot {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
    /// Known as long as it has something under way: it could hang up and come again as somebody else.
    _client: Arc<Client>,
}

impl Slot {
    pub(crate) fn new(client: &Arc<Client>, own: OwnedSemaphorePermit, shared: OwnedSemaphorePermit) -> Self {
        Self { _own: own, _shared: shared, _client: Arc::clone(client) }
    }

    /// Works on the request that has this slot.
    pub(crate) fn work<F: Future>(self: &Arc<Self>, work: F) -> impl Future<Output = F::Output> + use<F> {
        HELD.scope(Arc::clone(self), work)
    }
}

/// `work`, for a task of its own: it holds the slot of the request that begins it until it ends, and so does what it begins in turn. Work
/// that no request begins has none. Nothing is waited for here, so that work for one request never stands in line behind another.
// No `async fn`: that would hold `work` twice.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    match HELD.try_with(Arc::clone) {
        Ok(slot) => Either::Left(HELD.scope(slot, work)),
        Err(_) => Either::Right(work),
    }
}

/// Counts somebody as waiting as long as it is there.
struct Counted;

impl Counted {
    fn new() -> Self {
        gauge!("pratique_requests_waiting").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gauge!("pratique_requests_waiting").decrement(1);
    }
}

impl Slots {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.requests_max)),
            waiting: Semaphore::new(limits.requests_waiting_max),
            patience: limits.queue_timeout,
            requests_max: limits.requests_max,
            per_client_max: limits.requests_per_client_max,
            waiting_max: limits.requests_waiting_max,
            told: Seldom::new(),
        }
    }

    /// A slot for one request of `client`, within `limits.queue_timeout`.
    ///
    /// # Errors
    /// When it has none by then, or may not even wait.
    pub(super) async fn enter(&self, client: &Arc<Client>) -> Result<Slot, ApiError> {
        let own = Arc::clone(&client.slots).try_acquire_owned();
        let own = match (own, Arc::clone(&self.all).try_acquire_owned()) {
            (Ok(own), Ok(shared)) => return Ok(Slot::new(client, own, shared)),
            // Given back if there was one of everybody's: it is not held while the client's own is waited for.
            (own, _) => own.ok(),
        };
        self.wait(client, own).await.map_err(|(crowd, max)| self.shed(client, crowd, max))
    }

    async fn wait(&self, client: &Arc<Client>, own: Option<OwnedSemaphorePermit>) -> Result<Slot, (Crowd, usize)> {
        let too_many = (Crowd::Client, self.per_client_max);
        let _place = client.places.try_acquire().map_err(|_| too_many)?;
        let _waiting = self.waiting.try_acquire().map_err(|_| (Crowd::Waiting, self.waiting_max))?;
        let _counted = Counted::new();
        let deadline = Instant::now() + self.patience;
        let own = match own {
            Some(own) => own,
            None => in_time(deadline, &client.slots).await.ok_or(too_many)?,
        };
        let shared = in_time(deadline, &self.all).await.ok_or((Crowd::All, self.requests_max))?;
        Ok(Slot::new(client, own, shared))
    }

    fn shed(&self, client: &Client, crowd: Crowd, max: usize) -> ApiError {
        counter!("pratique_requests_shed_total", "why" => crowd.label()).increment(1);
        let error = ApiError::Overloaded { crowd, max };
        if let Some(times) = self.told.times() {
            tracing::warn!(client = %client.address, times, "told to come again: {error}");
        }
        error
    }
}

async fn in_time(deadline: Instant, slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    timeout_at(deadline, Arc::clone(slots).acquire_owned()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn slots(requests_max: usize, requests_waiting_max: usize) -> Arc<Slots> {
        let limits = Limits { requests_max, requests_waiting_max, queue_timeout: PATIENCE, ..Limits::default() };
        Arc::new(Slots::new(&limits))
    }

    fn client(last: u8, requests_max: usize) -> Arc<Client> {
        Client::alone([192, 0, 2, last].into(), requests_max)
    }

    /// What came of it, and after how many seconds.
    async fn entered(slots: &Slots, client: &Arc<Client>) -> (u16, u64) {
        let began = Instant::now();
        let status = slots.enter(client).await.map_or_else(|error| error.status().as_u16(), |_| 200);
        (status, began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_slot() {
        let (slots, one) = (slots(1, 9), client(1, 9));
        let slot = slots.enter(&one).await.unwrap();
        tokio::spawn(async move {
            sleep(Duration::from_secs(3)).await;
            drop(slot);
        });
        assert_eq!(entered(&slots, &client(2, 9)).await, (200, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_beyond_its_own_limit_waits_and_is_told_429_and_others_pass_at_once() {
        let (slots, one) = (slots(9, 9), client(1, 2));
        let _held = (slots.enter(&one).await.unwrap(), slots.enter(&one).await.unwrap());
        assert_eq!(entered(&slots, &one).await, (429, 5));
        assert_eq!(entered(&slots, &client(2, 2)).await, (200, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_slots_are_taken_everybody_waits_and_is_told_503() {
        let (slots, one) = (slots(1, 9), client(1, 9));
        let _held = slots.enter(&one).await.unwrap();
        assert_eq!(entered(&slots, &client(2, 9)).await, (503, 5));
        let error = slots.enter(&one).await.map(drop).unwrap_err();
        assert_eq!((error.retry_after(), error.code()), (Some(1), "UNAVAILABLE"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_the_queue_full_is_told_at_once() {
        let (slots, one) = (slots(1, 2), client(1, 9));
        let _held = slots.enter(&one).await.unwrap();
        for last in [2, 3] {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { slots.enter(&client(last, 9)).await.map(drop) });
        }
        tokio::task::yield_now().await;
        assert_eq!(entered(&slots, &client(4, 9)).await, (503, 0));
        sleep(PATIENCE * 2).await;
        assert_eq!(entered(&slots, &client(4, 9)).await, (503, 5), "those before have left the queue");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_cannot_fill_the_queue() {
        let (slots, one) = (slots(1, 9), client(1, 1));
        let _held = slots.enter(&one).await.unwrap();
        let waiting = (Arc::clone(&slots), Arc::clone(&one));
        tokio::spawn(async move { waiting.0.enter(&waiting.1).await.map(drop) });
        tokio::task::yield_now().await;
        assert_eq!(entered(&slots, &one).await, (429, 0));
        assert_eq!(entered(&slots, &client(2, 1)).await, (503, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_request_begins_holds_its_slot_when_it_has_ended_and_so_does_what_that_begins() {
        let (slots, one) = (slots(9, 9), client(1, 1));
        let slot = Arc::new(slots.enter(&one).await.unwrap());
        let begin = || {
            tokio::spawn(carried(async {
                sleep(Duration::from_secs(10)).await;
                tokio::spawn(carried(sleep(Duration::from_secs(10))));
            }));
        };
        slot.work(async { begin() }).await;
        drop(slot);
        assert_eq!(entered(&slots, &one).await, (429, 5));
        assert_eq!(entered(&slots, &client(2, 1)).await, (200, 0));
        sleep(Duration::from_secs(7)).await;
        assert_eq!(entered(&slots, &one).await, (429, 5));
        assert_eq!(entered(&slots, &one).await, (200, 3));
        // What nobody asked for counts for nobody.
        begin();
        assert_eq!((one.slots.available_permits(), slots.all.available_permits()), (1, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_while_waiting_leaves_nothing_behind() {
        let (slots, one) = (slots(1, 1), client(1, 1));
        let held = slots.enter(&one).await.unwrap();
        let left = tokio::time::timeout(Duration::from_secs(1), slots.enter(&one)).await;
        assert!(left.is_err());
        drop(held);
        assert_eq!(entered(&slots, &one).await, (200, 0));
        assert_eq!((one.places.available_permits(), slots.waiting.available_permits()), (1, 1));
    }
}
