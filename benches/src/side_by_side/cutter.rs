//! A stretch of bad line between a cache and its upstream: every connection is cut after a random number of bytes.

use std::{
    io::{Read, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use super::Failure;

/// Dropping it closes its listener; what it still carries ends with the peers.
pub struct Cutter {
    /// Where a cache finds it.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: SocketAddr,
    /// The least and the most bytes of answers that a connection carries.
    from: u64,
    to: u64,
    carried: AtomicU64,
    ended: AtomicBool,
}

impl Cutter {
    /// In front of `upstream`; each connection is cut after `from` to `to` bytes of answers, the same ones for the same `seed`.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(upstream: SocketAddr, from: u64, to: u64, seed: u64) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Shared { upstream, from, to, carried: AtomicU64::new(0), ended: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        let inner = Arc::clone(&shared);
        thread::spawn(move || {
            let mut random = seed | 1;
            for client in listener.incoming().map_while(Result::ok) {
                if inner.ended.load(Ordering::Relaxed) {
                    break;
                }
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let most = inner.from + random % (inner.to - inner.from).max(1);
                let shared = Arc::clone(&inner);
                thread::spawn(move || {
                    // Whoever loses a connection here finds out by itself.
                    let _ = shared.carry(&client, most);
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Bytes of answers, heads included, that were passed on so far.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // The listener looks up at the next connection: this one.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(&self, client: &TcpStream, most: u64) -> std::io::Result<()> {
        let upstream = TcpStream::connect(self.upstream)?;
        let (mut questions, mut onward) = (client.try_clone()?, upstream.try_clone()?);
        let asking = thread::spawn(move || {
            let _ = std::io::copy(&mut questions, &mut onward);
            let _ = onward.shutdown(Shutdown::Write);
        });
        let carried = self.answers(client, &upstream, most);
        let _ = (client.shutdown(Shutdown::Both), upstream.shutdown(Shutdown::Both));
        let _ = asking.join();
        carried
    }

    fn answers(&self, mut client: &TcpStream, mut upstream: &TcpStream, most: u64) -> std::io::Result<()> {
        let (mut left, mut buffer) = (most, vec![0; 64 << 10]);
        while left > 0 {
            let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = upstream.read(buffer.get_mut(..room).unwrap_or_default())?;
            if read == 0 {
                break;
            }
            client.write_all(buffer.get(..read).unwrap_or_default())?;
            self.carried.fetch_add(read as u64, Ordering::Relaxed);
            left -= read as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_cut_and_what_it_carried_is_counted() {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = upstream.local_addr().unwrap();
        let sending = thread::spawn(move || {
            let (mut stream, _) = upstream.accept().unwrap();
            // More than is let through: where the cut is, writing fails.
            let _ = stream.write_all(&vec![7; 1 << 20]);
        });
        let cutter = Cutter::start(address, 1000, 1001, 1).unwrap();
        let mut received = Vec::new();
        TcpStream::connect(cutter.address).unwrap().read_to_end(&mut received).unwrap();
        assert_eq!((received.len(), cutter.carried()), (1000, 1000));
        sending.join().unwrap();
    }
}
