//! Response bodies. Only [`crate::respond`] makes them.
//!
//! ```text
//!  upstream ──> growing file ──> Reading ──> hyper ──> client
//!                    │              │
//!       size + digest agree?    may this response still be sent?
//!       until then the last     (policy reloaded, verdict ended)
//!       bytes stay here         asked before every piece
//! ```

pub(crate) mod parts;
mod reading;
mod segment;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};
use metrics::counter;

use crate::{
    listen::{
        activity::Busy,
        stream::{self, Turn as Whose},
        zero_copy::Link,
    },
    stack::Slot,
};
pub use reading::Reading;
pub use segment::Segment;

/// The body of every response, and what it keeps as long as it is under way.
pub struct ServedBody(Inner, Kept);

/// Given back when the body has ended or was given up.
#[derive(Default)]
struct Kept {
    slot: Option<Arc<Slot>>,
    busy: Option<Busy>,
}

enum Inner {
    Whole(Bytes),
    /// A HEAD answer: tells the length, sends nothing.
    Length(u64),
    Stream(Stream),
}

/// A body that ended before its length: the client sees a connection (HTTP/1.1) or stream (HTTP/2) that broke, never a complete answer.
#[derive(Debug, thiserror::Error)]
#[error("body broken off after {sent} of {length} bytes: {why}")]
pub struct BodyBroken {
    sent: u64,
    length: u64,
    why: String,
}

/// How much of a file is handed to its connection at a time, in bytes: the permit is asked in between.
const RANGE_BYTES: u64 = 2 * 1024 * 1024;
/// How much is copied and sent at a time where bytes have to be in memory, for TLS and HTTP/2: what rustls takes at once.
const COPY_BYTES: usize = 64 * 1024;
/// What is in memory for a client that may not take it, in bytes, is little up to here: an error, the list of an image's referrers.
const LARGE_BYTES: usize = 64 * 1024;
/// How much a response keeps back until the whole blob is known to be right, in bytes; all of it where the response is shorter.
pub(crate) const HOLDBACK_BYTES: u64 = 64 * 1024;

impl ServedBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Inner::Whole(bytes), Kept::default())
    }

    pub(crate) fn length(bytes: u64) -> Self {
        Self(Inner::Length(bytes), Kept::default())
    }

    pub(crate) fn stream(reading: Reading) -> Self {
        let length = reading.left();
        Self(Inner::Stream(Stream { left: length, length, turn: Turn::Idle(Box::new(reading)) }), Kept::default())
    }

    /// Whether it is in memory, and more than a few kilobytes.
    pub(crate) fn is_large(&self) -> bool {
        matches!(&self.0, Inner::Whole(bytes) if bytes.len() > LARGE_BYTES)
    }

    /// Gives `slot` back when the body has ended or was given up.
    pub(crate) fn hold(&mut self, slot: Arc<Slot>) {
        self.1.slot = Some(slot);
    }

    /// Its connection is not idle until the body has ended or was given up.
    pub(crate) fn keep(&mut self, busy: Busy) {
        self.1.busy = Some(busy);
    }
}

impl http_body::Body for ServedBody {
    type Data = Segment;
    type Error = BodyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Segment>, BodyBroken>>> {
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => {
                let length = usize::try_from(share(bytes.len() as u64)).unwrap_or(usize::MAX).min(bytes.len());
                stream::tell(Whose::Clients(None));
                Poll::Ready(Some(Ok(Frame::data(bytes.split_to(length).into()))))
            }
            Inner::Length(_) => Poll::Ready(None),
            Inner::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            // hyper asks this before it writes the length of a HEAD answer, and sends no body to HEAD whatever we say.
            Inner::Length(_) => false,
            Inner::Stream(stream) => stream.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Inner::Whole(bytes) => bytes.len() as u64,
            Inner::Length(length) => *length,
            Inner::Stream(stream) => stream.left,
        })
    }
}

impl fmt::Debug for ServedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServedBody")
    }
}

/// How much of the `left` bytes of a body its next frame carries. The last byte always travels alone: a body is forgotten as soon as its
/// last frame was accepted for sending, so that one must not hide how much the client has still to take, nor be more than the smallest
/// window lets through at once.
fn share(left: u64) -> u64 {
    let most = if Link::here().is_some() { RANGE_BYTES } else { COPY_BYTES as u64 };
    left.saturating_sub(1).clamp(1, most)
}

struct Stream {
    left: u64,
    length: u64,
    turn: Turn,
}

type Step = (Box<Reading>, Result<Segment, String>);

enum Turn {
    Idle(Box<Reading>),
    Busy(Pin<Box<dyn Future<Output = Step> + Send>>),
    Over,
}

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Segment>, BodyBroken>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut step = match std::mem::replace(&mut self.turn, Turn::Over) {
            Turn::Idle(mut reading) => {
                if let Some(segment) = reading.at_once() {
                    return self.deliver(reading, segment);
                }
                stream::tell(Whose::Ours);
                Box::pin(async move {
                    let outcome = reading.next().await;
                    (reading, outcome)
                }) as Pin<Box<dyn Future<Output = Step> + Send>>
            }
            Turn::Busy(step) => step,
            // Nothing more comes, and that must not look like an end.
            Turn::Over => return Poll::Ready(Some(Err(self.broken("it has broken before".to_owned())))),
        };
        match step.as_mut().poll(context) {
            Poll::Pending => {
                self.turn = Turn::Busy(step);
                Poll::Pending
            }
            Poll::Ready((reading, Ok(segment))) => self.deliver(reading, segment),
            Poll::Ready((reading, Err(why))) => {
                let error = self.broken(why);
                counter!("pratique_bodies_broken_total").increment(1);
                let guard = reading.guard();
                tracing::warn!(repository = %guard.repository(), digest = %guard.digest(), "{error}");
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn deliver(&mut self, reading: Box<Reading>, segment: Segment) -> Poll<Option<Result<Frame<Segment>, BodyBroken>>> {
        let length = segment.remaining() as u64;
        self.left -= length.min(self.left);
        let revoked = if self.left == 0 {
            Some(reading.revoked())
        } else {
            self.turn = Turn::Idle(reading);
            None
        };
        stream::tell(Whose::Clients(revoked));
        counter!("pratique_served_bytes_total").increment(length);
        Poll::Ready(Some(Ok(Frame::data(segment))))
    }

    fn broken(&self, why: String) -> BodyBroken {
        BodyBroken { sent: self.length - self.left, length: self.length, why }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_last_byte_of_a_body_travels_alone() {
        for length in [0, 1, 2, 3, 4096, 300_000, 600_001] {
            let bytes: Bytes = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
            let mut body = ServedBody::whole(bytes.clone());
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                let mut data = frame.unwrap().into_data().unwrap();
                frames.push(data.copy_to_bytes(data.remaining()));
            }
            assert!(http_body::Body::is_end_stream(&body));
            assert_eq!(frames.concat(), bytes, "{length}");
            assert_eq!(frames.last().map(Bytes::len), (length > 0).then_some(1), "{length}");
            assert!(frames.iter().all(|frame| (1..=COPY_BYTES).contains(&frame.len())), "{length}");
        }
    }

    #[tokio::test]
    async fn a_broken_body_never_looks_like_a_whole_one() {
        let mut body = ServedBody(Inner::Stream(Stream { left: 3, length: 10, turn: Turn::Over }), Kept::default());
        for _ in 0..2 {
            let error = body.frame().await.expect("no end").unwrap_err();
            assert_eq!(error.to_string(), "body broken off after 7 of 10 bytes: it has broken before");
            assert!(!http_body::Body::is_end_stream(&body));
        }
    }
}
