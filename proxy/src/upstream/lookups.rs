//! Names become addresses: one look at a time at each name, for everyone who wants it.
//!
//! The system's resolver takes a thread for as long as it is silent, whoever still waits. Those threads also do the work of the store:
//! a resolver that does not answer must not take them all.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc};

use tokio::sync::Semaphore;

use crate::flight::Flight;

/// Looks under way at one time; there is one for each host that is configured or led to.
const LOOKS_MAX: usize = 32;

type Name = (String, u16);
/// The addresses of a name, or why there are none.
pub(super) type Found = Result<Vec<SocketAddr>, ErrorKind>;

/// The looks that are under way.
pub(super) struct Lookups {
    under_way: Flight<Name, Found>,
    threads: Arc<Semaphore>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self { under_way: Flight::default(), threads: Arc::new(Semaphore::new(LOOKS_MAX)) }
    }
}

impl Lookups {
    /// What `look` finds under `name`, or somebody else's look that is under way. `look` may block.
    pub(super) async fn join(&self, name: Name, look: impl FnOnce(&Name) -> Found + Send + 'static) -> Found {
        let (threads, named) = (Arc::clone(&self.threads), name.clone());
        let looking = self.under_way.join(name, || async move {
            let _thread = threads.acquire().await;
            Ok(storage::work::run(move || look(&named)).await.unwrap_or(Err(ErrorKind::Other)))
        });
        looking.await.unwrap_or(Err(ErrorKind::Other))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    fn name(host: &str) -> Name {
        (host.to_owned(), 443)
    }

    fn address() -> Vec<SocketAddr> {
        vec![([192, 0, 2, 1], 443).into()]
    }

    #[tokio::test]
    async fn a_resolver_that_is_silent_takes_one_thread_for_each_name_however_many_wait_and_give_up() {
        let (lookups, begun) = (Arc::new(Lookups::default()), Arc::new(AtomicUsize::new(0)));
        let (release, silent) = mpsc::channel::<()>();
        let silent = Arc::new(Mutex::new(silent));
        let look = || {
            let (begun, silent) = (Arc::clone(&begun), Arc::clone(&silent));
            move |_: &Name| {
                begun.fetch_add(1, Ordering::SeqCst);
                let _ = silent.lock().unwrap().recv();
                Ok(address())
            }
        };
        for _ in 0..100 {
            let given_up = timeout(Duration::from_millis(1), lookups.join(name("silent.example"), look())).await;
            assert!(given_up.is_err());
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert_eq!(lookups.join(name("other.example"), |_| Ok(address())).await, Ok(address()));
        let waiting = tokio::spawn({
            let (lookups, look) = (Arc::clone(&lookups), look());
            async move { lookups.join(name("silent.example"), look).await }
        });
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(address()));
        // What was found is not kept: the next who asks has it looked up again.
        let gone = lookups.join(name("silent.example"), |_| Err(ErrorKind::NotFound)).await;
        assert_eq!(gone, Err(ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn a_look_that_panics_is_told_and_in_nobodys_way() {
        let lookups = Arc::new(Lookups::default());
        assert_eq!(lookups.join(name("a.example"), |_| panic!("of the resolver")).await, Err(ErrorKind::Other));
        assert_eq!(lookups.join(name("a.example"), |_| Ok(address())).await, Ok(address()));
    }
}
