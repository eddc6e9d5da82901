//! Files over http on loopback.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

use super::Files;

/// How a mirror answers instead of handing out a file.
#[derive(Debug, Clone)]
pub enum MirrorFault {
    /// With this status and no body.
    Status(u16),
    /// With a redirect to this URL.
    Redirect(String),
    /// With a body that does not end.
    Endless,
    /// With the beginning of a body, and then nothing.
    Stall,
}

/// A mirror; it ends when it is dropped.
pub struct Mirror {
    url: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    files: Mutex<Files>,
    faults: Mutex<BTreeMap<String, MirrorFault>>,
    calls: Mutex<Vec<String>>,
}

impl Mirror {
    /// Serves these files under a path of its own, as some mirrors do.
    ///
    /// # Errors
    /// When the machine gives no port.
    pub async fn start(files: Files) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/root-signing", listener.local_addr()?);
        let state = Arc::new(State { files: Mutex::new(files), ..State::default() });
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { url, state, serving })
    }

    /// Its URL, for the configuration.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Hands out these from now on, and no others; without faults.
    pub fn publish(&self, files: Files) {
        *locked(&self.state.files) = files;
        locked(&self.state.faults).clear();
    }

    /// Answers so for the file of that name, until [`Mirror::publish`].
    pub fn fault(&self, name: &str, fault: MirrorFault) {
        locked(&self.state.faults).insert(name.to_owned(), fault);
    }

    /// The files asked for so far.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        locked(&self.state.calls).clone()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // Connections end with the listener.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&state, request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn answer(state: &State, path: &str) -> Response<Body> {
    let name = path.strip_prefix("/root-signing/").unwrap_or(path);
    locked(&state.calls).push(name.to_owned());
    let fault = locked(&state.faults).get(name).cloned();
    let file = locked(&state.files).get(name).cloned();
    let mut response = Response::new(Full::default().boxed());
    let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 4096])));
    match (fault, file) {
        (Some(MirrorFault::Status(status)), _) => {
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        }
        (Some(MirrorFault::Redirect(to)), _) => {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(header::LOCATION, to.parse().expect("a URL is a header value"));
        }
        (Some(MirrorFault::Endless), _) => {
            *response.body_mut() = BodyExt::boxed(StreamBody::new(stream::repeat_with(chunk)));
        }
        (Some(MirrorFault::Stall), _) => {
            use futures_util::StreamExt as _;
            let beginning = stream::iter([chunk()]).chain(stream::pending());
            *response.body_mut() = BodyExt::boxed(StreamBody::new(beginning));
        }
        (None, Some(bytes)) => *response.body_mut() = Full::from(bytes).boxed(),
        (None, None) => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
