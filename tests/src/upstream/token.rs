//! Bearer tokens, as cgr.dev and Docker Hub hand them out; or the account itself, as distribution and zot want it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use oci::Digest;
use serde_json::json;
use url::form_urlencoded;

use super::Place;
use super::calls::Call;
use super::draft::Draft;
use super::listen::Shared;

/// Who gets a token for what.
#[derive(Debug, Clone)]
pub struct TokenAuth {
    account: Option<(String, String)>,
    anonymous: bool,
    basic: bool,
    private: BTreeSet<String>,
    expires_in: Option<i64>,
    realm: Place,
    salt: String,
}

impl TokenAuth {
    /// Anybody gets tokens, without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            account: None,
            anonymous: true,
            basic: false,
            private: BTreeSet::new(),
            expires_in: Some(300),
            realm: Place::Registry,
            salt: String::new(),
        }
    }

    /// This account gets tokens, nobody else.
    #[must_use]
    pub fn account(user: &str, password: &str) -> Self {
        Self { account: Some((user.to_owned(), password.to_owned())), anonymous: false, ..Self::anonymous() }
    }

    /// This account is let in by itself, nobody else; there are no tokens.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        Self { basic: true, ..Self::account(user, password) }
    }

    /// Those without credentials get tokens too, but none that opens a private repository.
    #[must_use]
    pub fn and_anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// This repository is for the account alone.
    #[must_use]
    pub fn private(mut self, repository: &str) -> Self {
        self.private.insert(repository.to_owned());
        self
    }

    /// What tokens say of their lifetime, in seconds; `None`: nothing. They really end by
    /// [`revoke_tokens`](super::Registry::revoke_tokens).
    #[must_use]
    pub fn expires_in(mut self, seconds: Option<i64>) -> Self {
        self.expires_in = seconds;
        self
    }

    /// Where the challenge sends clients; without this, to the registry's own host.
    #[must_use]
    pub fn realm_at(mut self, place: Place) -> Self {
        self.realm = place;
        self
    }

    /// Its tokens are other ones than those of registries with another salt.
    #[must_use]
    pub fn salted(mut self, salt: &str) -> Self {
        salt.clone_into(&mut self.salt);
        self
    }

    pub(super) fn realm(&self) -> Place {
        self.realm
    }
}

/// The tokens handed out, each with the repositories it opens.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Issued>);

#[derive(Default)]
struct Issued {
    count: u64,
    valid: BTreeMap<String, BTreeSet<String>>,
}

impl Tokens {
    pub(super) fn revoke(&self) {
        self.issued().valid.clear();
    }

    fn issue(&self, salt: &str, repositories: BTreeSet<String>) -> String {
        let mut issued = self.issued();
        issued.count += 1;
        let digest = Digest::sha256(format!("token {salt}{}", issued.count).as_bytes());
        let token = format!("token-{salt}{}-{}", issued.count, digest.hex());
        issued.valid.insert(token.clone(), repositories);
        token
    }

    /// What a token opens; nothing if it is not one of ours, or no longer.
    fn opens(&self, token: &str) -> Option<BTreeSet<String>> {
        self.issued().valid.get(token).cloned()
    }

    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a call's token, as a 401; nothing if it may pass. `repository` is what it wants to pull from, if any.
pub(super) fn challenge(shared: &Shared, call: &Call, repository: Option<&str>) -> Option<Draft> {
    let auth = shared.options.token_auth.as_ref()?;
    if auth.basic {
        return (credentials(call) != auth.account).then(|| Draft::challenge("Basic realm=\"pratique\""));
    }
    let opened = call
        .authorization()
        .and_then(|value| value.strip_prefix("Bearer "))
        .and_then(|token| shared.tokens.opens(token));
    let problem = match (&opened, repository) {
        (Some(_), None) => return None,
        (Some(opened), Some(repository)) if opened.contains(repository) => return None,
        (Some(_), Some(_)) => Some("insufficient_scope"),
        (None, _) => call.has_authorization().then_some("invalid_token"),
    };
    let scope = repository.map(|repository| format!("repository:{repository}:pull"));
    let parameters = [
        ("realm", Some(format!("{}/token", shared.url_of(auth.realm())))),
        ("service", Some(service(shared))),
        ("scope", scope),
        ("error", problem.map(str::to_owned)),
    ];
    let written: Vec<String> =
        parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}=\"{}\"", value?))).collect();
    let challenge = format!("Bearer {}", written.join(","));
    Some(Draft::challenge(&challenge))
}

/// Answers `/token`.
pub(super) fn answer(shared: &Shared, call: &Call) -> Draft {
    let Some(auth) = shared.options.token_auth.as_ref().filter(|auth| !auth.basic) else {
        return Draft::error(StatusCode::NOT_FOUND, "NOT_FOUND", "no token service");
    };
    if call.method != Method::GET {
        return Draft::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "only GET");
    }
    let query = |wanted: &str| -> Vec<String> {
        form_urlencoded::parse(call.query.as_bytes())
            .filter(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
            .collect()
    };
    if query("service") != [service(shared)] {
        return Draft::error(StatusCode::BAD_REQUEST, "UNSUPPORTED", "unknown service");
    }
    let known = match credentials(call) {
        None if auth.anonymous => false,
        Some(given) if auth.account.as_ref() == Some(&given) => true,
        None | Some(_) => {
            return Draft::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect username or password");
        }
    };
    let opened = query("scope")
        .iter()
        .flat_map(|scopes| scopes.split(' '))
        .filter_map(repository_of)
        .filter(|repository| known || !auth.private.contains(*repository))
        .map(str::to_owned)
        .collect();
    granted(&shared.tokens.issue(&auth.salt, opened), auth.expires_in)
}

/// Answers `/token` at [`Place::Foreign`](super::Place::Foreign): a token for whatever is brought.
pub(super) fn answer_anybody() -> Draft {
    granted("token-of-a-stranger", Some(300))
}

fn granted(token: &str, expires_in: Option<i64>) -> Draft {
    let mut document = json!({"token": token, "access_token": token});
    if let (Some(seconds), Some(fields)) = (expires_in, document.as_object_mut()) {
        fields.insert("expires_in".to_owned(), seconds.into());
    }
    Draft::new(StatusCode::OK, "application/json", document.to_string())
}

/// What the registry is called in its own challenges.
fn service(shared: &Shared) -> String {
    shared.host_port_of(Place::Registry)
}

/// `repository:a/b:pull` and `repository:a/b:pull,push` open a/b.
fn repository_of(scope: &str) -> Option<&str> {
    let (repository, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    actions.split(',').any(|action| action == "pull").then_some(repository)
}

/// User and password of a Basic header. One that cannot be read counts as one that is wrong.
fn credentials(call: &Call) -> Option<(String, String)> {
    let given = call.authorization()?;
    let decoded = given
        .strip_prefix("Basic ")
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    let (user, password) = decoded.split_once(':').unwrap_or_default();
    Some((user.to_owned(), password.to_owned()))
}
