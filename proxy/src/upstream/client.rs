//! One request, one answer: timeouts, size of headers, number of connections, one retry.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use config::Limits;
use futures_util::future::{Either, select};
use http::{Extensions, HeaderMap, Request, Response, StatusCode, header, response::Parts};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        self,
        connect::{CaptureConnection, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use jiff::fmt::rfc2822;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{
    body::Body,
    dial::{DialError, Dialer, cause},
    error::{Flaw, Forbidden, Kind, Outage, Pointer, UpstreamError},
    network::Used,
};

/// A connection without a request is kept this long: less than what is on the way usually keeps it.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_MAX: usize = 16;
/// An HTTP/2 connection is asked after this part of the time for an answer whether it is alive, while something waits for it, and is dead
/// where it does not say so in as long again: then there is still time to ask by another one.
const PING: f64 = 0.4;
/// HTTP/1.1 knows no such question: where a connection that was used before is silent for this part of the time, a new one is tried beside it.
const SILENT: f64 = 0.5;
/// What one read of an HTTP/1.1 connection takes at most, bytes: a download hands its bytes on in pieces as large as that where they come
/// faster than they are hashed and sent.
const READ_BYTES: usize = 256 << 10;

/// What one answer of an HTTP/2 connection may bring before it is read, bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// What all answers that may be under way in one HTTP/2 connection may bring before they are read: those that nobody reads hold up no
/// other.
fn connection_window(answers_max: usize) -> u32 {
    let bytes = u32::try_from(answers_max).unwrap_or(u32::MAX).saturating_mul(STREAM_WINDOW_BYTES);
    // The largest window there is (RFC 9113 §6.9.1).
    bytes.min((1 << 31) - 1)
}

/// Requests without a body, never more than `limits.upstream_connections_max` at once. It follows nothing and knows no credentials.
pub(super) struct Client {
    hyper: legacy::Client<Dialer, Empty<Bytes>>,
    /// Never takes a connection that was there before, and keeps none.
    fresh: legacy::Client<Dialer, Empty<Bytes>>,
    slots: Arc<Semaphore>,
    slots_max: usize,
    /// Named when the dialer refuses an address.
    pointer: Pointer,
    header_bytes_max: usize,
    response_timeout: Duration,
    stall_timeout: Duration,
}

/// Head and body of an answer.
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Body,
}

impl Client {
    pub(super) fn new(dialer: Dialer, pointer: Pointer, limits: &Limits) -> Self {
        let header_bytes_max = usize::try_from(limits.upstream_header_bytes_max).unwrap_or(usize::MAX);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_max_buf_size(READ_BYTES)
            .http2_max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(connection_window(limits.upstream_connections_max))
            .http2_keep_alive_interval(limits.upstream_response_timeout.mul_f64(PING))
            .http2_keep_alive_timeout(limits.upstream_response_timeout.mul_f64(PING));
        Self {
            hyper: builder.build(dialer.clone()),
            fresh: builder.pool_max_idle_per_host(0).build(dialer),
            slots: Arc::new(Semaphore::new(limits.upstream_connections_max.min(Semaphore::MAX_PERMITS))),
            slots_max: limits.upstream_connections_max,
            pointer,
            header_bytes_max,
            response_timeout: limits.upstream_response_timeout,
            stall_timeout: limits.upstream_stall_timeout,
        }
    }

    /// Sends `request`, at most twice: a connection that was idle may have been closed by the other side at the very moment it is used.
    pub(super) async fn send(&self, what: Kind, request: Request<Empty<Bytes>>) -> Result<Answer, UpstreamError> {
        let unavailable = |why| UpstreamError::Unavailable { what, why };
        let slot = timeout(self.response_timeout, Arc::clone(&self.slots).acquire_owned())
            .await
            .map_err(|_| unavailable(Outage::Busy(self.slots_max)))?
            .expect("the semaphore is never closed");
        let deadline = Instant::now() + self.response_timeout;
        let mut is_retry = false;
        loop {
            let asking = async {
                // Where one connection that was idle is dead, the others may be as well.
                if is_retry { self.fresh.request(request.clone()).await } else { self.answer(&request).await }
            };
            let answer = timeout_at(deadline, Box::pin(asking))
                .await
                .map_err(|_| unavailable(Outage::AnswerTimedOut(self.response_timeout)))?;
            match answer {
                Ok(answer) => {
                    let (head, body) = answer.into_parts();
                    // hyper's own limit for HTTP/1.1 is what it may read at once, and bodies are to be read in large pieces.
                    if header_bytes(&head.headers) > self.header_bytes_max {
                        let why = Flaw::HeadersTooLarge(self.header_bytes_max);
                        return Err(UpstreamError::Malformed { what, why });
                    }
                    return Ok(Answer { head, body: Body::new(what, body, self.stall_timeout, slot) });
                }
                Err(error) if !is_retry && is_lost(&error) => is_retry = true,
                Err(error) => return Err(self.failure(what, &request, &error)),
            }
        }
    }

