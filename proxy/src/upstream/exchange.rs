//! A question to an upstream's registry API: authentication and redirects around single requests.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Empty;
use oci::RepositoryPath;
use tokio::time::Instant;
use url::Url;

use super::{
    auth::{Auth, Authorization},
    backoff::{Backoff, Turn},
    challenge::Challenge,
    client::{Answer, Client},
    error::{Forbidden, Kind, Pointer, UpstreamError},
    meter::Meter,
    origin::{Origin, shown_host},
    redirect::Redirects,
    request,
};

/// Asks one upstream.
pub(super) struct Exchange {
    pub(super) own: Origin,
    pub(super) client: Client,
    pub(super) auth: Auth,
    pub(super) redirects: Redirects,
    pub(super) redirects_max: usize,
    pub(super) meter: Meter,
    /// When upstream wants to be asked again; storage that a redirect leads to has no say in it.
    pub(super) backoff: Backoff,
}

/// A question about one repository.
pub(super) struct Question<'a> {
    pub(super) what: Kind,
    pub(super) method: Method,
    pub(super) repository: &'a RepositoryPath,
    /// On the upstream's own origin.
    pub(super) url: Url,
    pub(super) accept: &'static str,
    /// From which byte on, where not the first.
    pub(super) offset: u64,
}

/// An answer, and whether it came from the upstream's own origin without having been elsewhere.
struct Followed {
    answer: Answer,
    is_own: bool,
}

impl Exchange {
    /// The answer with status 200 or 206; everything else is an error.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, UpstreamError> {
        let started = Instant::now();
        // Boxed: what one question may go through is deep, and an optimised build of all that asks gives up on the whole of it.
        let answer = Box::pin(self.in_turn(question)).await;
        self.meter.count(question.what, started, answer.as_ref().err());
        answer
    }

    async fn in_turn(&self, question: &Question<'_>) -> Result<Answer, UpstreamError> {
        let mut turn = self.backoff.turn(question.repository, question.what).await?;
        let Followed { answer, is_own } = self.authenticated(question, &mut turn).await?;
        if is_own {
            self.meter.rate(answer.headers());
        }
        let answer = answer.expect_success(question.what);
        // What storage says, upstream's pauses do not hang on.
        turn.answered(answer.as_ref().err().filter(|_| is_own));
        answer
    }

    async fn authenticated(&self, question: &Question<'_>, turn: &mut Turn<'_>) -> Result<Followed, UpstreamError> {
        let mut sent = self.auth.current(question.repository).await?;
        let mut followed = self.follow(question, sent.as_ref(), turn).await?;
        if let Some(renewed) = self.after_challenge(question, &followed, sent.as_ref()).await? {
            // Its connection is free again before the next one is wanted.
            drop(followed);
            followed = self.follow(question, Some(&renewed), turn).await?;
            sent = Some(renewed);
        }
        // What storage refuses was never sent there.
        let status = followed.answer.status();
        if !followed.is_own || !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Ok(followed);
        }
        let Some(other) = self.auth.instead_of(sent.as_ref()).await else { return Ok(followed) };
        drop(followed);
        self.follow(question, Some(&other), turn).await
    }

    /// What to send after this answer to a request that carried `sent`. None: it asks for nothing, or there is nothing better.
    async fn after_challenge(
        &self,
        question: &Question<'_>,
        Followed { answer, is_own }: &Followed,
        sent: Option<&Authorization>,
    ) -> Result<Option<Authorization>, UpstreamError> {
        // A challenge from where a redirect led is not ours to answer.
        if answer.status() != StatusCode::UNAUTHORIZED || !is_own {
            return Ok(None);
        }
        let Some(challenge) = Challenge::of(question.what, answer.headers())? else { return Ok(None) };
        self.auth.renew(question.repository, challenge, sent).await
    }

    async fn follow(
        &self,
        question: &Question<'_>,
        authorization: Option<&Authorization>,
        turn: &mut Turn<'_>,
    ) -> Result<Followed, UpstreamError> {
        let mut url = question.url.clone();
        let mut is_own = true;
        for _ in 0..=self.redirects_max {
            let request = question.request(&url, authorization.filter(|_| is_own))?;
            let answer = self.client.send(question.what, request).await?;
            // Whoever sends us on has answered, wherever that leads and whatever storage does.
            if is_own && answer.status().is_redirection() {
                turn.passed();
            }
            let Some(target) = self.redirects.target(question.what, &answer, &url)? else {
                return Ok(Followed { answer, is_own });
            };
            // Once elsewhere, a way back is the other side's idea: it gets no secret either.
            is_own = is_own && Origin::of(&target).as_ref() == Some(&self.own);
            url = target;
        }
        Err(UpstreamError::Misdirected {
            what: Pointer::Redirect,
            host: shown_host(&url),
            why: Forbidden::TooManyRedirects,
        })
    }
}

impl<'a> Question<'a> {
    /// A GET of `url`, whole.
    pub(super) fn get(what: Kind, repository: &'a RepositoryPath, url: Url, accept: &'static str) -> Self {
        Self { what, method: Method::GET, repository, url, accept, offset: 0 }
    }

    fn request(
        &self,
        url: &Url,
        authorization: Option<&Authorization>,
    ) -> Result<Request<Empty<Bytes>>, UpstreamError> {
        let mut request = request::get(self.what, url, self.accept)?;
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.header.clone());
        }
        if self.offset > 0 {
            let range = format!("bytes={}-", self.offset);
            headers.insert(header::RANGE, range.try_into().expect("digits and ASCII punctuation are a header value"));
        }
        Ok(request)
    }
}
