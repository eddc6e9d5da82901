//! Misbehaviour on order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::calls::Call;
use super::waiting::{NeverReached, until};

/// What goes wrong with an answer. Those from `Status` to `Instead` replace it, `Late`, `Hang` and `Disconnect` come before it, the others change it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Fault {
    /// This status with these headers, and an OCI error document that names neither.
    Status {
        /// 429, 503, …
        code: u16,
        /// Such as `("retry-after", "7")`.
        headers: Vec<(String, String)>,
    },
    /// 307 to this URL, or to whatever else is written in it.
    Redirect(String),
    /// 401 with this value of `WWW-Authenticate`.
    Challenge(String),
    /// 200 with other content: another manifest, a token that is none, a page of something. The digest header is true for it.
    Instead {
        /// Its Content-Type.
        media_type: String,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Nothing at all is answered for so long.
    Late(Duration),
    /// Nothing at all is answered until released; then the call goes on.
    Hang,
    /// The connection (over HTTP/2: the stream) is closed without an answer.
    Disconnect,
    /// A Range is answered with 200 and everything.
    IgnoreRange,
    /// One bit of the byte at this offset is flipped. The offset counts in the whole blob or manifest, also when a range of it is
    /// answered; beyond its end the last byte is hit.
    Corrupt(u64),
    /// After so many bytes of this answer's body, but at the latest before its last, the connection (the stream) breaks, the full length
    /// announced. Over HTTP/1.1 exactly so many arrive, over HTTP/2 at most.
    Truncate(u64),
    /// After some bytes of each answer's body, at most so many and another number each time, the connection (the stream) breaks; an
    /// answer that has no more ends well.
    Breaks {
        /// Where chance begins.
        seed: u64,
        /// The most that one answer brings.
        most: u64,
    },
    /// After the head and so many bytes of this answer's body nothing more comes until released; with 0 the first byte is late.
    Stall(u64),
    /// The body comes in pieces of so many bytes, with such a pause before each but the first.
    Trickle {
        /// How long a piece is.
        bytes: u64,
        /// How long nothing comes between two.
        pause: Duration,
    },
    /// So many bytes are announced, whatever there is. Too few over HTTP/1.1: the answer ends well without the others. Too many
    /// over HTTP/1.1: the connection closes after the true ones. Over HTTP/2 the true ones are sent in any case, and the stream ends well.
    Length(u64),
    /// After the true content the body goes on for ever, its length not announced.
    Endless,
    /// A header has another value, or, with `None`, is missing: `docker-content-digest`, `content-type`, `content-range`, `link`.
    /// Without `content-length` the body comes in chunks.
    Header {
        /// In lower case.
        name: String,
        /// What it says.
        value: Option<String>,
    },
    /// The body is packed with gzip, and says so in Content-Encoding, whatever was accepted.
    Gzip,
}

impl Fault {
    /// A status without further headers.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new() }
    }

    /// A 429 that asks for so many seconds of patience.
    #[must_use]
    pub fn too_many_requests(retry_after_seconds: u64) -> Self {
        Self::Status { code: 429, headers: vec![("retry-after".to_owned(), retry_after_seconds.to_string())] }
    }

    /// A challenge that sends clients to `realm` for their token.
    #[must_use]
    pub fn realm(realm: &str, service: &str, scope: &str) -> Self {
        Self::Challenge(format!("Bearer realm=\"{realm}\",service=\"{service}\",scope=\"{scope}\""))
    }

    /// Another value of a header.
    #[must_use]
    pub fn header(name: &str, value: &str) -> Self {
        Self::Header { name: name.to_owned(), value: Some(value.to_owned()) }
    }

    /// A header left out.
    #[must_use]
    pub fn without_header(name: &str) -> Self {
        Self::Header { name: name.to_owned(), value: None }
    }

    /// A digest header that says this.
    #[must_use]
    pub fn digest_header(digest: &str) -> Self {
        Self::header("docker-content-digest", digest)
    }

    /// A Content-Type that says this.
    #[must_use]
    pub fn content_type(media_type: &str) -> Self {
        Self::header("content-type", media_type)
    }

    /// Other content under this type.
    pub fn instead(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self::Instead { media_type: media_type.to_owned(), bytes: bytes.into() }
    }
}

/// A fault in force; it stays in force when this handle is dropped.
pub struct Injected {
    rule: Arc<Rule>,
}

