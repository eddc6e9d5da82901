//! What every request passes before its handler, outermost first: is it one, is there room for it, and does it panic.

mod slots;
mod strict;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use http::{Method, Request, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::{BoxError, service_fn};

use crate::{
    app::App,
    error::ApiError,
    handle,
    listen::{Arrived, client::Client},
    respond::{self, Answer},
};

use slots::Slots;
pub(crate) use slots::{Slot, carried};

/// The service behind the listener.
pub fn stack(
    app: &Arc<App>,
) -> impl tower::Service<Arrived, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let app = Arc::clone(app);
    let settings = Arc::clone(&app.in_force().settings);
    let (headers_max, slots) = (settings.limits.request_headers_max, Arc::new(Slots::new(&settings.limits)));
    service_fn(move |Arrived { request, client, busy }| {
        let (app, slots) = (Arc::clone(&app), Arc::clone(&slots));
        async move {
            let mut answer = bounded(app, &slots, headers_max, &client, request).await;
            answer.body_mut().keep(busy);
            Ok(answer)
        }
    })
}

async fn bounded(
    app: Arc<App>,
    slots: &Slots,
    headers_max: usize,
    client: &Arc<Client>,
    request: Request<Incoming>,
) -> Answer {
    let (head, version) = (request.method() == Method::HEAD, request.version());
    let brings_body = !request.body().is_end_stream();
    if let Err(error) = strict::check(&request, headers_max) {
        return malformed(&app, &error, head, version);
    }
    let slot = match slots.enter(client).await {
        Ok(slot) => Arc::new(slot),
        Err(error) => return shed(&app, &error, head),
    };
    let mut answer = slot.work(caught(app, request, head)).await;
    // An HTTP/1.1 connection carries one body, so that limits.connections_max bounds them. HTTP/2 multiplies them by its streams, and a list
    // is in memory until somebody has taken it.
    if version == Version::HTTP_2 || answer.body().is_large() {
        answer.body_mut().hold(slot);
    }
    // Nobody reads it: what follows it is not heard either.
    if brings_body && version != Version::HTTP_2 {
        respond::close(&mut answer);
    }
    answer
}

/// What is no request is answered and not heard any further: what follows it over HTTP/1.1 may be another one, or a part of it.
fn malformed(app: &App, error: &ApiError, head: bool, version: Version) -> Answer {
    app.meters.answered("none", error.status(), Duration::ZERO);
    tracing::info!(status = error.status().as_u16(), "{error}");
    let mut answer = respond::error(error, head);
    if version != Version::HTTP_2 {
        respond::close(&mut answer);
    }
    answer
}

/// It was told where it was counted, once for many.
fn shed(app: &App, error: &ApiError, head: bool) -> Answer {
    app.meters.answered("none", error.status(), Duration::ZERO);
    respond::error(error, head)
}

/// A panic is a fault of ours: 500 for this request, and the others never notice.
async fn caught(app: Arc<App>, request: Request<Incoming>, head: bool) -> Answer {
    let outcome = AssertUnwindSafe(handle::serve(app, request)).catch_unwind().await;
    outcome.unwrap_or_else(|_| {
        tracing::error!("a request panicked: nothing served");
        let error = ApiError::Fault { message: "a request failed in an unforeseen way".to_owned() };
        respond::error(&error, head)
    })
}
