//! Zero-copy: ranges of files from the page cache to the socket, through hyper, which parses and frames and never sees a byte of them.
//!
//! ```text
//!  FileRange ──chunks_vectored──> hyper's list of slices ──poll_write_vectored──> ZeroCopy ──sendfile──> socket
//!      │                          (head, then a marker)                              ▲
//!      └────────── publishes (file, offset, length) in the connection's Link ────────┘
//! ```
//!
//! hyper writes what a body's data points at. A range points at a marker: memory of the right length that nobody ever touches. The
//! connection's IO knows the marker by its address, and sends the range that was published with it instead. How far a range has got
//! is known to the range alone, as hyper tells it what was sent. Four nets keep the marker's zeros from ever being sent:
//!
//! - whoever copies a range asks for its [`bytes::Buf::chunk`], which panics: the connection ends before a byte of it has left;
//! - a range that is dropped with bytes left ends its connection, as its length was promised;
//! - a marker without the very range it was handed out for is an error;
//! - only the task of a plain HTTP/1 connection finds a link to make ranges with ([`Link::here`]).

use std::{
    fs::File,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustix::net::{SendAncillaryBuffer, SendFlags};
use storage::pages;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
};

/// How much one call sends at most, bytes.
const STEP_BYTES: usize = 512 * 1024;
/// Ranges of one connection that are told apart; there are never more than hyper queues, which is 16.
const TOKENS: usize = 4096;

/// What ranges point at: asked from the system as zeros, which takes no memory until it is touched, and it never is. A range's slice
/// begins at its token.
static MARKER: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; STEP_BYTES + TOKENS]);

tokio::task_local! {
    static LINK: Arc<Link>;
}

/// What a connection's ranges and its IO know of each other.
#[derive(Debug, Default)]
pub(crate) struct Link {
    published: Mutex<Option<Published>>,
    made: AtomicUsize,
    broken: AtomicBool,
}

/// A range as it stands when it is about to be written.
#[derive(Debug)]
struct Published {
    token: usize,
    file: Arc<File>,
    offset: u64,
}

impl Link {
    /// The link of the connection whose task this is, where that is a plain HTTP/1 connection: HTTP/2 runs its streams in tasks of their
    /// own, and TLS has no link.
    pub(crate) fn here() -> Option<Arc<Self>> {
        LINK.try_with(Arc::clone).ok()
    }

    /// Runs a connection whose IO is the [`ZeroCopy`] of this link.
    pub(super) async fn scope<F: Future>(self: Arc<Self>, connection: F) -> F::Output {
        LINK.scope(self, connection).await
    }

    /// `length` bytes of `file` from `offset` on, to be sent over this connection.
    pub(crate) fn range(self: &Arc<Self>, file: &Arc<File>, offset: u64, length: usize) -> FileRange {
        let token = self.made.fetch_add(1, Ordering::Relaxed) % TOKENS;
        FileRange { link: Arc::clone(self), token, file: Arc::clone(file), offset, remaining: length }
    }

    /// The first of several ranges in one list counts: what follows it is not sent by the same call.
    fn publish(&self, range: &FileRange) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.get_or_insert_with(|| Published {
            token: range.token,
            file: Arc::clone(&range.file),
            offset: range.offset,
        });
    }

    fn take(&self) -> Option<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A part of a file, as data of a response body. Nothing but the connection it was made for can send it.
#[derive(Debug)]
pub(crate) struct FileRange {
    link: Arc<Link>,
    token: usize,
    file: Arc<File>,
    offset: u64,
    remaining: usize,
}

impl FileRange {
    pub(crate) fn remaining(&self) -> usize {
        self.remaining
    }

    pub(crate) fn advance(&mut self, sent: usize) {
        assert!(sent <= self.remaining, "no more is sent of a range than there is");
        self.remaining -= sent;
        self.offset += sent as u64;
    }

