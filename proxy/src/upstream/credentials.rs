//! User and password for one upstream, and the helper that hands out others when they end.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use oci::UnixTime;
use tokio::time::Instant;

use super::{
    docker::{self, Helper, Login, Place},
    error::UpstreamSetupError,
    expiry,
    origin::Origin,
};

/// A helper is asked again no sooner than this, whoever is refused and however often.
const APART: Duration = Duration::from_secs(60);
/// So long before a password ends its helper is asked for another one.
const AHEAD: Duration = Duration::from_secs(300);

/// What is sent for the configured user. It has no `Debug`.
pub(super) struct Credentials {
    upstream: String,
    held: Mutex<Held>,
    helper: Option<Helper>,
    /// When the helper was asked last since the start or reload. Held while it is asked: whoever comes then waits for that answer.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Held {
    /// `Basic …`, marked so that no library prints it.
    basic: HeaderValue,
    /// When it ends, as the operator says or as it says itself.
    ends: Option<UnixTime>,
    /// As it says itself.
    ends_itself: Option<UnixTime>,
}

impl Credentials {
    /// What is configured for `upstream`; None where nothing is. Blocks, while a helper is asked; where that fails `former` stays, of the same
    /// helper: a reload may be urgent, and what was handed out before may still do.
    pub(super) fn of(
        upstream: &config::Upstream,
        own: &Origin,
        former: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, UpstreamSetupError> {
        if upstream.credentials.is_none() && upstream.docker_config.is_none() {
            return Ok(None);
        }
        let name = || upstream.name.to_string();
        if !own.keeps_secrets() {
            return Err(UpstreamSetupError::PlainCredentials { upstream: name() });
        }
        let (login, helper) = match (&upstream.credentials, &upstream.docker_config) {
            (Some(credentials), _) => {
                let password = credentials.read_password().map_err(|source| UpstreamSetupError::File {
                    upstream: name(),
                    key: "password_file",
                    source,
                })?;
                (Login { username: credentials.username.clone(), password }, None)
            }
            (None, Some(path)) => {
                let failed = |why| UpstreamSetupError::DockerConfig { upstream: name(), path: path.clone(), why };
                match docker::place(upstream, path).map_err(failed)? {
                    Place::Here(login) => (login, None),
                    Place::Helper(helper) => match helper.ask() {
                        Ok(login) => (login, Some(helper)),
                        Err(why) => {
                            let same = former.filter(|former| former.helper.as_ref() == Some(&helper));
                            let Some(former) = same else { return Err(failed(why)) };
                            tracing::error!(upstream = %upstream.name, "its former password stays: {why}");
                            return Ok(Some(Arc::clone(former)));
                        }
                    },
                }
            }
            (None, None) => return Ok(None),
        };
        let credentials = Self::new(name(), &login, helper);
        let credentials = credentials.ok_or_else(|| UpstreamSetupError::Username { upstream: name() })?;
        if let Some(ends) = upstream.password_expires {
            credentials.held().ends = Some(ends);
        }
        Ok(Some(Arc::new(credentials)))
    }

    /// `login` for this upstream, and whom to ask when it ends. None where its user cannot be sent.
    pub(super) fn new(upstream: String, login: &Login, helper: Option<Helper>) -> Option<Self> {
        let held = Mutex::new(Held::of(login)?);
        Some(Self { upstream, held, helper, asked: tokio::sync::Mutex::default() })
    }

    /// The `Authorization` that is sent now.
    pub(super) fn basic(&self) -> HeaderValue {
        self.held().basic.clone()
    }

    /// When they end, where that is known.
    pub(super) fn end(&self) -> Option<UnixTime> {
        self.held().ends
    }

    /// Whether there is a helper to ask for others.
    pub(super) fn are_renewed(&self) -> bool {
        self.helper.is_some()
    }

    /// Asks the helper where what it has handed out says itself that it is about to end.
    pub(super) async fn renew_before_end(self: &Arc<Self>, now: UnixTime) {
        let Held { basic, ends_itself, .. } = self.held().clone();
        if ends_itself.is_some_and(|ends| ends.since(now).is_none_or(|left| left <= AHEAD)) {
            self.other_than(basic).await;
        }
    }

    /// What to send instead of `refused`: what has taken its place already, or what the helper hands out now. None: there is nothing else.
    pub(super) async fn other_than(self: &Arc<Self>, refused: HeaderValue) -> Option<HeaderValue> {
        self.helper.as_ref()?;
        let credentials = Arc::clone(self);
        // By itself, so that the answer is there for the next one where the one that asks does not wait for it.
        tokio::spawn(async move { credentials.renewed(&refused).await }).await.ok()?
    }

    async fn renewed(&self, refused: &HeaderValue) -> Option<HeaderValue> {
        let mut asked = self.asked.lock().await;
        let other = || Some(self.basic()).filter(|basic| basic != refused);
        if let Some(basic) = other() {
            return Some(basic);
        }
        if asked.is_some_and(|asked| asked.elapsed() < APART) {
            return None;
        }
        let helper = self.helper.clone()?;
        let answer = storage::work::run(move || helper.ask()).await;
        *asked = Some(Instant::now());
        let held = match answer.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(login) => Held::of(&login).ok_or_else(|| "its helper hands out a user that cannot be sent".to_owned()),
            Err(why) => Err(why),
        };
        match held {
            Ok(held) if held.basic != *refused => {
                *self.held() = held;
                tracing::info!(upstream = %self.upstream, "its credential helper has handed out another password");
            }
            // Whoever was refused says so: it may have been for another reason.
            Ok(_) => {
                tracing::info!(upstream = %self.upstream, "its credential helper hands out the same password again");
            }
            Err(why) => tracing::warn!(upstream = %self.upstream, "its password is not renewed: {why}"),
        }
        other()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // It is replaced as a whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// None where the user has something in it that Basic cannot carry.
    fn of(Login { username, password }: &Login) -> Option<Self> {
        if username.contains(|c: char| c == ':' || c.is_control()) {
            return None;
        }
        let encoded = STANDARD.encode(format!("{username}:{}", password.expose()));
        let mut basic = HeaderValue::try_from(format!("Basic {encoded}")).expect("Base64 is a header value");
        basic.set_sensitive(true);
        let ends = expiry::of_password(password.expose());
        Some(Self { basic, ends, ends_itself: ends })
    }
}
