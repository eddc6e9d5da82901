//! Where work is done that blocks: on the runtime's pool, where it holds up nobody; or in place, on a thread that asked for it.

use std::{
    cell::Cell,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// Until this is dropped, its thread does everything that blocks at once and itself.
#[derive(Debug)]
#[must_use]
pub struct InPlace {
    before: bool,
    /// It speaks about the thread that made it.
    _stays: PhantomData<*const ()>,
}

/// From here on the calling thread hands nothing to another thread: what blocks is done where it is asked for, and a store that is opened
/// meanwhile writes its facts so too. For simulations, where one thread and one seed make the same schedule again; a server would
/// stand still with each look at the disk.
///
/// A [`Store`](crate::Store) keeps to the way in which it was opened. Work that waits for the thread that does it, such as a walk over all
/// blobs, ends without a result: [`Keeper`](crate::Keeper) and [`Scrub`](crate::Scrub) are not for such a thread.
pub fn in_place() -> InPlace {
    InPlace { before: IN_PLACE.replace(true), _stays: PhantomData }
}

/// Whether the calling thread works in place.
pub(crate) fn is_in_place() -> bool {
    IN_PLACE.get()
}

impl Drop for InPlace {
    fn drop(&mut self) {
        IN_PLACE.set(self.before);
    }
}

/// The work panicked, or the runtime stopped before it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("blocking work ended without a result")]
pub struct NoResult;

/// Does `work`, which may block. Where the returned future is dropped after it was polled, the work still comes to its end.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NoResult> {
    if is_in_place() {
        let done = caught(work);
        // As from the pool: the result comes at a later turn, and others come first.
        tokio::task::yield_now().await;
        return done;
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| NoResult)
}

/// Begins `work`, which may block and tells its end itself.
pub(crate) fn begin(work: impl FnOnce() + Send + 'static) {
    if is_in_place() {
        // It was told when it happened, as on the pool.
        let _ = caught(work);
        return;
    }
    drop(tokio::task::spawn_blocking(work));
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, NoResult> {
    // What the work has broken is not looked at again: nothing of it comes back.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| NoResult)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_thread_works_itself_only_while_it_asks_for_it() {
        let own = thread::current().id();
        assert_ne!(run(|| thread::current().id()).await, Ok(own));
        let outer = in_place();
        let inner = in_place();
        drop(inner);
        assert_eq!(run(|| thread::current().id()).await, Ok(own));
        drop(outer);
        assert_ne!(run(|| thread::current().id()).await, Ok(own));
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_and_not_the_thread() {
        async fn panicking() -> Result<(), NoResult> {
            run(|| panic!("work")).await
        }
        assert_eq!(panicking().await, Err(NoResult));
        let _in_place = in_place();
        assert_eq!(panicking().await, Err(NoResult));
        begin(|| panic!("work"));
    }
}
