//! Seats for connections: each takes one of everybody's and one of its client's, waits a while where there is none, and is told to come
//! again then. So many wait here, of one client half as many at most; more wait in the kernel's queue, or are closed where it is their
//! client that has too many.

use std::{net::IpAddr, sync::Arc, time::Duration};

use config::Limits;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::client::{Client, Clients};
use crate::error::Crowd;

/// All seats, and the places of those who wait for one.
pub(super) struct Seats {
    all: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    clients: Arc<Clients>,
    patience: Duration,
    connections_max: usize,
    per_client_max: usize,
}

/// What the next connection is accepted into.
pub(super) enum Room {
    /// A seat.
    Seat(OwnedSemaphorePermit),
    /// A place to wait for one.
    Place(OwnedSemaphorePermit),
}

/// A connection as long as it is served.
pub(super) struct Seated {
    pub(super) client: Arc<Client>,
    _own: OwnedSemaphorePermit,
    _seat: OwnedSemaphorePermit,
}

/// A connection that got no seat.
pub(super) struct Unseated {
    pub(super) client: Arc<Client>,
    /// What it is to be told; none where there is not even room for that.
    pub(super) told: Option<Refusal>,
}

/// Why a connection got no seat.
pub(super) struct Refusal {
    pub(super) crowd: Crowd,
    pub(super) max: usize,
    /// Where it is told so: one of everybody's places, and one of its client's.
    _place: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Seats {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections_max)),
            waiting: Arc::new(Semaphore::new(limits.connections_waiting_max)),
            clients: Arc::new(Clients::new(limits)),
            patience: limits.queue_timeout,
            connections_max: limits.connections_max,
            per_client_max: limits.connections_per_client_max,
        }
    }

    /// Room for one more connection, as soon as there is any.
    pub(super) async fn room(&self) -> Room {
        tokio::select! {
            biased;
            Ok(seat) = Arc::clone(&self.all).acquire_owned() => Room::Seat(seat),
            Ok(place) = Arc::clone(&self.waiting).acquire_owned() => Room::Place(place),
            else => std::future::pending().await,
        }
    }

    /// Who comes from there.
    pub(super) fn client(&self, address: IpAddr) -> Arc<Client> {
        self.clients.known(address)
    }

    /// A seat for one connection of `client` that was accepted into `room`, within `limits.queue_timeout`.
    ///
    /// # Errors
    /// When it has none by then, or may not even wait.
    pub(super) async fn seat(&self, client: Arc<Client>, room: Room) -> Result<Seated, Unseated> {
        let own = client.connection().try_acquire_owned().ok();
        let (own, shared) = match (own, room) {
            (Some(own), Room::Seat(seat)) => return Ok(Seated { client, _own: own, _seat: seat }),
            (own, Room::Place(place)) => (own, Some(place)),
            // The seat is not held while the client's own is waited for.
            (own, Room::Seat(_)) => (own, Arc::clone(&self.waiting).try_acquire_owned().ok()),
        };
        let place = client.place().try_acquire_owned().ok().zip(shared);
        let Some(place) = place else { return Err(Unseated { client, told: None }) };
        match self.wait(&client, own).await {
            Ok((own, seat)) => Ok(Seated { client, _own: own, _seat: seat }),
            Err((crowd, max)) => Err(Unseated { client, told: Some(Refusal { crowd, max, _place: place }) }),
        }
    }

    async fn wait(
        &self,
        client: &Client,
        own: Option<OwnedSemaphorePermit>,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), (Crowd, usize)> {
        let deadline = Instant::now() + self.patience;
        let in_time = async |seats: Arc<Semaphore>, too_many| {
            timeout_at(deadline, seats.acquire_owned()).await.ok().and_then(Result::ok).ok_or(too_many)
        };
        let own = match own {
            Some(own) => own,
            None => in_time(client.connection(), (Crowd::ClientConnections, self.per_client_max)).await?,
        };
        Ok((own, in_time(Arc::clone(&self.all), (Crowd::Connections, self.connections_max)).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(connections_max: usize, connections_per_client_max: usize, connections_waiting_max: usize) -> Seats {
        let limits =
            Limits { connections_max, connections_per_client_max, connections_waiting_max, ..Limits::default() };
        Seats::new(&limits)
    }

    async fn comes(seats: &Seats, last: u8) -> Result<Seated, Unseated> {
        let room = seats.room().await;
        seats.seat(seats.client([192, 0, 2, last].into()), room).await
    }

    fn said(outcome: Result<Seated, Unseated>) -> Option<Crowd> {
        outcome.err().expect("no seat").told.map(|refusal| refusal.crowd)
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_seat_in_time_is_told_whose_fault_it_is() {
        let seats = seats(2, 1, 9);
        let _held = (comes(&seats, 1).await.ok().unwrap(), comes(&seats, 2).await.ok().unwrap());
        let began = Instant::now();
        assert_eq!(said(comes(&seats, 1).await), Some(Crowd::ClientConnections));
        assert_eq!(said(comes(&seats, 3).await), Some(Crowd::Connections));
        assert_eq!(began.elapsed(), 2 * Limits::default().queue_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_seat_that_becomes_free() {
        let seats = Arc::new(seats(1, 1, 9));
        for next in [1, 2] {
            let held = comes(&seats, 1).await.ok().unwrap();
            let theirs = Arc::clone(&seats);
            let waiting = tokio::spawn(async move { comes(&theirs, next).await.is_ok() });
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!waiting.is_finished());
            drop(held);
            assert!(waiting.await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_places_to_wait_one_client_takes_half() {
        let seats = Arc::new(seats(9, 1, 4));
        let _held = (comes(&seats, 1).await.ok().unwrap(), comes(&seats, 2).await.ok().unwrap());
        for _ in 0..2 {
            let theirs = Arc::clone(&seats);
            tokio::spawn(async move { comes(&theirs, 1).await.is_ok() });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(said(comes(&seats, 1).await), None);
        assert_eq!(said(comes(&seats, 2).await), Some(Crowd::ClientConnections));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_those_who_wait_a_crowded_client_is_closed_and_others_are_not_even_accepted() {
        let seats = Arc::new(seats(3, 1, 1));
        let _held = comes(&seats, 1).await.ok().unwrap();
        let theirs = Arc::clone(&seats);
        let waiting = tokio::spawn(async move { said(comes(&theirs, 1).await) });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(said(comes(&seats, 1).await), None);
        let _others = (comes(&seats, 2).await.ok().unwrap(), comes(&seats, 3).await.ok().unwrap());
        let accepted = tokio::time::timeout(Duration::from_secs(1), seats.room()).await;
        assert!(accepted.is_err(), "all seats are taken, and the place to wait");
        assert_eq!(waiting.await.unwrap(), Some(Crowd::ClientConnections));
        assert!(matches!(seats.room().await, Room::Place(_)));
    }
}
