//! HTTP/2 streams whose clients must go on reading.
//!
//! hyper takes one frame from a body, and asks it for the next one when the client's flow control has let that one through. Until then
//! nothing is written to the socket, and nobody calls the body: it cannot notice by itself that its client has stalled, or that what
//! it handed out must not be sent any more. So each stream's task looks after it: the body tells whose turn it is, and a stream whose
//! client does not take its turn is reset. Other streams of the connection go on.

use std::{pin::Pin, time::Duration};

use metrics::counter;
use tokio::sync::mpsc;

tokio::task_local! {
    /// Where the body of the stream that is being polled tells its turns.
    static TURNS: mpsc::UnboundedSender<Turn>;
}

/// Completes when what the client was handed must not be sent any more.
pub(crate) type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who has to act for a body to go on.
pub(crate) enum Turn {
    /// We do: the next frame is being made, which may take as long as upstream does.
    Ours,
    /// The client does: a frame was handed out. The last one comes with its revocation, as the body is not asked again after it.
    Clients(Option<Revoked>),
}

/// Tells whose turn it is. Over HTTP/1.1 there is nobody to tell: a frame goes to the socket, and [`super::patience`] looks after that.
pub(crate) fn tell(turn: Turn) {
    // A receiver that is gone has just reset the stream.
    let _ = TURNS.try_with(|turns| turns.send(turn));
}

/// Runs streams. hyper spawns each HTTP/2 stream on the executor it was given, and nothing else.
#[derive(Clone)]
pub(super) struct Streams {
    /// How long a client may leave a frame where it is.
    pub(super) patience: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        tokio::spawn(watched(stream, self.patience));
    }
}

async fn watched<F: Future>(stream: F, patience: Duration) {
    let (sender, turns) = mpsc::unbounded_channel();
    let why = tokio::select! {
        biased;
        _ = TURNS.scope(sender, stream) => return,
        why = given_up(turns, patience) => why,
    };
    // The stream was dropped before its end, which resets it and frees what h2 still held of it.
    counter!("pratique_bodies_broken_total").increment(1);
    tracing::info!("an HTTP/2 stream was reset: {why}");
}

/// Why the stream must be given up; never returns while it need not be.
async fn given_up(mut turns: mpsc::UnboundedReceiver<Turn>, patience: Duration) -> &'static str {
    let mut turn = Some(Turn::Ours);
    loop {
        turn = match turn {
            Some(Turn::Ours) => turns.recv().await,
            Some(Turn::Clients(revoked)) => tokio::select! {
                biased;
                turn = turns.recv() => turn,
                () = revoked.unwrap_or_else(|| Box::pin(std::future::pending())) => {
                    return "what it carried may not be served any more";
                }
                () = tokio::time::sleep(patience) => return "the client took nothing for too long",
            },
            // The stream holds the sender: it is ending.
            None => std::future::pending().await,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use hyper::{body::Incoming, client, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{body::ServedBody, listen::client::Client, stack::Slot};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Runs `stream` watched; whether it came to its own end.
    async fn ends<F: Future>(stream: F) -> bool {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let stream = async move {
            stream.await;
            seen.store(true, Ordering::SeqCst);
        };
        watched(stream, PATIENCE).await;
        ended.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_not_taken_ends_the_stream() {
        let stream = async {
            tell(Turn::Clients(None));
            tokio::time::sleep(PATIENCE * 2).await;
        };
        assert!(!ends(stream).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_taken_just_in_time_starts_a_new_wait() {
        let stream = async {
            for _ in 0..5 {
                tell(Turn::Clients(None));
                tokio::time::sleep(Duration::from_secs(59)).await;
            }
        };
        assert!(ends(stream).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_upstream_is_not_held_against_the_client() {
        let stream = async {
            tell(Turn::Clients(None));
            tell(Turn::Ours);
            tokio::time::sleep(PATIENCE * 100).await;
        };
        assert!(ends(stream).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_last_frame_that_is_revoked_ends_the_stream_at_once() {
        let began = tokio::time::Instant::now();
        let stream = async {
            tell(Turn::Clients(Some(Box::pin(tokio::time::sleep(Duration::from_secs(3))))));
            std::future::pending::<()>().await;
        };
        assert!(!ends(stream).await);
        assert_eq!(began.elapsed().as_secs(), 3);
    }
    /// An HTTP/2 client with a small window, before a server that answers with `length` bytes and one of `slots`.
    async fn client(length: usize, slots: &Arc<Semaphore>) -> client::conn::http2::SendRequest<Empty<Bytes>> {
        let (near, far) = tokio::io::duplex(1024 * 1024);
        let (slots, asking) = (Arc::clone(slots), Client::alone([192, 0, 2, 1].into(), 1));
        let service = service_fn(move |_: Request<Incoming>| {
            let mut body = ServedBody::whole(Bytes::from(vec![7; length]));
            let permit = || Arc::clone(&slots).try_acquire_owned().unwrap();
            body.hold(Arc::new(Slot::new(&asking, permit(), permit())));
            async move { Ok::<_, std::convert::Infallible>(Response::new(body)) }
        });
        let server = hyper::server::conn::http2::Builder::new(Streams { patience: PATIENCE });
        tokio::spawn(server.serve_connection(TokioIo::new(near), service));
        let (sender, connection) = client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1024)
            .handshake(TokioIo::new(far))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    fn request() -> Request<Empty<Bytes>> {
        Request::get("http://localhost/").body(Empty::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_not_read_is_reset_and_those_beside_it_go_on() {
        // One that fits the first frames, one that nearly fits the window, and a long one.
        for length in [1026, 50_000, 300_000] {
            let slots = Arc::new(Semaphore::new(4));
            let mut client = client(length, &slots).await;
            let stalled = client.send_request(request()).await.unwrap();
            let read = client.send_request(request()).await.unwrap();
            assert_eq!(read.into_body().collect().await.unwrap().to_bytes().len(), length);
            tokio::time::sleep(PATIENCE / 2).await;
            assert_eq!(slots.available_permits(), 2, "a stalled body of {length} bytes holds its slot");
            tokio::time::sleep(PATIENCE).await;
            assert_eq!(slots.available_permits(), 4, "the slot of {length} bytes comes back");
            stalled.into_body().collect().await.unwrap_err();
            let again = client.send_request(request()).await.unwrap();
            assert_eq!(again.into_body().collect().await.unwrap().to_bytes().len(), length);
        }
    }
}
