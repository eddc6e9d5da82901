//! Answering on the socket.

use std::{convert::Infallible, io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use config::Limits;
use futures_util::{Stream, future::BoxFuture, stream::unfold};
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as _, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use storage::{Socket, StoreError};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
};

use super::{Line, PATH, REQUEST_BYTES_MAX, VERSION, VERSION_HEADER, is_scrub, patience, unanswered};
use crate::{
    app::App,
    command::{self, Answer, Failure, Heard, Kind, Reporter, Request},
};

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// Commands worked on at the same time; more wait. Each may judge, and serving must go on. A scrub, which may take days, is none of them.
const COMMANDS_MAX: usize = 4;

const LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain; charset=utf-8";

/// The open socket.
pub struct Control {
    socket: Socket<UnixListener>,
    limits: Arc<Limits>,
}

impl Control {
    /// Opens the socket of the store that `app` owns.
    ///
    /// # Errors
    /// When the system does not make one, as where the name of the directory is too long.
    pub fn bind(app: &App, limits: Arc<Limits>) -> Result<Self, StoreError> {
        let socket = app.store.socket(|path: &Path| -> io::Result<UnixListener> { UnixListener::bind(path) })?;
        Ok(Self { socket, limits })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Answers until `drain` turns true; commands under way end within `limits.drain_timeout`. Then the socket is removed.
    pub async fn run(self, app: Arc<App>, mut drain: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let desk = Arc::new(Desk {
            app,
            commands: Semaphore::new(COMMANDS_MAX),
            scrubs: Semaphore::new(1),
            drain: drain.clone(),
        });
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.socket.listener, &slots) => accepted,
                _ = drain.wait_for(|drain| *drain) => break,
            };
            let Some((stream, slot)) = accepted else { continue };
            let (desk, watcher, patience) = (Arc::clone(&desk), graceful.watcher(), self.limits.request_header_timeout);
            tokio::spawn(async move {
                converse(stream, desk, watcher, patience).await;
                drop(slot);
            });
        }
        if tokio::time::timeout(self.limits.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!("commands under way were cut off after limits.drain_timeout");
        }
    }
}

async fn accept(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!("cannot accept a connection on the control socket: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn converse(stream: UnixStream, desk: Arc<Desk>, watcher: Watcher, patience: Duration) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request, patience).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience).keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!("a command left the control socket: {error}");
    }
}

type Said = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn said(status: StatusCode, why: &str) -> Said {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{why}\n"))).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(TEXT));
    answer
}

/// How far `work` has come, again and again, then its answer. Nothing works on when nobody reads any more: who asked has left.
fn lines(work: BoxFuture<'static, Answer>, heard: Heard) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    unfold(Some((work, heard)), |state| async move {
        let (mut work, mut heard) = state?;
        let (line, state) = tokio::select! {
            biased;
            answer = &mut work => (Line::Answer(Box::new(answer)), None),
            progress = heard.news() => (Line::Progress(progress), Some((work, heard))),
        };
        Some((Ok(Frame::data(text(&line))), state))
    })
}

fn text(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_else(|error| {
        tracing::error!("an answer on the control socket cannot be written: {error}");
        // Who asked misses its answer, and says so.
        Vec::new()
    });
    text.push(b'\n');
    Bytes::from(text)
}

struct Desk {
    app: Arc<App>,
    commands: Semaphore,
    scrubs: Semaphore,
    drain: watch::Receiver<bool>,
}

impl Desk {
    async fn answer(self: Arc<Self>, request: http::Request<Incoming>, patience: Duration) -> Said {
        let mut answer = match self.heard(request, patience).await {
            Ok(request) => {
                let reporter = Reporter::default();
                let heard = reporter.heard();
                let work = Box::pin(async move { self.work(request, &reporter).await });
                let mut answer = Response::new(StreamBody::new(lines(work, heard)).boxed_unsync());
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
                answer
            }
            Err((status, why)) => said(status, &why),
        };
        answer.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
        answer
    }

    async fn work(&self, request: Request, reporter: &Reporter) -> Answer {
        let (patience, is_scrub) = (patience(&request), is_scrub(&request));
        let _turn = if is_scrub {
            let Ok(turn) = self.scrubs.try_acquire() else {
                return Answer::Failed(Failure {
                    kind: Kind::Unanswered,
                    message: "another `pratique cache scrub` is under way".to_owned(),
                    hint: Some("let it come to its end, or interrupt it".to_owned()),
                });
            };
            Ok(turn)
        } else {
            self.commands.acquire().await
        };
        let mut drain = self.drain.clone();
        tokio::select! {
            answered = tokio::time::timeout(patience, command::answer(&self.app, request, reporter)) => {
                answered.unwrap_or_else(|_| unanswered("the command took too long".to_owned()))
            }
            // Others are waited for as long as the drain allows.
            _ = drain.wait_for(|drain| *drain), if is_scrub => unanswered("the server is ending".to_owned()),
        }
    }

    async fn heard(
        &self,
        request: http::Request<Incoming>,
        patience: Duration,
    ) -> Result<Request, (StatusCode, String)> {
        if request.uri().path() != PATH {
            return Err((StatusCode::NOT_FOUND, format!("there is {PATH} and nothing else")));
        }
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "only POST".to_owned()));
        }
        let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("a request of more than {REQUEST_BYTES_MAX} bytes"));
        if request.body().size_hint().lower() > REQUEST_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
        let body = tokio::time::timeout(patience, body)
            .await
            .map_err(|_| (StatusCode::REQUEST_TIMEOUT, "the request did not come to its end".to_owned()))?
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    too_large()
                } else {
                    (StatusCode::BAD_REQUEST, "the request broke off".to_owned())
                }
            })?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("the request is not understood: {error}")))
    }
}
