//! Tasks of the background live as long as the server: one that panics is told, counted, and begins anew. Where its work has parts, one
//! that panics costs that part only.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use metrics::counter;
use tokio::{sync::watch, task::JoinHandle};

/// How long a task that panicked rests: what it met may be there again at once.
const REST: Duration = Duration::from_secs(60);

/// Runs what `begin` begins until it ends by itself, or until we drain while it rests.
pub(crate) fn supervised<F>(
    task: &'static str,
    draining: &watch::Receiver<bool>,
    begin: impl Fn(watch::Receiver<bool>) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut draining = draining.clone();
    tokio::spawn(async move {
        // Nothing of a run that panicked is used by the next one but what locks and channels keep whole.
        while AssertUnwindSafe(begin(draining.clone())).catch_unwind().await.is_err() {
            count(task);
            tracing::error!(task, "a task of the background panicked: it begins anew in {} s", REST.as_secs());
            tokio::select! {
                () = tokio::time::sleep(REST) => {}
                _ = draining.wait_for(|draining| *draining) => return,
            }
        }
    })
}

/// What comes of a part of a task's work. None where it panics, which is counted; to tell of which part that was is left to the caller.
pub(crate) async fn part<T>(task: &'static str, work: impl Future<Output = T>) -> Option<T> {
    // As above: nothing of it is used again but what locks and channels keep whole.
    let done = AssertUnwindSafe(work).catch_unwind().await.ok();
    if done.is_none() {
        count(task);
    }
    done
}

fn count(task: &'static str) {
    counter!("pratique_background_panics_total", "task" => task).increment(1);
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_anew_until_it_ends_by_itself() {
        let drain = watch::Sender::new(false);
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let began = Instant::now();
        let task = supervised("test", &drain.subscribe(), move |_| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                assert!(run >= 2, "for the first two times");
            }
        });
        task.await.unwrap();
        assert_eq!((runs.load(Ordering::SeqCst), began.elapsed()), (3, REST * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_does_not_wait_for_a_task_that_rests() {
        let drain = watch::Sender::new(false);
        let began = Instant::now();
        let task = supervised("test", &drain.subscribe(), |_| async { panic!("always") });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drain.send_replace(true);
        task.await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_part_that_panics_is_none_and_the_others_are_not() {
        let part = |number: u32| {
            part("test", async move {
                tokio::task::yield_now().await;
                assert_ne!(number, 2, "this one");
                number
            })
        };
        assert_eq!((part(1).await, part(2).await, part(3).await), (Some(1), None, Some(3)));
    }
}
