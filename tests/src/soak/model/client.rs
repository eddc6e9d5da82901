//! A client of a simulation: connections in memory, one request at a time, and everything that came back of it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy::{app::App, listen, stack};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

use super::world::CLIENT_CANARY;

/// How long anything at all may take. Whoever takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// What the server may have on its way to a client.
const BUFFER: usize = 16 * 1024;

/// How a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As fast as it comes.
    Prompt,
    /// With a pause before each piece.
    Slow(Duration),
    /// Until so many bytes have come; then it is gone.
    Leaves(usize),
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// GET or HEAD.
    pub method: Method,
    /// From `/v2/` on.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// How the answer is read.
    pub reading: Reading,
}

/// An answer, as far as it came.
#[derive(Debug)]
pub struct Got {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// What came of its body.
    pub body: Bytes,
    /// Whether the body came to its proper end.
    pub is_complete: bool,
}

impl Got {
    /// A header's value, where it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// There was an answer.
    Answer(Got),
    /// The connection ended first.
    Lost,
    /// There was no end to it.
    Stuck,
}

/// Where clients come in.
#[derive(Clone)]
pub enum Door {
    /// By connections in memory.
    Memory(Arc<App>),
    /// By sockets.
    Socket(SocketAddr),
}

/// A client with at most one connection.
pub struct Client {
    door: Door,
    line: Option<Line>,
    speaks_http2: bool,
}

enum Line {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    /// Not connected yet.
    pub fn new(door: &Door, speaks_http2: bool) -> Self {
        Self { door: door.clone(), line: None, speaks_http2 }
    }

    /// Asks, and takes the answer as far as it wants it. When the head came, and what became of it.
    pub async fn ask(&mut self, asked: &Asked) -> (Instant, Outcome) {
        let deadline = Instant::now() + PATIENCE;
        let sent = timeout_at(deadline, self.send(asked)).await;
        let head_at = Instant::now();
        let answer = match sent {
            Err(_) => return (head_at, self.gone(Outcome::Stuck)),
            Ok(None) => return (head_at, self.gone(Outcome::Lost)),
            Ok(Some(answer)) => answer,
        };
        let (head, body) = answer.into_parts();
        let Ok((body, is_complete)) = timeout_at(deadline, read(body, asked.reading)).await else {
            return (head_at, self.gone(Outcome::Stuck));
        };
        if !is_complete {
            self.line = None;
        }
        (head_at, Outcome::Answer(Got { status: head.status, headers: head.headers, body, is_complete }))
    }

    fn gone(&mut self, outcome: Outcome) -> Outcome {
        self.line = None;
        outcome
    }

    /// Over the connection that there is; where that was idle and has been closed meanwhile, over another, as every client does.
    async fn send(&mut self, asked: &Asked) -> Option<hyper::Response<Incoming>> {
        let was_open = self.line.is_some();
        let sent = self.send_once(asked).await;
        if sent.is_some() || !was_open {
            return sent;
        }
        self.line = None;
        self.send_once(asked).await
    }

    async fn send_once(&mut self, asked: &Asked) -> Option<hyper::Response<Incoming>> {
        let builder = Request::builder().method(asked.method.clone());
        let builder = if self.speaks_http2 {
            builder.uri(format!("http://pratique.example{}", asked.path))
        } else {
            builder.uri(&asked.path).header("host", "pratique.example")
        };
        let builder = builder.header("authorization", format!("Bearer {CLIENT_CANARY}"));
        let builder = builder.header("cookie", CLIENT_CANARY);
        let builder = asked.headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        let request = builder.body(Empty::new()).ok()?;
        if self.line.as_ref().is_none_or(Line::is_closed) {
            self.line = Some(self.connect().await?);
        }
        match self.line.as_mut()? {
            Line::Http1(line) => {
                line.ready().await.ok()?;
                line.send_request(request).await.ok()
            }
            Line::Http2(line) => {
                line.ready().await.ok()?;
                line.send_request(request).await.ok()
            }
        }
    }

    async fn connect(&self) -> Option<Line> {
        match &self.door {
            Door::Socket(address) => self.shake_hands(TcpStream::connect(address).await.ok()?).await,
            Door::Memory(app) => {
                let (near, far) = tokio::io::duplex(BUFFER);
                let limits = Arc::new(app.in_force().settings.limits.clone());
                let service = stack::stack(app);
                tokio::spawn(async move { listen::attend(far, Ipv4Addr::LOCALHOST.into(), service, limits).await });
                self.shake_hands(near).await
            }
        }
    }

    async fn shake_hands(&self, near: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Option<Line> {
        if self.speaks_http2 {
            let (line, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.ok()?;
            tokio::spawn(connection);
            return Some(Line::Http2(line));
        }
        let (line, connection) = http1::handshake(TokioIo::new(near)).await.ok()?;
        tokio::spawn(connection);
        Some(Line::Http1(line))
    }
}

impl Line {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(line) => line.is_closed(),
            Self::Http2(line) => line.is_closed(),
        }
    }
}

/// What came of a body, and whether all of it.
async fn read(mut body: Incoming, reading: Reading) -> (Bytes, bool) {
    let mut read = BytesMut::new();
    loop {
        match reading {
            Reading::Leaves(after) if read.len() >= after => return (read.freeze(), false),
            Reading::Slow(pause) => sleep(pause).await,
            Reading::Prompt | Reading::Leaves(_) => {}
        }
        match body.frame().await {
            None => return (read.freeze(), true),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    read.extend_from_slice(&data);
                }
            }
            Some(Err(_)) => return (read.freeze(), false),
        }
    }
}
