//! What every request passes before its handler, outermost first.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use http::{Method, Request, Version};
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tower::{BoxError, service_fn};

use crate::{
    app::App,
    error::ApiError,
    handle,
    respond::{self, Answer},
};

/// The service behind the listener.
pub fn stack(
    app: &Arc<App>,
) -> impl tower::Service<Request<Incoming>, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + 'static
{
    let app = Arc::clone(app);
    let max = app.in_force().settings.limits.requests_max;
    let slots = Arc::new(Semaphore::new(max));
    service_fn(move |request| {
        let (app, slots) = (Arc::clone(&app), Arc::clone(&slots));
        async move { Ok(bounded(app, slots, max, request).await) }
    })
}

/// Beyond the limit: an answer at once, instead of a queue without end.
async fn bounded(app: Arc<App>, slots: Arc<Semaphore>, max: usize, request: Request<Incoming>) -> Answer {
    let (head, version) = (request.method() == Method::HEAD, request.version());
    let Ok(slot) = slots.try_acquire_owned() else {
        return respond::error(&ApiError::Overloaded { max }, head);
    };
    let mut answer = caught(app, request, head).await;
    // An HTTP/1.1 connection carries one body, so that limits.connections_max bounds them. HTTP/2 multiplies them by its streams.
    if version == Version::HTTP_2 {
        answer.body_mut().keep(slot);
    }
    answer
}

/// A panic is a fault of ours: 500 for this request, and the others never notice.
async fn caught(app: Arc<App>, request: Request<Incoming>, head: bool) -> Answer {
    let outcome = AssertUnwindSafe(handle::serve(app, request)).catch_unwind().await;
    outcome.unwrap_or_else(|_| {
        metrics::counter!("pratique_panics_total").increment(1);
        tracing::error!("a request panicked: nothing served");
        let error = ApiError::Fault { message: "a request failed in an unforeseen way".to_owned() };
        respond::error(&error, head)
    })
}
