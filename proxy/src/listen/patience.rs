//! A connection whose peer must begin to talk, must end what it began to say, must say something with it, and must go on reading: one that
//! says nothing or takes nothing for too long is closed, whatever it still has coming, and so is one that says much and asks little.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::activity::Activity;
use crate::seldom::Seldom;

/// An IO that fails a write with `TimedOut` when the peer has taken nothing for the given time, and a read when the peer has not told in
/// time which protocol it speaks, or over HTTP/1.1 has not ended the head of a request in time.
///
/// What it reads is what came, but for line feeds without a carriage return over HTTP/1.1: see [`Head::strictly`].
pub(super) struct Patient<I> {
    io: I,
    patience: Duration,
    /// Since when a write waits.
    waiting: Option<Instant>,
    /// Ends not before the patience does. One timer for the connection: writes wait for a moment all the time.
    alarm: Option<Pin<Box<Sleep>>>,
    /// What the peer is expected to say.
    hearing: Hearing,
    /// Bytes that the peer has taken.
    sent: u64,
    activity: Arc<Activity>,
}

/// hyper's own timer for the head of a request runs from the end of the answer before it: it cannot tell one that does not end from
/// one that has not begun.
enum Hearing {
    /// Until HTTP/1.1 and HTTP/2 can be told apart.
    Opening(Opening),
    /// HTTP/1.1: one head after the other.
    Heads(Head),
    /// HTTP/2: a peer without a stream is idle, whatever it says. How many bytes that were.
    Frames { heard: u64 },
}

struct Opening {
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    /// What must follow for the peer to speak HTTP/2.
    preface: &'static [u8],
}

struct Head {
    patience: Duration,
    /// How many requests there had been when the peer said something last. As long as there are no more of them, that belongs to the
    /// next one's head.
    begun_after: Option<u64>,
    /// Until when this head must have ended.
    armed: bool,
    deadline: Pin<Box<Sleep>>,
    /// The last byte that came.
    last: u8,
    /// What came belongs to the line of a request, as far as heads without bodies tell; and whether there is anything on the line.
    line: Line,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Of a request, and nothing on it yet.
    Next,
    Request,
    /// Of a header, and nothing on it yet: an empty one ends the head.
    Header,
    Filled,
}

/// What a peer may say over HTTP/2 before a request of it has been looked at, bytes: all that it asks for at one time counts only then.
const UNASKED_BYTES_MAX: u64 = 512 * 1024;
/// What it may say for each request, bytes: its head, and as much of a body as it may send without being asked for more.
const ASKING_BYTES_MAX: u64 = 128 * 1024;
/// And for so many bytes that it has taken one more: clients tell that they have taken some, in frames of 13 bytes, twice for 4 KiB at
/// the most.
const TAKING_BYTES: u64 = 16;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<I> Patient<I> {
    /// From now on the peer has `head` to tell what it speaks, as long for the head of each request from its first byte on, and
    /// `patience` to take something whenever we write.
    pub(super) fn new(io: I, head: Duration, patience: Duration, activity: Arc<Activity>) -> Self {
        let deadline = Box::pin(tokio::time::sleep(head));
        let hearing = Hearing::Opening(Opening { patience: head, deadline, preface: PREFACE });
        Self { io, patience, waiting: None, alarm: None, hearing, sent: 0, activity }
    }

    fn count(&mut self, progress: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(sent)) = progress {
            self.sent = self.sent.saturating_add(*sent as u64);
        }
    }

    fn bounded<T>(&mut self, context: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            if self.waiting.take().is_some() {
                self.activity.writes(false);
            }
            return progress;
        }
        if self.waiting.is_none() {
            self.activity.writes(true);
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
        let Self { hearing, sent, activity, .. } = &mut *self;
        if progress.is_ready() {
            hearing.hear(buffer.filled_mut().get_mut(before..).unwrap_or_default(), activity);
            if hearing.is_flooded(*sent, activity) {
                return Poll::Ready(Err(flooded()));
            }
            return progress;
        }
        ready!(hearing.is_late(context, activity));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client did not say in time what it wants")))
    }
}

/// Tells of a peer that says much and asks little.
fn flooded() -> io::Error {
    static FLOODED: Seldom = Seldom::new();
    let why = "a client says much over HTTP/2 and asks little";
    counter!("pratique_connections_refused_total", "why" => "flood").increment(1);
    if let Some(times) = FLOODED.times() {
        tracing::warn!(times, "a connection was closed: {why}");
    }
    io::Error::new(io::ErrorKind::QuotaExceeded, why)
}