impl Injected {
    /// It ends after so many calls have met it.
    #[expect(
        clippy::must_use_candidate,
        clippy::return_self_not_must_use,
        reason = "the fault is in force without its handle"
    )]
    pub fn times(self, times: usize) -> Self {
        self.rule.state().times = Some(times);
        self
    }

    /// The first so many calls are spared.
    #[expect(
        clippy::must_use_candidate,
        clippy::return_self_not_must_use,
        reason = "the fault is in force without its handle"
    )]
    pub fn after(self, calls: usize) -> Self {
        self.rule.state().spared = calls;
        self
    }

    /// How many calls have met it.
    #[must_use]
    pub fn hits(&self) -> usize {
        *self.rule.hits.borrow()
    }

    /// Waits until so many calls have met it.
    ///
    /// # Errors
    ///
    /// When they have not within a minute.
    pub async fn hit(&self, wanted: usize) -> Result<(), NeverReached> {
        until(
            self.rule.hits.subscribe(),
            || self.hits() >= wanted,
            || NeverReached { wanted, seen: vec![format!("{} hits of the fault", self.hits())] },
        )
        .await
    }

    /// What hangs or stalls by it goes on; later calls do not stop at all.
    pub fn release(&self) {
        self.rule.released.send_replace(true);
    }

    /// It ends; what hangs or stalls by it goes on.
    pub fn clear(&self) {
        self.rule.clear();
    }
}

/// All faults in force.
#[derive(Default)]
pub(super) struct Faults {
    rules: Mutex<Vec<Arc<Rule>>>,
    whims: Mutex<Whims>,
}

/// What decides anew for each call.
#[derive(Default)]
struct Whims {
    decide: Option<Decide>,
    calls: usize,
    /// What hangs or stalls by them; each is released by itself, in the order of the calls.
    held: Vec<watch::Sender<bool>>,
}

pub(super) type Decide = Box<dyn FnMut(&Call) -> Vec<Fault> + Send>;

type Predicate = Box<dyn Fn(&Call) -> bool + Send + Sync>;

struct Rule {
    such: Predicate,
    fault: Fault,
    state: Mutex<State>,
    hits: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    cleared: bool,
    times: Option<usize>,
    spared: usize,
}

/// One fault as one call meets it.
pub(super) struct Met {
    pub(super) fault: Fault,
    /// How many calls have met it, this one included.
    pub(super) number: usize,
    pub(super) released: watch::Receiver<bool>,
}

impl Faults {
    pub(super) fn inject(&self, such: Predicate, fault: Fault) -> Injected {
        let rule = Arc::new(Rule {
            such,
            fault,
            state: Mutex::default(),
            hits: watch::Sender::new(0),
            released: watch::Sender::new(false),
        });
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| !rule.state().cleared);
        rules.push(Arc::clone(&rule));
        Injected { rule }
    }

    pub(super) fn clear(&self) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules.drain(..) {
            rule.clear();
        }
        drop(rules);
        self.decide_by(None);
    }

    /// Asks `decide` about every call from now on, besides the rules. What went before goes on.
    pub(super) fn decide_by(&self, decide: Option<Decide>) {
        let mut whims = self.whims.lock().unwrap_or_else(PoisonError::into_inner);
        whims.decide = decide;
        for held in whims.held.drain(..) {
            held.send_replace(true);
        }
    }

    /// The faults that this call meets; each is counted as hit.
    pub(super) fn meet(&self, call: &Call) -> Vec<Met> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut met: Vec<Met> = rules.iter().filter_map(|rule| rule.meet(call)).collect();
        self.whims.lock().unwrap_or_else(PoisonError::into_inner).meet(call, &mut met);
        met
    }
}

impl Whims {
    fn meet(&mut self, call: &Call, met: &mut Vec<Met>) {
        let Some(decide) = &mut self.decide else { return };
        let faults = decide(call);
        self.calls += 1;
        for fault in faults {
            let (hold, released) = watch::channel(false);
            if matches!(fault, Fault::Hang | Fault::Stall(_)) {
                self.held.push(hold);
            }
            met.push(Met { fault, number: self.calls, released });
        }
    }
}

impl Rule {
    fn meet(&self, call: &Call) -> Option<Met> {
        if !(self.such)(call) {
            return None;
        }
        let mut state = self.state();
        if state.cleared || state.times == Some(0) {
            return None;
        }
        if state.spared > 0 {
            state.spared -= 1;
            return None;
        }
        if let Some(times) = &mut state.times {
            *times -= 1;
        }
        self.hits.send_modify(|hits| *hits += 1);
        Some(Met { fault: self.fault.clone(), number: *self.hits.borrow(), released: self.released.subscribe() })
    }

    fn clear(&self) {
        self.state().cleared = true;
        self.released.send_replace(true);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
