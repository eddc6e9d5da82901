//! Answering on the socket.

use std::{convert::Infallible, io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use config::Limits;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    body::{Body as _, Incoming},
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

use super::{PATH, REQUEST_BYTES_MAX, VERSION, VERSION_HEADER};
use crate::{
    app::App,
    command::{self, Answer, Request},
};

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// Commands worked on at the same time; more wait. Each may judge, and serving must go on.
const COMMANDS_MAX: usize = 4;

const JSON: &str = "application/json";
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
        let desk = Arc::new(Desk { app, commands: Semaphore::new(COMMANDS_MAX) });
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

fn said(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

struct Desk {
    app: Arc<App>,
    commands: Semaphore,
}

impl Desk {
    async fn answer(&self, request: http::Request<Incoming>, patience: Duration) -> Response<Full<Bytes>> {
        let mut answer = match self.heard(request, patience).await {
            Ok(answer) => match serde_json::to_string(&answer) {
                Ok(text) => said(StatusCode::OK, JSON, text),
                Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
            Err((status, why)) => said(status, TEXT, format!("{why}\n")),
        };
        answer.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
        answer
    }

    async fn heard(
        &self,
        request: http::Request<Incoming>,
        patience: Duration,
    ) -> Result<Answer, (StatusCode, String)> {
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
        let request: Request = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| (StatusCode::BAD_REQUEST, format!("the request is not understood: {error}")))?;
        let _turn = self.commands.acquire().await;
        tokio::time::timeout(super::patience(&request), command::answer(&self.app, request))
            .await
            .map_err(|_| (StatusCode::GATEWAY_TIMEOUT, "the command took too long".to_owned()))
    }
}