    /// The answer; where a used connection is silent, by whichever of two connections it comes first. What is only slow loses nothing by that.
    async fn answer(&self, request: &Request<Empty<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
        let mut first = request.clone();
        let connection = capture_connection(&mut first);
        let mut first = pin!(self.hyper.request(first));
        let answer = match timeout(self.response_timeout.mul_f64(SILENT), &mut first).await {
            Ok(answer) => answer,
            Err(_) if !is_used(&connection) => first.await,
            Err(_) => match self.slots.try_acquire() {
                Err(_) => first.await,
                Ok(_second_slot) => {
                    let second = pin!(self.fresh.request(request.clone()));
                    match select(first, second).await {
                        Either::Left((Err(_), second)) => second.await,
                        Either::Right((Err(_), first)) => first.await,
                        Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
                    }
                }
            },
        };
        if let Some(used) = answer.as_ref().ok().and_then(|answer| answer.extensions().get::<Used>()) {
            used.note();
        }
        answer
    }

    fn failure(&self, what: Kind, request: &Request<Empty<Bytes>>, error: &legacy::Error) -> UpstreamError {
        match cause::<DialError>(error) {
            Some(DialError::Outage(why)) => UpstreamError::Unavailable { what, why: *why },
            Some(DialError::NotPublic) => UpstreamError::Misdirected {
                what: self.pointer,
                host: request.uri().host().unwrap_or_default().chars().take(253).collect(),
                why: Forbidden::NotPublic,
            },
            None if error.is_connect() => UpstreamError::Unavailable { what, why: Outage::ConnectFailed },
            None if is_lost(error) => UpstreamError::Unavailable { what, why: Outage::ConnectionLost },
            None => UpstreamError::Malformed { what, why: Flaw::Http },
        }
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.head.status
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Turns every status but 200 and 206 into an error.
    pub(super) fn expect_success(self, what: Kind) -> Result<Self, UpstreamError> {
        match self.status().as_u16() {
            200 | 206 => {}
            404 => return Err(UpstreamError::NotFound { what }),
            status @ (401 | 403) => return Err(UpstreamError::Refused { what, status }),
            429 => return Err(UpstreamError::RateLimited { what, retry_after: retry_after(self.headers()) }),
            // Not now and not later: there is no time at which to come again.
            501 => return Err(UpstreamError::Unavailable { what, why: Outage::Status(501) }),
            status @ 500.. => {
                let why = retry_after(self.headers())
                    .map_or(Outage::Status(status), |after| Outage::ComeAgain(status, after));
                return Err(UpstreamError::Unavailable { what, why });
            }
            status => return Err(UpstreamError::Malformed { what, why: Flaw::Status(status) }),
        }
        let mut encodings = self.headers().get_all(header::CONTENT_ENCODING).iter();
        if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(UpstreamError::Malformed { what, why: Flaw::Encoded });
        }
        Ok(self)
    }
}

/// The one value of a header; None where it is absent or empty.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Flaw> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|value| value != first) {
        return Err(Flaw::Header(name));
    }
    let text = first.to_str().map_err(|_| Flaw::Header(name))?.trim();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Seconds, or a date, which is as far off as the answer's own date says.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    const DAY: u64 = 86_400;
    let text = single(headers, "retry-after").ok()??;
    let until = || {
        let now = date(single(headers, header::DATE.as_str()).ok()??)?;
        u64::try_from(date(text)?.checked_sub(now)?).ok().filter(|seconds| *seconds > 0)
    };
    let seconds = text.parse().ok().or_else(until)?;
    // More than a day is no patience but a mistake, such as the time of day in seconds.
    (seconds <= DAY).then(|| Duration::from_secs(seconds))
}

/// Seconds since 1970 of a date as HTTP writes it.
fn date(text: &str) -> Option<i64> {
    static PARSER: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new();
    PARSER.parse_timestamp(text).ok().map(jiff::Timestamp::as_second)
}

/// Whether this connection has brought an answer before. Of one that speaks HTTP/2 there is a better way to know that it is dead.
fn is_used(connection: &CaptureConnection) -> bool {
    let connection = connection.connection_metadata();
    let Some(connected) = connection.as_ref().filter(|connected| !connected.is_negotiated_h2()) else { return false };
    let mut extensions = Extensions::new();
    connected.get_extras(&mut extensions);
    extensions.get::<Used>().is_some_and(Used::is_used)
}

/// As they stand in the answer, in bytes.
fn header_bytes(headers: &HeaderMap) -> usize {
    const AROUND: usize = ": \r\n".len();
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + AROUND).sum()
}

/// Whether the connection ended under the request, before any answer that could be judged.
fn is_lost(error: &legacy::Error) -> bool {
    let is_flawed = cause::<hyper::Error>(error).is_some_and(|error| error.is_parse() || error.is_user());
    !error.is_connect() && !is_flawed
}
