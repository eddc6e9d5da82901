//! The load client. Bodies are dropped in the kernel (`MSG_TRUNC` on a TCP socket), so that the server is what is measured; over TLS
//! too, where nothing is decrypted and the server closes the connection after its answer.

mod requests;
mod secure;

use std::{
    io::{self, Read, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, recv};
use rustls::ClientConfig;

use super::{Failure, peer::Peer};

pub use requests::{Latencies, ask_for};

/// Where a client goes, and how it speaks there.
#[derive(Clone)]
pub struct Door {
    /// On loopback.
    pub address: SocketAddr,
    /// With TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Door {
    /// The door of a peer.
    pub fn of(peer: &Peer, tls: &Arc<ClientConfig>) -> Self {
        Self { address: peer.address, tls: peer.tls.then(|| Arc::clone(tls)) }
    }

    /// Fetches `path` `times` times and drops what comes.
    ///
    /// # Errors
    /// When an answer is no 200, or not complete.
    pub fn drain(&self, path: &str, length: u64, times: usize) -> Result<(), Failure> {
        if let Some(tls) = &self.tls {
            return (0..times).try_for_each(|_| secure::drain(self.address, tls, path, length));
        }
        let mut connection = Connection::open(self.address)?;
        (0..times).try_for_each(|_| connection.drain(path, length).map(|_| ()))
    }
}

/// A connection without TLS that is kept for further requests.
pub struct Connection {
    stream: TcpStream,
    /// Where the kernel would put what is dropped: never written to, so it costs no memory.
    nowhere: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, nowhere: vec![0; 4 << 20] })
    }

    /// Fetches `path`, which has `length` bytes, and drops them; returns how long the first byte of the body took.
    ///
    /// # Errors
    /// When the answer is no 200, has another length, or breaks.
    pub fn drain(&mut self, path: &str, length: u64) -> Result<Duration, Failure> {
        let begun = Instant::now();
        self.stream.write_all(&request(path, false))?;
        let (head, early) = self.head()?;
        let said = head.length.ok_or("no Content-Length")?;
        if head.status != 200 || said != length {
            return Err(format!("{path}: status {}, {said} bytes instead of {length}", head.status).into());
        }
        let mut left = length - early.len() as u64;
        let mut first_byte = (!early.is_empty()).then(|| begun.elapsed());
        while left > 0 {
            let most = usize::try_from(left).map_or(self.nowhere.len(), |left| left.min(self.nowhere.len()));
            let (_, dropped) = recv(&self.stream, self.nowhere.get_mut(..most).unwrap_or_default(), RecvFlags::TRUNC)?;
            if dropped == 0 {
                return Err(format!("{path}: broken, {left} of {length} bytes missing").into());
            }
            first_byte = first_byte.or_else(|| Some(begun.elapsed()));
            left -= dropped as u64;
        }
        Ok(first_byte.unwrap_or_else(|| begun.elapsed()))
    }

    /// Fetches `path` and shows each piece of the body to `piece`: status, and whether all that was promised came.
    ///
    /// # Errors
    /// When there is no answer at all.
    pub fn read(&mut self, path: &str, mut piece: impl FnMut(&[u8])) -> Result<(u16, bool), Failure> {
        self.stream.write_all(&request(path, false))?;
        let (head, early) = self.head()?;
        piece(&early);
        let mut left = head.length.ok_or("no Content-Length")?.saturating_sub(early.len() as u64);
        let mut buffer = vec![0; 256 << 10];
        while left > 0 {
            let Ok(read @ 1..) = self.stream.read(&mut buffer) else { return Ok((head.status, false)) };
            piece(buffer.get(..read).unwrap_or_default());
            left = left.saturating_sub(read as u64);
        }
        Ok((head.status, true))
    }

    /// The head of an answer, and what came of the body with it.
    fn head(&mut self) -> Result<(Head, Vec<u8>), Failure> {
        let mut received = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err("closed before an answer".into());
            }
            received.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if let Some(head) = Head::parse(&received)? {
                let body = received.split_off(head.bytes);
                return Ok((head, body));
            }
        }
    }
}

/// What is in the head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// `Content-Length`.
    length: Option<u64>,
    /// Its own length, empty line included.
    bytes: usize,
}

impl Head {
    /// None: there is more to come.
    fn parse(received: &[u8]) -> Result<Option<Self>, Failure> {
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(received.get(..end).unwrap_or_default())?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        Ok(Some(Self { status: status.ok_or("no status line")?, length, bytes: end + 4 }))
    }
}

/// What a client of a registry asks.
fn request(path: &str, last: bool) -> Vec<u8> {
    let connection = if last { "Connection: close\r\n" } else { "" };
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.oci.image.manifest.v1+json\r\n{connection}\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.1 206 Partial Content\r\nA: b\r\ncontent-LENGTH: 12\r\n\r\nbody";
        for cut in 0..answer.len() - 4 {
            assert_eq!(Head::parse(&answer[..cut]).unwrap(), None);
        }
        let head = Head { status: 206, length: Some(12), bytes: answer.len() - 4 };
        assert_eq!(Head::parse(answer).unwrap(), Some(head));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(Head::parse(b"hello\r\n\r\n").is_err());
        assert!(Head::parse(b"\xff\xff\r\n\r\n").is_err());
    }
}
