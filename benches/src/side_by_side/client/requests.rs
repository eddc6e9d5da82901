//! Many small requests: connections that each ask again as soon as they are answered, all on one thread.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

use super::{Door, Failure, Head, request, secure};

/// How long each answer took, in nanoseconds, the shortest first.
#[derive(Debug)]
pub struct Latencies {
    sorted: Vec<u64>,
    /// How long the requests went on.
    pub lasted: Duration,
}

impl Latencies {
    fn new(mut taken: Vec<u64>, lasted: Duration) -> Self {
        taken.sort_unstable();
        Self { sorted: taken, lasted }
    }

    /// How many answers there were.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The time within which so many per cent of the answers came, in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds fit into a float's 53 bits")]
    pub fn percentile(&self, per_cent: usize) -> f64 {
        let at = (self.sorted.len() * per_cent).div_ceil(100).saturating_sub(1);
        self.sorted.get(at).copied().unwrap_or_default() as f64 / 1e6
    }
}

/// Asks for `path` on so many connections for so long.
///
/// # Errors
/// When an answer is no 200.
pub fn ask_for(door: &Door, path: &str, connections: usize, long: Duration) -> Result<Latencies, Failure> {
    let question = request(path, false);
    let ready = epoll::create(CreateFlags::CLOEXEC)?;
    let mut all = Vec::new();
    for number in 0..connections {
        let caller = Caller::connect(door)?;
        epoll::add(&ready, caller.stream.socket(), EventData::new_u64(number as u64), EventFlags::IN)?;
        all.push(caller);
    }
    let (begun, mut taken) = (Instant::now(), Vec::new());
    all.iter_mut().try_for_each(|caller| caller.ask(&question))?;
    let mut events: Vec<Event> = Vec::with_capacity(connections.max(1));
    while begun.elapsed() < long {
        events.clear();
        epoll::wait(&ready, spare_capacity(&mut events), None)?;
        for event in &events {
            let caller = usize::try_from(event.data.u64()).ok().and_then(|number| all.get_mut(number));
            let Some(caller) = caller else { continue };
            if let Some(time) = caller.answered()? {
                taken.push(time);
                caller.ask(&question)?;
            }
        }
    }
    Ok(Latencies::new(taken, begun.elapsed()))
}

/// Bytes in both directions, over TLS or not.
trait Stream: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

struct Caller {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
    asked: Instant,
}

impl Caller {
    fn connect(door: &Door) -> Result<Self, Failure> {
        let stream: Box<dyn Stream> = match &door.tls {
            Some(tls) => Box::new(secure::connect(door.address, tls)?),
            None => Box::new(TcpStream::connect(door.address)?),
        };
        stream.socket().set_nodelay(true)?;
        stream.socket().set_nonblocking(true)?;
        Ok(Self { stream, received: Vec::new(), asked: Instant::now() })
    }

    fn ask(&mut self, question: &[u8]) -> io::Result<()> {
        self.received.clear();
        self.asked = Instant::now();
        // One question at a time never fills a socket.
        self.stream.write_all(question)?;
        self.stream.flush()
    }

    /// In how many nanoseconds the answer came; none: it is not complete.
    fn answered(&mut self) -> Result<Option<u64>, Failure> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("closed between answers".into()),
                Ok(read) => self.received.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let Some(head) = Head::parse(&self.received)? else { continue };
            if head.status != 200 {
                return Err(format!("status {}", head.status).into());
            }
            let body = (self.received.len() - head.bytes) as u64;
            if head.length.is_some_and(|length| length <= body) {
                return Ok(Some(u64::try_from(self.asked.elapsed().as_nanos())?));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_taken() {
        let latencies = Latencies::new((1..=200).rev().map(|ms| ms * 1_000_000).collect(), Duration::from_secs(1));
        assert_eq!(latencies.count(), 200);
        assert!((latencies.percentile(50) - 100.0).abs() < 1e-9);
        assert!((latencies.percentile(99) - 198.0).abs() < 1e-9);
        assert!((latencies.percentile(100) - 200.0).abs() < 1e-9);
    }
}
