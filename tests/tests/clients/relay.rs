//! A plain line between a client and pratique that breaks on order, and hears what is asked for over it.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use oci::Digest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// How a connection ends before its time.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// What came arrives, and then the end of the stream (FIN).
    End,
    /// The connection is reset (RST): what is still on its way may be lost.
    Reset,
}

/// Listens until it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    target: SocketAddr,
    /// How many bytes a connection brings before it is cut.
    after: usize,
    /// What happens to the next connections that bring more.
    cuts: Mutex<VecDeque<Cut>>,
    /// Every head that a client sent, in the order in which they were complete.
    heads: Mutex<Vec<String>>,
    /// The most bytes that a connection has brought to a client so far.
    brought: watch::Sender<usize>,
}

impl Relay {
    /// Leads to `target`. Of the connections that bring more than `after` bytes, the first ones are cut there, one for each of `cuts`.
    pub async fn to(target: SocketAddr, after: usize, cuts: &[Cut]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, heads) = (Mutex::new(cuts.iter().copied().collect()), Mutex::default());
        let shared = Arc::new(Shared { target, after, cuts, heads, brought: watch::Sender::new(0) });
        let ours = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, Arc::clone(&ours)));
            }
        });
        Self { address, shared, listening }
    }

    /// `127.0.0.1:<port>`.
    pub fn host_port(&self) -> String {
        self.address.to_string()
    }

    /// How many of the cuts are still to come.
    pub fn cuts_left(&self) -> usize {
        self.shared.cuts.lock().unwrap().len()
    }

    /// Waits until a connection has brought so many bytes to a client.
    pub async fn brought(&self, bytes: usize) {
        let mut brought = self.shared.brought.subscribe();
        let wanted = brought.wait_for(|brought| *brought >= bytes);
        timeout(Duration::from_secs(60), wanted).await.expect("within a minute").expect("the sender is ours");
    }

    /// For each GET of this blob, in the order of asking, from which byte on it was asked for: `None` is all of it.
    pub fn asked_from(&self, blob: &Digest) -> Vec<Option<usize>> {
        let path = format!("/blobs/{blob}");
        let heads = self.shared.heads.lock().unwrap();
        let gets = heads.iter().filter(|head| head.starts_with("GET ") && head.contains(&path));
        gets.map(|head| from(head)).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// The beginning of an open range, as all these clients ask for one.
fn from(head: &str) -> Option<usize> {
    let value =
        head.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| name.eq_ignore_ascii_case("range"));
    let (_, range) = value?;
    let first =
        range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')).and_then(|first| first.parse().ok());
    Some(first.unwrap_or_else(|| panic!("a range that no client was seen to ask for: {range}")))
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.target).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let cut = tokio::select! {
        asked = ask(&mut from_client, &mut to_server, &shared) => asked.map(|()| None),
        answered = answer(&mut from_server, &mut to_client, &shared) => answered,
    };
    if let Some(Cut::Reset) = cut? {
        client.set_zero_linger()?;
    }
    Ok(())
}

/// Requests, none of which has a body.
async fn ask(client: &mut ReadHalf<'_>, server: &mut WriteHalf<'_>, shared: &Shared) -> io::Result<()> {
    let (mut piece, mut head) = (vec![0; 16 << 10], Vec::new());
    loop {
        let length = client.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..length]);
        while let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = head.split_off(end + 4);
            let whole = std::mem::replace(&mut head, rest);
            shared.heads.lock().unwrap().push(String::from_utf8_lossy(&whole).into_owned());
        }
        server.write_all(&piece[..length]).await?;
    }
}

/// Answers, up to where the connection is to be cut.
async fn answer(server: &mut ReadHalf<'_>, client: &mut WriteHalf<'_>, shared: &Shared) -> io::Result<Option<Cut>> {
    let (mut piece, mut brought) = (vec![0; 16 << 10], 0);
    loop {
        let length = server.read(&mut piece).await?;
        if length == 0 {
            return Ok(None);
        }
        let passes = brought <= shared.after && brought + length > shared.after;
        let due = if passes { shared.cuts.lock().unwrap().pop_front() } else { None };
        if due.is_some() {
            client.write_all(&piece[..shared.after - brought]).await?;
            return Ok(due);
        }
        client.write_all(&piece[..length]).await?;
        brought += length;
        shared.brought.send_if_modified(|most| std::mem::replace(most, (*most).max(brought)) < brought);
    }
}