impl Hearing {
    fn hear(&mut self, said: &mut [u8], activity: &Activity) {
        match self {
            Self::Opening(opening) => {
                if let Some(rest) = opening.preface.strip_prefix(&*said)
                    && !said.is_empty()
                    && !rest.is_empty()
                {
                    opening.preface = rest;
                } else if said.starts_with(opening.preface) {
                    *self = Self::Frames { heard: said.len() as u64 };
                } else {
                    // The time of the first head runs since the connection is there.
                    let unused = Box::pin(tokio::time::sleep(Duration::ZERO));
                    let deadline = std::mem::replace(&mut opening.deadline, unused);
                    let Opening { patience, preface, .. } = *opening;
                    let last = PREFACE.strip_suffix(preface).and_then(<[u8]>::last).copied().unwrap_or_default();
                    let line = if preface.len() == PREFACE.len() { Line::Next } else { Line::Request };
                    let mut head = Head { patience, begun_after: Some(0), armed: true, deadline, last, line };
                    head.strictly(said);
                    *self = Self::Heads(head);
                }
            }
            Self::Heads(head) => {
                let requests = activity.requests();
                if head.begun_after != Some(requests) {
                    head.begun_after = Some(requests);
                    head.armed = false;
                }
                head.strictly(said);
            }
            Self::Frames { heard } => *heard = heard.saturating_add(said.len() as u64),
        }
    }

    /// Whether a peer over HTTP/2 has said more than its requests, and what it took, can explain: pings, settings and other frames that
    /// cost us work and carry nothing.
    fn is_flooded(&self, sent: u64, activity: &Activity) -> bool {
        let Self::Frames { heard } = self else { return false };
        let asked = activity.requests().saturating_mul(ASKING_BYTES_MAX);
        *heard > UNASKED_BYTES_MAX.saturating_add(asked).saturating_add(sent / TAKING_BYTES)
    }

    /// Completes when the peer's time is over.
    fn is_late(&mut self, context: &mut Context<'_>, activity: &Activity) -> Poll<()> {
        match self {
            Self::Opening(opening) => opening.deadline.as_mut().poll(context),
            Self::Heads(head) if head.begun_after == Some(activity.requests()) && !activity.is_busy() => {
                if !head.armed {
                    head.deadline.as_mut().reset(Instant::now() + head.patience);
                    head.armed = true;
                }
                head.deadline.as_mut().poll(context)
            }
            Self::Heads(_) | Self::Frames { .. } => Poll::Pending,
        }
    }
}

