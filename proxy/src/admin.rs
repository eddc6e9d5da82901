//! The second listener: health, readiness, metrics. Never on the address that clients pull from.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tower::{BoxError, service_fn};

use crate::{
    app::App,
    listen::Arrived,
    respond::{self, Answer},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// The service behind the admin listener.
pub fn service(
    app: &Arc<App>,
    metrics: PrometheusHandle,
    draining: watch::Receiver<bool>,
) -> impl tower::Service<Arrived, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let app = Arc::clone(app);
    service_fn(move |Arrived { request, busy, .. }| {
        let (app, metrics, draining) = (Arc::clone(&app), metrics.clone(), *draining.borrow());
        async move {
            let mut answer = answer(&request, &app, &metrics, draining);
            answer.body_mut().keep(busy);
            Ok::<_, BoxError>(answer)
        }
    })
}

fn answer<B>(request: &Request<B>, app: &App, metrics: &PrometheusHandle, draining: bool) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return respond::admin(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
    }
    match request.uri().path() {
        // Alive: the process answers. Nothing that a restart would not mend is asked here.
        "/healthz" => match app.store.facts().failure() {
            None => respond::admin(StatusCode::OK, TEXT, "ok\n".to_owned()),
            Some(error) => {
                let text = format!("the facts cannot be written, a restart reads them anew: {error}\n");
                respond::admin(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        },
        "/readyz" => match ready(app, draining) {
            Ok(()) => respond::admin(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Err(why) => respond::admin(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        },
        "/metrics" => {
            metrics.run_upkeep();
            respond::admin(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render())
        }
        _ => respond::admin(StatusCode::NOT_FOUND, TEXT, "there are /healthz, /readyz and /metrics\n".to_owned()),
    }
}

/// Ready: policies are in force (or we would not run), the store answers, and nobody asked us to stop.
fn ready(app: &App, draining: bool) -> Result<(), String> {
    if draining {
        return Err("draining".to_owned());
    }
    app.store.facts().read().map(drop).map_err(|error| format!("store: {error}"))
}
