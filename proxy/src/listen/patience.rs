//! A connection whose peer must begin to talk, and must go on reading: one that says nothing or takes nothing for too long is closed,
//! whatever it still has coming.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// An IO that fails a write with `TimedOut` when the peer has taken nothing for the given time, and a read when the peer has not told in
/// time which protocol it speaks.
pub(super) struct Patient<I> {
    io: I,
    patience: Duration,
    /// Since when a write waits.
    waiting: Option<Instant>,
    /// Ends not before the patience does. One timer for the connection: writes wait for a moment all the time.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Until HTTP/1.1 and HTTP/2 can be told apart. hyper's own timers begin only then.
    opening: Option<Opening>,
}

struct Opening {
    deadline: Pin<Box<Sleep>>,
    /// What must follow for the peer to speak HTTP/2.
    preface: &'static [u8],
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<I> Patient<I> {
    /// From now on the peer has `opening` to tell what it speaks, and `patience` to take something whenever we write.
    pub(super) fn new(io: I, opening: Duration, patience: Duration) -> Self {
        let opening = Opening { deadline: Box::pin(tokio::time::sleep(opening)), preface: PREFACE };
        Self { io, patience, waiting: None, alarm: None, opening: Some(opening) }
    }

    fn bounded<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        let deadline = *self.waiting.get_or_insert_with(Instant::now) + self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(alarm.as_mut().poll(context));
            if alarm.deadline() >= deadline {
                break;
            }
            // It was set for a wait that is over.
            alarm.as_mut().reset(deadline);
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for too long")))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Patient<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let progress = Pin::new(&mut self.io).poll_read(context, buffer);
        let Some(opening) = &mut self.opening else { return progress };
        if progress.is_ready() {
            opening.preface = opening.after(buffer.filled().get(before..).unwrap_or_default());
            if opening.preface.is_empty() {
                self.opening = None;
            }
            return progress;
        }
        ready!(opening.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not begin a request in time")))
    }
}

impl Opening {
    /// What is missing of the preface after `read`; nothing where `read` is not HTTP/2, or the end.
    fn after(&self, read: &[u8]) -> &'static [u8] {
        if read.is_empty() { &[] } else { self.preface.strip_prefix(read).unwrap_or_default() }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write(context, bytes);
        self.bounded(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.bounded(context, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.io).poll_flush(context);
        self.bounded(context, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.io).poll_shutdown(context);
        self.bounded(context, progress)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let mut patient = Patient::new(near, Duration::from_secs(10), Duration::from_secs(60));
        let error = patient.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_waited_for() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut patient = Patient::new(near, Duration::from_secs(10), Duration::from_secs(60));
        let reader = tokio::spawn(async move {
            let mut taken = [0; 16];
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                far.read_exact(&mut taken).await.unwrap();
            }
        });
        patient.write_all(&[0; 64]).await.unwrap();
        reader.await.unwrap();
    }
    /// What a read says that comes after `said`, when nothing follows.
    async fn silence_after(said: &[u8]) -> Result<io::Result<usize>, tokio::time::error::Elapsed> {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut patient = Patient::new(near, Duration::from_secs(10), Duration::from_secs(60));
        // In two parts, as a network may bring it.
        let (one, two) = said.split_at(said.len() / 2);
        let mut buffer = [0; 1024];
        for part in [one, two].into_iter().filter(|part| !part.is_empty()) {
            far.write_all(part).await.unwrap();
            patient.read_exact(&mut buffer[..part.len()]).await.unwrap();
        }
        tokio::time::timeout(Duration::from_secs(11), patient.read(&mut buffer)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_tell_what_it_speaks_is_given_up() {
        for said in ["", "P", "PRI * HTTP", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let error = silence_after(said.as_bytes()).await.expect("an end in time").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn drops_of_a_preface_win_no_time() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut patient = Patient::new(near, Duration::from_secs(10), Duration::from_secs(60));
        let began = Instant::now();
        tokio::spawn(async move {
            for byte in PREFACE {
                let _ = far.write_all(&[*byte]).await;
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        });
        let error = patient.read_exact(&mut [0; 24]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_begun_is_left_to_the_timers_of_its_protocol() {
        for said in ["G", "PUT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0"] {
            assert!(silence_after(said.as_bytes()).await.is_err(), "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_no_timeout() {
        let (near, far) = tokio::io::duplex(16);
        drop(far);
        let mut patient = Patient::new(near, Duration::from_secs(10), Duration::from_secs(60));
        assert_eq!(patient.read(&mut [0; 16]).await.unwrap(), 0);
    }
}
