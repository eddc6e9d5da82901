//! One small function for each call. Handlers reach the world only through the resolver, the admission and the fills.

mod blob;
mod condition;
mod list;
mod manifest;
mod range;

use std::sync::Arc;

use http::{HeaderMap, Method, Request};
use tracing::Instrument as _;

pub use range::Wanted;

use crate::{
    app::{App, InForce},
    error::ApiError,
    patience::{AFTER_THE_GATE, Patience},
    respond::{self, Answer},
    route::{Call, Named},
};

/// What handlers need of a request.
pub struct Asked<'a> {
    app: &'a Arc<App>,
    in_force: &'a Arc<InForce>,
    head: bool,
    headers: &'a HeaderMap,
    /// For all that the head of the answer waits for.
    patience: Patience,
}

/// Answers one request: parse, dispatch, and turn every error into its document. The only place where an answer's outcome is told.
pub async fn serve<B>(app: Arc<App>, request: Request<B>) -> Answer {
    let started = app.clock.now();
    let in_force = app.in_force();
    let head = request.method() == Method::HEAD;
    let (parts, _) = request.into_parts();
    let call = Call::parse(&parts.method, &parts.uri, &in_force.routes);
    let label = call.as_ref().map_or("none", Call::label);
    let patience = in_force.patience();
    let asked = Asked { app: &app, in_force: &in_force, head, headers: &parts.headers, patience };
    // What is in memory is answered at once: no span is made for it, for nothing is told of it.
    let answer = match call.as_ref().ok().and_then(|call| recalled(&asked, call)) {
        Some(answer) => answer,
        // Boxed: what an answer may wait for is large, and most answers wait for nothing.
        None => Box::pin(looked_up(&asked, call, &parts.method)).await,
    };
    let took = app.clock.now().since(started).unwrap_or_default();
    app.meters.answered(label, answer.status(), took);
    answer
}

fn recalled(asked: &Asked<'_>, call: &Call) -> Option<Answer> {
    match call {
        Call::Manifest { named, reference } => manifest::recalled(asked, named, reference),
        Call::Base | Call::Blob { .. } | Call::Tags { .. } | Call::Referrers { .. } => None,
    }
}

async fn looked_up(asked: &Asked<'_>, call: Result<Call, ApiError>, method: &Method) -> Answer {
    let span =
        call.as_ref().map_or_else(|_| tracing::info_span!("request", call = "none"), |call| span_of(call, method));
    let outcome = async {
        match call {
            Ok(call) => dispatch(asked, call).await,
            Err(error) => Err(error),
        }
    };
    let outcome = outcome.instrument(span.clone()).await;
    outcome.unwrap_or_else(|error| {
        span.in_scope(|| told(&error));
        respond::error(&error, asked.head)
    })
}

async fn dispatch(asked: &Asked<'_>, call: Call) -> Result<Answer, ApiError> {
    match call {
        Call::Base => Ok(respond::base(asked.head)),
        Call::Manifest { named, reference } => asked.in_time(manifest::get(asked, &named, reference)).await,
        Call::Blob { named, digest } => blob::get(asked, &named, &digest).await,
        Call::Tags { named, n, last } => asked.in_time(list::tags(asked, &named, n, last.as_deref())).await,
        Call::Referrers { named, digest, artifact_type } => {
            asked.in_time(list::referrers(asked, &named, &digest, artifact_type.as_deref())).await
        }
    }
}

fn span_of(call: &Call, method: &Method) -> tracing::Span {
    let (repository, reference) = match call {
        Call::Base => return tracing::info_span!("request", call = "base"),
        Call::Manifest { named, reference } => (&named.repository, reference.to_string()),
        Call::Blob { named, digest } | Call::Referrers { named, digest, .. } => (&named.repository, digest.to_string()),
        Call::Tags { named, .. } => (&named.repository, String::new()),
    };
    tracing::info_span!("request", call = call.label(), %method, %repository, reference)
}

/// Each outcome once: a refusal at info (its verdict was told when it was made), a failure at warn, a fault at error.
fn told(error: &ApiError) {
    match error {
        ApiError::Fault { .. } => tracing::error!("{error}"),
        ApiError::Wrong { .. }
        | ApiError::Undecided { .. }
        | ApiError::NotJudged
        | ApiError::RateLimited { .. }
        | ApiError::Overloaded { .. } => {
            tracing::warn!("{error}");
        }
        ApiError::Malformed(..)
        | ApiError::Unknown { .. }
        | ApiError::Refused(_)
        | ApiError::Led(_)
        | ApiError::RepositoryRefused { .. }
        | ApiError::Unsupported { .. }
        | ApiError::HeadersTooMany { .. }
        | ApiError::NoSuchEndpoint
        | ApiError::Range { .. } => tracing::info!(status = error.status().as_u16(), "{error}"),
    }
}

impl Asked<'_> {
    /// What `work` brings before the client has waited too long. What others wait for too, or may ask for next, goes on.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        self.patience.and(AFTER_THE_GATE).wait(work).await.unwrap_or_else(|| {
            let budget = self.patience.seconds();
            Err(ApiError::undecided(format!(
                "no answer within {budget} s (limits.decision_timeout); still waiting for upstream"
            )))
        })
    }

    /// Refuses a repository that no policy matches now, lists and all, where that means deny.
    fn may_serve(&self, named: &Named) -> Result<(), ApiError> {
        let in_force = self.app.in_force();
        let policies = in_force.judge.policies();
        let denied = policies.no_match() == policy::NoMatch::Deny && !policies.may_match_repository(&named.repository);
        if denied {
            return Err(ApiError::RepositoryRefused { repository: named.repository.to_string() });
        }
        Ok(())
    }
}
