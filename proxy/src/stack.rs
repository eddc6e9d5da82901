//! What every request passes before its handler, one layer a line, outermost first.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use http::{Method, Request};
use hyper::body::Incoming;
use tower::{BoxError, ServiceBuilder, load_shed::error::Overloaded, service_fn};

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
    ServiceBuilder::new()
        // Errors of the layers below become answers: nothing leaves a request without one.
        .map_result(move |outcome: Result<Answer, BoxError>| Ok(outcome.unwrap_or_else(|error| shed(&error, max))))
        // Beyond the limit: an answer at once, instead of a queue without end.
        .load_shed()
        // Requests whose answer has not begun; bodies under way are bounded by connections.
        .concurrency_limit(max)
        // A panic is a fault of ours: 500 for this request, and the others never notice.
        .service(service_fn(move |request| caught(Arc::clone(&app), request)))
}

async fn caught(app: Arc<App>, request: Request<Incoming>) -> Result<Answer, BoxError> {
    let head = request.method() == Method::HEAD;
    let outcome = AssertUnwindSafe(handle::serve(app, request)).catch_unwind().await;
    Ok(outcome.unwrap_or_else(|_| {
        metrics::counter!("pratique_panics_total").increment(1);
        tracing::error!("a request panicked: nothing served");
        let error = ApiError::Fault { message: "a request failed in an unforeseen way".to_owned() };
        respond::error(&error, head)
    }))
}

fn shed(error: &BoxError, max: usize) -> Answer {
    let error = if error.is::<Overloaded>() {
        ApiError::Overloaded { max }
    } else {
        ApiError::Fault { message: "a layer failed".to_owned() }
    };
    respond::error(&error, false)
}
