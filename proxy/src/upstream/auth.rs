//! Credentials and tokens of one upstream: kept, renewed, and sent nowhere but where they belong.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use config::{HostPort, Limits};
use http::{HeaderValue, Request, header};
use http_body_util::Empty;
use oci::RepositoryPath;
use tokio::time::{Instant, timeout};

use super::{
    backoff::Backoff,
    challenge::{Challenge, TokenSource},
    client::Client,
    credentials::Credentials,
    error::{Flaw, Forbidden, Kind, Outage, Pointer, UpstreamError},
    meter::Meter,
    origin::{Origin, shown_host},
    request,
    token::Token,
};

/// Repositories whose tokens are remembered. Names come from clients, so there must be an end to them.
const SCOPES_MAX: usize = 1024;

/// What opens an upstream's doors.
pub(super) struct Auth {
    own: Origin,
    realms: Vec<HostPort>,
    credentials: Option<Arc<Credentials>>,
    /// Whether upstream has asked for Basic.
    is_basic: AtomicBool,
    scopes: Mutex<HashMap<RepositoryPath, Arc<Scope>>>,
    client: Client,
    pub(super) meter: Meter,
    /// When the token endpoint wants to be asked again.
    pub(super) backoff: Backoff,
    token_bytes_max: u64,
    json_depth_max: usize,
    timeout: Duration,
}

/// An `Authorization` header for the upstream's own origin. It has no `Debug`.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// Which token of its scope this is; None for Basic.
    serial: Option<u64>,
}

/// The right to pull from one repository.
#[derive(Default)]
struct Scope {
    /// How many times a token was asked for, so that who waited for an answer can tell that it has come.
    asked: AtomicU64,
    /// Held while a token is fetched: the others wait for that one instead of asking too.
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    source: Option<TokenSource>,
    token: Option<(Authorization, Instant)>,
    failure: Option<UpstreamError>,
}

impl Auth {
    pub(super) fn new(
        own: Origin,
        realms: Vec<HostPort>,
        credentials: Option<Arc<Credentials>>,
        client: Client,
        meter: Meter,
        backoff: Backoff,
        limits: &Limits,
    ) -> Self {
        Self {
            own,
            realms,
            credentials,
            is_basic: AtomicBool::new(false),
            scopes: Mutex::default(),
            client,
            meter,
            backoff,
            token_bytes_max: limits.token_bytes_max,
            json_depth_max: limits.json_depth_max,
            timeout: limits.upstream_response_timeout,
        }
    }

    /// What to send with the next request: nothing before upstream has asked for something.
    pub(super) async fn current(&self, repository: &RepositoryPath) -> Result<Option<Authorization>, UpstreamError> {
        if self.is_basic.load(Ordering::Relaxed) {
            return Ok(self.basic());
        }
        let scope = self.lock_scopes().get(repository).cloned();
        let Some(scope) = scope else { return Ok(None) };
        self.token(&scope, repository, None, None).await
    }

    /// What to send after a 401 with this challenge to a request that carried `rejected`. None: there is nothing better.
    pub(super) async fn renew(
        &self,
        repository: &RepositoryPath,
        challenge: Challenge,
        rejected: Option<&Authorization>,
    ) -> Result<Option<Authorization>, UpstreamError> {
        match challenge {
            Challenge::Basic => {
                let was_sent = rejected.is_some_and(|rejected| rejected.serial.is_none());
                self.is_basic.store(self.credentials.is_some(), Ordering::Relaxed);
                Ok(self.basic().filter(|_| !was_sent))
            }
            Challenge::Bearer(source) => {
                source.check(&self.own, &self.realms)?;
                self.is_basic.store(false, Ordering::Relaxed);
                let serial = rejected.and_then(|rejected| rejected.serial);
                self.token(&self.scope(repository), repository, Some(source), serial).await
            }
        }
    }

