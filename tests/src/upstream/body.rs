//! A body that is sent in slices of shared memory, and can go wrong on the way.

use std::fmt;
use std::pin::Pin;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::watch;

/// Long enough to be fast, short enough that a slow reader holds little.
const PIECE: usize = 64 * 1024;

/// What an endless body is made of.
static FILLER: [u8; PIECE] = [b'x'; PIECE];

/// The connection or stream is to end here, on order.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken by an injected fault")
    }
}

impl std::error::Error for Broken {}

/// What is to be sent, and what goes wrong with it.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) bytes: Bytes,
    /// Where in the whole content `bytes` begins.
    pub(super) start: u64,
    /// Offset in the whole content.
    pub(super) flip: Option<u64>,
    /// Offset in this body.
    pub(super) cut: Option<u64>,
    /// Offsets in this body, and what ends the wait.
    pub(super) stalls: Vec<(u64, watch::Receiver<bool>)>,
    /// How many bytes come at a time, and how long nothing comes between.
    pub(super) trickle: Option<(u64, Duration)>,
    pub(super) endless: bool,
}

/// Sends a [`Plan`]. Its length is never known to hyper: the Content-Length header alone says it, true or not.
pub(super) struct Body {
    plan: Plan,
    sent: u64,
    /// How much had been sent at the last pause of a trickle.
    paused_at: u64,
    /// Counts how often everything buffered has gone out to the socket.
    flushed: watch::Receiver<u64>,
    /// Counts the bytes of all bodies.
    sent_in_all: Arc<AtomicU64>,
    waiting: Option<Wait>,
    /// No body at all, as for HEAD.
    absent: bool,
}

type Wait = Pin<Box<dyn Future<Output = Next> + Send>>;

#[derive(Clone, Copy)]
enum Next {
    GoOn,
    Break,
}

impl Body {
    pub(super) fn new(plan: Plan, flushed: watch::Receiver<u64>, sent_in_all: Arc<AtomicU64>, absent: bool) -> Self {
        Self { plan, sent: 0, paused_at: 0, flushed, sent_in_all, waiting: None, absent }
    }

    /// What has to be waited for before the next piece.
    fn wait(&mut self) -> Option<Wait> {
        let sent = self.sent;
        if let Some(due) = self.plan.stalls.iter().position(|(at, _)| *at == sent) {
            let (_, mut released) = self.plan.stalls.swap_remove(due);
            return Some(Box::pin(async move {
                // an error means that the fault is gone: released as well
                let _ = released.wait_for(|released| *released).await;
                Next::GoOn
            }));
        }
        if let Some((_, pause)) = self.plan.trickle.filter(|_| self.paused_at != sent) {
            self.paused_at = sent;
            return Some(Box::pin(async move {
                tokio::time::sleep(pause).await;
                Next::GoOn
            }));
        }
        if self.plan.cut == Some(sent) {
            // hyper drops what it has buffered when a body fails, so fail only after it went out
            let mut flushed = self.flushed.clone();
            flushed.mark_unchanged();
            return Some(Box::pin(async move {
                let _ = flushed.changed().await;
                Next::Break
            }));
        }
        None
    }

    fn piece(&mut self) -> Option<Bytes> {
        let stop = self
            .plan
            .stalls
            .iter()
            .map(|(at, _)| *at)
            .chain(self.plan.cut)
            .filter(|at| *at > self.sent)
            .min()
            .map_or(u64::MAX, |at| at - self.sent);
        let stop = stop.min(self.plan.trickle.map_or(u64::MAX, |(bytes, _)| bytes));
        let most = PIECE.min(usize::try_from(stop).unwrap_or(PIECE));
        let piece = if !self.plan.bytes.is_empty() {
            let at = self.plan.start + self.sent;
            let piece = self.plan.bytes.split_to(most.min(self.plan.bytes.len()));
            flipped(piece, at, self.plan.flip)
        } else if self.plan.endless {
            Bytes::from_static(&FILLER).split_to(most)
        } else {
            return None;
        };
        self.sent += piece.len() as u64;
        self.sent_in_all.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Some(piece)
    }
}

/// The piece that begins at `at`, with one bit changed if `flip` is in it; only then it is copied.
fn flipped(piece: Bytes, at: u64, flip: Option<u64>) -> Bytes {
    let Some(offset) = flip
        .and_then(|flip| flip.checked_sub(at))
        .and_then(|offset| usize::try_from(offset).ok())
        .filter(|offset| *offset < piece.len())
    else {
        return piece;
    };
    let mut piece = Vec::from(piece);
    if let Some(byte) = piece.get_mut(offset) {
        *byte ^= 1;
    }
    piece.into()
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.absent {
            return Poll::Ready(None);
        }
        loop {
            if let Some(waiting) = &mut self.waiting {
                let next = ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
                if matches!(next, Next::Break) {
                    return Poll::Ready(Some(Err(Broken)));
                }
            }
            self.waiting = self.wait();
            if self.waiting.is_none() {
                return Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.absent
    }
}