impl Head {
    /// A line feed by itself ends no line: it becomes a byte that is in no request, which hyper answers with 400. hyper itself would take
    /// it for an end, and another reader of the same bytes may not (RFC 9112, 2.2). Bodies of requests, in which it may stand, are not
    /// looked at by anybody. So it is with a `#` in a request's line: what hyper would leave out from there on is part of the target to another
    /// reader.
    fn strictly(&mut self, said: &mut [u8]) {
        for byte in said {
            let ends = *byte == b'\n' && self.last == b'\r';
            if (*byte == b'\n' && !ends) || (*byte == b'#' && self.line == Line::Request) {
                *byte = 0;
            }
            self.last = *byte;
            self.line = match self.line {
                Line::Next | Line::Header if ends => Line::Next,
                Line::Request | Line::Filled if ends => Line::Header,
                same if *byte == b'\r' => same,
                Line::Next | Line::Request => Line::Request,
                Line::Header | Line::Filled => Line::Filled,
            };
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Patient<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write(context, bytes);
        self.count(&progress);
        self.bounded(context, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.count(&progress);
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// With ten seconds for a head, and sixty for what is written.
    fn patient(io: DuplexStream) -> Patient<DuplexStream> {
        Patient::new(io, Duration::from_secs(10), Duration::from_secs(60), Arc::new(Activity::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let mut patient = patient(near);
        let error = patient.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_waited_for() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut patient = patient(near);
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
        let mut patient = patient(near);
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
        let mut patient = patient(near);
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
    async fn a_peer_that_speaks_http2_is_left_to_the_timers_of_its_protocol() {
        for said in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0"] {
            assert!(silence_after(said.as_bytes()).await.is_err(), "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_given_up() {
        for said in ["G", "PUT", "GET /v2/ HTTP/1.1\r\nhost: "] {
            let error = silence_after(said.as_bytes()).await.expect("an end in time").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{said:?}");
        }
    }

    /// When a read fails, in seconds, where a byte comes every four of them.
    async fn dripping(patient: &mut Patient<DuplexStream>, mut far: DuplexStream) -> u64 {
        let began = Instant::now();
        tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        });
        let error = patient.read_exact(&mut [0; 24]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn drops_of_a_head_win_no_time() {
        let (near, far) = tokio::io::duplex(1024);
        assert_eq!(dripping(&mut patient(near), far).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_requests_there_is_time_and_within_the_second_there_is_not() {
        let (near, mut far) = tokio::io::duplex(1024);
        let activity = Arc::new(Activity::new());
        let mut patient = Patient::new(near, Duration::from_secs(10), Duration::from_secs(60), Arc::clone(&activity));
        far.write_all(b"GET").await.unwrap();
        patient.read_exact(&mut [0; 3]).await.unwrap();
        let busy = activity.begin();
        let mut buffer = [0; 1];
        let waits = tokio::time::timeout(Duration::from_secs(600), patient.read(&mut buffer)).await;
        assert!(waits.is_err(), "a request is worked on");
        drop(busy);
        let waits = tokio::time::timeout(Duration::from_secs(600), patient.read(&mut buffer)).await;
        assert!(waits.is_err(), "none has begun");
        assert_eq!(dripping(&mut patient, far).await, 10);
    }

    /// What is read of what comes in these parts.
    async fn read(parts: &[&[u8]]) -> Vec<u8> {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut patient, mut heard) = (patient(near), Vec::new());
        for part in parts {
            far.write_all(part).await.unwrap();
            let mut buffer = vec![0; part.len()];
            patient.read_exact(&mut buffer).await.unwrap();
            heard.extend(buffer);
        }
        heard
    }

    #[tokio::test]
    async fn a_line_feed_by_itself_is_none_wherever_the_network_cuts() {
        let said = b"GET / HTTP/1.1\r\nhost: p\nx: y\r\n\n";
        let strictly = b"GET / HTTP/1.1\r\nhost: p\0x: y\r\n\0";
        for cut in 0..=said.len() {
            let (one, two) = said.split_at(cut);
            let parts: Vec<_> = [one, two].into_iter().filter(|part| !part.is_empty()).collect();
            assert_eq!(read(&parts).await, strictly, "cut after {cut} bytes");
        }
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        for cut in 1..preface.len() {
            let (one, two) = preface.split_at(cut);
            let said = [two, b"\n\n"].concat();
            assert_eq!(read(&[one, &said, b"\n"]).await, [&preface[..], b"\n\n\n"].concat(), "cut after {cut} bytes");
            // What looked like it for so long, and was not.
            assert_eq!(read(&[one, b"\n"]).await.last(), Some(&if one.ends_with(b"\r") { b'\n' } else { 0 }));
        }
    }

    #[tokio::test]
    async fn a_number_sign_is_in_no_request_line_and_anywhere_else_it_may_be() {
        let said = b"\r\nGET /v2/#/../x HTTP/1.1\r\nx: #1\r\n\r\nHEAD /# HTTP/1.1\r\n#: x\r\n\r\n";
        let strictly = b"\r\nGET /v2/\0/../x HTTP/1.1\r\nx: #1\r\n\r\nHEAD /\0 HTTP/1.1\r\n#: x\r\n\r\n";
        for cut in 0..=said.len() {
            let (one, two) = said.split_at(cut);
            let parts: Vec<_> = [one, two].into_iter().filter(|part| !part.is_empty()).collect();
            assert_eq!(read(&parts).await, strictly, "cut after {cut} bytes");
        }
        assert_eq!(read(&[b"P", b"UT /# HTTP/1.1\r\n"]).await, b"PUT /\0 HTTP/1.1\r\n");
    }

    #[tokio::test]
    async fn over_http2_much_is_heard_of_who_asks_and_takes_and_little_of_who_does_not() {
        /// How many bytes are heard after so many requests, and so many bytes taken.
        async fn heard(requests: usize, taken: usize) -> u64 {
            let (near, far) = tokio::io::duplex(1024);
            let activity = Arc::new(Activity::new());
            let patience = Duration::from_secs(60);
            let mut patient = Patient::new(near, patience, patience, Arc::clone(&activity));
            let (mut reader, mut says) = tokio::io::split(far);
            let taking = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
            for _ in 0..requests {
                drop(activity.begin());
            }
            patient.write_all(&vec![0; taken]).await.unwrap();
            let saying = tokio::spawn(async move {
                let _ = says.write_all(PREFACE).await;
                while says.write_all(&[0; 1000]).await.is_ok() {}
            });
            let (mut heard, mut buffer) = (0, [0; 1024]);
            let error = loop {
                match patient.read(&mut buffer).await {
                    Ok(bytes) => heard += bytes as u64,
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
            saying.abort();
            taking.abort();
            heard
        }
        let within = |heard: u64, max: u64| assert!(heard <= max && heard + 1024 > max, "{heard} of {max}");
        within(heard(0, 0).await, UNASKED_BYTES_MAX);
        within(heard(3, 0).await, UNASKED_BYTES_MAX + 3 * ASKING_BYTES_MAX);
        within(heard(0, 1 << 20).await, UNASKED_BYTES_MAX + (1 << 20) / TAKING_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_no_timeout() {
        let (near, far) = tokio::io::duplex(16);
        drop(far);
        let mut patient = patient(near);
        assert_eq!(patient.read(&mut [0; 16]).await.unwrap(), 0);
    }
}
