//! A forward proxy that knows every name: all of them are this machine.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A forward proxy that takes CONNECT and nothing else; it ends, with all its connections, when it is dropped.
pub struct Forward {
    address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

struct State {
    /// The heads of what it was asked.
    asked: Mutex<Vec<String>>,
    /// What it answers.
    status: AtomicU16,
}

impl Forward {
    /// One that connects to whatever it is asked for.
    ///
    /// # Errors
    /// When the machine gives no port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { asked: Mutex::default(), status: AtomicU16::new(200) });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, _serving: serving })
    }

    /// From now on, answers with this status; it connects where that is 200.
    pub fn answer(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn host_port(&self) -> String {
        self.address.to_string()
    }

    /// The heads of what it was asked so far, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was asked for a connection to `host_port`.
    #[must_use]
    pub fn was_asked_for(&self, host_port: &str) -> bool {
        self.asked().iter().any(|head| head.starts_with(&format!("CONNECT {host_port} ")))
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and then all of its connections end.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            // Either side may leave whenever it likes.
            let _ = connect(client, &state).await;
        });
    }
}

async fn connect(mut client: TcpStream, state: &State) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let port = head.split(' ').nth(1).and_then(|target| target.rsplit_once(':')?.1.parse::<u16>().ok());
    state.asked.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    let status = state.status.load(Ordering::SeqCst);
    client.write_all(format!("HTTP/1.1 {status} As told\r\n\r\n").as_bytes()).await?;
    if let Some(port) = port.filter(|_| status == 200) {
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        copy_bidirectional(&mut client, &mut far).await?;
    }
    Ok(())
}