    /// As [`bytes::Buf::chunks_vectored`], right before the write.
    pub(crate) fn publish<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let length = self.remaining.min(STEP_BYTES);
        let Some(slice) = slices.first_mut().filter(|_| length > 0) else { return 0 };
        *slice = IoSlice::new(MARKER.get(self.token..self.token + length).unwrap_or_default());
        self.link.publish(self);
        1
    }
}

impl Drop for FileRange {
    fn drop(&mut self) {
        if self.remaining > 0 {
            self.link.broken.store(true, Ordering::Release);
        }
    }
}

/// The token of a marker's slice.
fn token_of(slice: &[u8]) -> Option<usize> {
    let token = slice.as_ptr().addr().wrapping_sub(MARKER.as_ptr().addr());
    (!slice.is_empty() && token < MARKER.len()).then_some(token)
}

/// A plain connection that sends file ranges without copying them.
pub(super) struct ZeroCopy {
    tcp: TcpStream,
    link: Arc<Link>,
    /// Under way where what is to be sent has to come from the disk first.
    bringing: Option<JoinHandle<io::Result<()>>>,
}

impl ZeroCopy {
    pub(super) fn new(tcp: TcpStream, link: Arc<Link>) -> Self {
        Self { tcp, link, bringing: None }
    }

    fn intact(&self) -> io::Result<()> {
        if self.link.broken.load(Ordering::Acquire) {
            return Err(io::Error::other("a file range was given up with bytes left"));
        }
        Ok(())
    }

    fn poll_range(&mut self, context: &mut Context<'_>, range: &Published, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(context))?;
            ready!(self.poll_memory(context, range, length))?;
            let send = || {
                let mut offset = range.offset;
                Ok(rustix::fs::sendfile(&self.tcp, &range.file, Some(&mut offset), length)?)
            };
            match self.tcp.try_io(Interest::WRITABLE, send) {
                // The file is shorter than it was: nothing that follows would be in its place.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    /// Waits until the range is in memory. sendfile would wait for the disk in the task, and everybody else of this thread with it.
    fn poll_memory(&mut self, context: &mut Context<'_>, range: &Published, length: usize) -> Poll<io::Result<()>> {
        let length = length as u64;
        let bringing = match &mut self.bringing {
            Some(bringing) => bringing,
            None if pages::is_cached(&range.file, range.offset, length) => return Poll::Ready(Ok(())),
            None => {
                let (file, offset) = (Arc::clone(&range.file), range.offset);
                self.bringing.insert(tokio::task::spawn_blocking(move || pages::bring_in(&file, offset, length)))
            }
        };
        let outcome = ready!(Pin::new(bringing).poll(context));
        self.bringing = None;
        Poll::Ready(outcome.unwrap_or_else(|stopped| Err(io::Error::other(stopped))))
    }

    /// Sends what comes before a range, and has the system wait for more: head and content need no packet each.
    fn poll_before(&self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(context))?;
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
            let send = || Ok(rustix::net::sendmsg(&self.tcp, slices, &mut SendAncillaryBuffer::default(), flags)?);
            match self.tcp.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl AsyncRead for ZeroCopy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for ZeroCopy {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.intact()?;
        if token_of(bytes).is_some() {
            return Poll::Ready(Err(unclaimed()));
        }
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.intact()?;
        // Taken whatever comes of this call: hyper asks again before it writes again, and then it is published again.
        let published = self.link.take();
        let Some((before, token)) = slices.iter().enumerate().find_map(|(at, slice)| Some((at, token_of(slice)?)))
        else {
            return Pin::new(&mut self.tcp).poll_write_vectored(context, slices);
        };
        let Some(range) = published.filter(|range| range.token == token) else {
            return Poll::Ready(Err(unclaimed()));
        };
        let (before, marker) = (slices.get(..before).unwrap_or_default(), slices.get(before));
        if before.iter().any(|slice| !slice.is_empty()) {
            return self.poll_before(context, before);
        }
        self.poll_range(context, &range, marker.map_or(0, |marker| marker.len()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

fn unclaimed() -> io::Error {
    io::Error::other("a file range was to be sent that this connection knows nothing of")
}

#[cfg(test)]
mod tests;