    /// The configured credentials.
    pub(super) fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.credentials.as_ref()
    }

    /// What to send where `refused` were the configured credentials: those that their helper hands out instead of them. The one that was
    /// refused waits for it, though no longer than for an answer.
    pub(super) async fn instead_of(&self, refused: Option<&Authorization>) -> Option<Authorization> {
        let refused = refused.filter(|refused| refused.serial.is_none())?;
        let header = self.other_than(refused.header.clone()).await?;
        Some(Authorization { header, serial: None })
    }

    async fn other_than(&self, refused: HeaderValue) -> Option<HeaderValue> {
        timeout(self.timeout, self.credentials.as_ref()?.other_than(refused)).await.ok()?
    }

    fn basic(&self) -> Option<Authorization> {
        let header = self.credentials.as_ref()?.basic();
        Some(Authorization { header, serial: None })
    }

    /// A token other than `rejected`: one that is still good, or the one another task is fetching, or a new one.
    async fn token(
        &self,
        scope: &Scope,
        repository: &RepositoryPath,
        source: Option<TokenSource>,
        rejected: Option<u64>,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let asked = scope.asked.load(Ordering::Acquire);
        let mut state = scope.state.lock().await;
        // An answer that came while we waited is ours as well, be it a token that ends at once or a failure.
        let is_answered = scope.asked.load(Ordering::Acquire) != asked;
        if let Some((token, ends)) = &state.token
            && (rejected.is_none() || token.serial != rejected)
            && (is_answered || Instant::now() < *ends)
        {
            return Ok(Some(token.clone()));
        }
        if let Some(failure) = state.failure.as_ref().filter(|_| is_answered) {
            return Err(failure.clone());
        }
        let Some(source) = source.or_else(|| state.source.take()) else { return Ok(None) };
        let answer = self.fetch(&source, repository).await;
        let serial = scope.asked.fetch_add(1, Ordering::AcqRel);
        match answer {
            Ok(Token { header, usable_for }) => {
                let authorization = Authorization { header, serial: Some(serial) };
                *state = State {
                    source: Some(source),
                    token: Some((authorization.clone(), Instant::now() + usable_for)),
                    failure: None,
                };
                Ok(Some(authorization))
            }
            Err(failure) => {
                // Without a source the next request goes out bare and learns from a new challenge where to ask.
                *state = State { source: None, token: None, failure: Some(failure.clone()) };
                Err(failure)
            }
        }
    }

    /// A token for the credentials, or for those that take their place where the endpoint refuses them.
    async fn fetch(&self, source: &TokenSource, repository: &RepositoryPath) -> Result<Token, UpstreamError> {
        let basic = self.basic().map(|basic| basic.header);
        let answer = self.fetch_for(basic.as_ref(), source, repository).await;
        let Some(basic) = basic.filter(|_| matches!(answer, Err(UpstreamError::Refused { .. }))) else { return answer };
        match self.other_than(basic).await {
            Some(other) => self.fetch_for(Some(&other), source, repository).await,
            None => answer,
        }
    }

    async fn fetch_for(
        &self,
        basic: Option<&HeaderValue>,
        source: &TokenSource,
        repository: &RepositoryPath,
    ) -> Result<Token, UpstreamError> {
        let started = Instant::now();
        let slow = UpstreamError::Unavailable { what: Kind::Token, why: Outage::AnswerTimedOut(self.timeout) };
        let in_turn = async {
            let turn = self.backoff.turn(repository, Kind::Token).await?;
            let answer = self.ask(basic, source, repository).await;
            turn.answered(answer.as_ref().err());
            answer
        };
        let answer = timeout(self.timeout, in_turn).await.unwrap_or(Err(slow));
        self.meter.count(Kind::Token, started, answer.as_ref().err());
        answer
    }

    async fn ask(
        &self,
        basic: Option<&HeaderValue>,
        source: &TokenSource,
        repository: &RepositoryPath,
    ) -> Result<Token, UpstreamError> {
        const WHAT: Kind = Kind::Token;
        let url = source.url(repository);
        let mut request: Request<Empty<Bytes>> = request::get(WHAT, &url, "application/json")?;
        if let Some(basic) = basic {
            request.headers_mut().insert(header::AUTHORIZATION, basic.clone());
        }
        let answer = self.client.send(WHAT, request).await?;
        if answer.status().is_redirection() {
            return Err(UpstreamError::Misdirected {
                what: Pointer::Realm,
                host: shown_host(&url),
                why: Forbidden::Unexpected,
            });
        }
        // Later than the timeout around it all, which is the one that counts.
        let never = self.timeout.saturating_mul(2);
        let body = answer.expect_success(WHAT)?.body.read(self.token_bytes_max, never).await?;
        Token::parse(&body, self.json_depth_max).ok_or(UpstreamError::Malformed { what: WHAT, why: Flaw::Json })
    }

    fn scope(&self, repository: &RepositoryPath) -> Arc<Scope> {
        let mut scopes = self.lock_scopes();
        if let Some(scope) = scopes.get(repository) {
            return Arc::clone(scope);
        }
        if scopes.len() >= SCOPES_MAX {
            // Those that nobody waits for; a token forgotten is one more request, no more.
            scopes.retain(|_, scope| Arc::strong_count(scope) > 1);
        }
        let scope = Arc::<Scope>::default();
        scopes.insert(repository.clone(), Arc::clone(&scope));
        scope
    }

    fn lock_scopes(&self) -> std::sync::MutexGuard<'_, HashMap<RepositoryPath, Arc<Scope>>> {
        // No code panics while it holds the lock, and a map is whole after any of its operations.
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
