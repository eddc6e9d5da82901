//! Room for evidence in memory, with what a judge needs to look at it.
//!
//! ```text
//! a collection that needs little   ── its bytes and working copies out of a common quarter of the room
//! one that needs much              ── its turn: one at a time, up to the whole room
//! ```
//!
//! Who has the turn waits for nobody else's turn, and who waits for it holds little: large evidence cannot lock itself out.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// How long small evidence waits for room. Collections that wait for each other end here, and are asked again.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// Evidence needs much from this part of the room on.
const MUCH: u64 = 16;
/// The part of the room that is common to all that needs little.
const COMMON: u64 = 4;

/// All the room there is, shared by all collections and judgements.
pub struct Memory {
    bytes_max: u64,
    common: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    /// How long one collection may take, and so how long another waits for its turn.
    turn_timeout: Duration,
}

/// What a judge does with a piece, as the multiple of its size that it needs while it looks at one.
///
/// With attestations of 100 MiB `soak evidence` saw 1.8 times their size above idle without a rule, and 7.5 times with one: twice that is
/// reckoned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing but to read it once.
    Reading,
    /// Decoded, checked, its statement read.
    Verifying,
    /// Besides, given to a rule as a tree of values.
    Ruling,
}

impl Work {
    fn factor(self) -> u64 {
        match self {
            Self::Reading => 1,
            Self::Verifying => 4,
            Self::Ruling => 16,
        }
    }
}

/// The part of the room that one collection takes, until it is dropped after the judgement.
pub struct Room {
    memory: Arc<Memory>,
    work: Work,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: u64,
    largest: u64,
    common: Option<OwnedSemaphorePermit>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// Room for `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: u64, turn_timeout: Duration) -> Arc<Self> {
        let common = usize::try_from(bytes_max / COMMON / 1024).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        let (common, turn) = (Arc::new(Semaphore::new(common)), Arc::new(Semaphore::new(1)));
        Arc::new(Self { bytes_max, common, turn, turn_timeout })
    }

    /// Nothing yet, for this kind of work.
    #[must_use]
    pub fn room(self: &Arc<Self>, work: Work) -> Room {
        Room { memory: Arc::clone(self), work, held: Mutex::default() }
    }
}

impl Room {
    /// Makes room for pieces of these sizes, before they are fetched.
    ///
    /// # Errors
    /// When there is none: one clause.
    pub async fn take(&self, sizes: Vec<u64>) -> Result<(), String> {
        let mut held = self.held.lock().await;
        let (mut bytes, mut largest) = (held.bytes, held.largest);
        for size in sizes {
            bytes = bytes.saturating_add(size);
            largest = largest.max(size);
        }
        if bytes > self.memory.bytes_max {
            return Err(format!("{bytes} bytes of evidence do not fit into limits.evidence_memory_bytes_max"));
        }
        let need = bytes.saturating_add(largest.saturating_mul(self.work.factor() - 1));
        if held.turn.is_none() && need > self.memory.bytes_max / MUCH {
            self.wait_for_turn(&mut held).await?;
        }
        if held.turn.is_none() {
            self.widen(&mut held, need).await?;
        }
        (held.bytes, held.largest) = (bytes, largest);
        Ok(())
    }

    /// Whether pieces of these sizes fit beside what is held, were all the room free.
    pub async fn fits(&self, sizes: &[u64]) -> bool {
        let held = self.held.lock().await.bytes;
        sizes.iter().fold(held, |sum, size| sum.saturating_add(*size)) <= self.memory.bytes_max
    }

    /// The bytes of the pieces that it holds.
    pub async fn held(&self) -> u64 {
        self.held.lock().await.bytes
    }

    /// Gives back what pieces took that were dropped since.
    pub async fn keep(&self, bytes: u64) {
        let mut held = self.held.lock().await;
        held.bytes = held.bytes.min(bytes);
        let need = kib(held.bytes.saturating_add(held.largest.saturating_mul(self.work.factor() - 1)));
        if let Some(common) = &mut held.common {
            drop(common.split(common.num_permits().saturating_sub(need)));
        }
    }

    async fn wait_for_turn(&self, held: &mut Held) -> Result<(), String> {
        let turn = Arc::clone(&self.memory.turn).acquire_owned();
        match tokio::time::timeout(self.memory.turn_timeout, turn).await {
            Ok(Ok(turn)) => {
                held.turn = Some(turn);
                held.common = None;
                Ok(())
            }
            Ok(Err(_)) | Err(_) => {
                Err("other large evidence is in memory (limits.evidence_memory_bytes_max)".to_owned())
            }
        }
    }

    async fn widen(&self, held: &mut Held, need: u64) -> Result<(), String> {
        let more = kib(need).saturating_sub(held.common.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let waiting = Arc::clone(&self.memory.common).acquire_many_owned(more);
        let Ok(Ok(more)) = tokio::time::timeout(ROOM_TIMEOUT, waiting).await else {
            return Err("too much evidence in memory (limits.evidence_memory_bytes_max)".to_owned());
        };
        match &mut held.common {
            Some(common) => common.merge(more),
            None => held.common = Some(more),
        }
        Ok(())
    }
}

fn kib(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn memory() -> Arc<Memory> {
        Memory::new(512 * MIB, Duration::from_secs(60))
    }

    #[tokio::test(start_paused = true)]
    async fn large_evidence_is_in_memory_one_image_at_a_time() {
        let memory = memory();
        let (first, second) = (memory.room(Work::Verifying), memory.room(Work::Verifying));
        first.take(vec![100 * MIB]).await.unwrap();
        let waiting = tokio::spawn(async move { second.take(vec![100 * MIB]).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        // Small evidence goes on meanwhile.
        memory.room(Work::Verifying).take(vec![MIB; 4]).await.unwrap();
        drop(first);
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_fits_is_told_at_once_and_what_fits_by_itself_always_does() {
        let memory = memory();
        let why = memory.room(Work::Verifying).take(vec![300 * MIB, 300 * MIB]).await.unwrap_err();
        assert!(why.contains("limits.evidence_memory_bytes_max"), "{why}");
        memory.room(Work::Ruling).take(vec![512 * MIB]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn small_evidence_waits_for_room_and_not_for_ever() {
        let memory = memory();
        let rooms: Vec<_> = (0..5).map(|_| memory.room(Work::Reading)).collect();
        for room in &rooms[..4] {
            room.take(vec![32 * MIB]).await.unwrap();
        }
        rooms[4].take(vec![32 * MIB]).await.unwrap_err();
        rooms[0].keep(MIB).await;
        rooms[4].take(vec![31 * MIB]).await.unwrap();
    }
}
