//! Turns of a connection: one that has much to send lets others of its thread send in between.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much a connection sends in one turn, bytes: more makes small answers beside it wait, less costs throughput.
const TURN_BYTES: usize = 1024 * 1024;

/// What a connection's task and its IO know of its turn.
#[derive(Clone, Default)]
pub(super) struct Turn(Arc<AtomicUsize>);

impl Turn {
    /// Runs `connection`, whose IO is [`Paced`] by this: each time it is polled, a turn begins.
    pub(super) async fn scope<F: Future>(self, connection: F) -> F::Output {
        let mut connection = std::pin::pin!(connection);
        std::future::poll_fn(|context| {
            self.0.store(0, Ordering::Relaxed);
            connection.as_mut().poll(context)
        })
        .await
    }
}

/// An IO whose writes wait when the turn has had its share; the task is woken again at once, behind those that are ready too.
pub(super) struct Paced<I> {
    io: I,
    turn: Turn,
}

impl<I> Paced<I> {
    pub(super) fn new(io: I, turn: Turn) -> Self {
        Self { io, turn }
    }

    fn is_over(&self, context: &mut Context<'_>) -> bool {
        let is_over = self.turn.0.load(Ordering::Relaxed) >= TURN_BYTES;
        if is_over {
            context.waker().wake_by_ref();
        }
        is_over
    }

    fn count(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(sent)) = &sent {
            self.turn.0.fetch_add(*sent, Ordering::Relaxed);
        }
        sent
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Pending;
        }
        let sent = Pin::new(&mut self.io).poll_write(context, bytes);
        self.count(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Pending;
        }
        let sent = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.count(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_could_go_on_for_ever_lets_others_in_between() {
        let turn = Turn::default();
        let mut paced = Paced::new(tokio::io::sink(), turn.clone());
        let mut polls = 0;
        let mut writing = std::pin::pin!(turn.scope(async move {
            for _ in 0..10 {
                paced.write_all(&vec![0; TURN_BYTES]).await.unwrap();
            }
        }));
        std::future::poll_fn(|context| {
            polls += 1;
            writing.as_mut().poll(context)
        })
        .await;
        assert_eq!(polls, 10);
    }
}
