//! Bodies of answers: streamed with a limit on pauses, or read whole with a limit on size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::error::{Flaw, Kind, Outage, UpstreamError};

/// No more than this is reserved on the strength of a header.
const RESERVED_BYTES_MAX: u64 = 64 << 10;

/// The body of an answer, which occupies its connection until it is dropped.
pub(super) struct Body {
    what: Kind,
    incoming: Incoming,
    stall_timeout: Duration,
    _slot: OwnedSemaphorePermit,
}

impl Body {
    pub(super) fn new(what: Kind, incoming: Incoming, stall_timeout: Duration, slot: OwnedSemaphorePermit) -> Self {
        Self { what, incoming, stall_timeout, _slot: slot }
    }

    /// How many bytes the head promised.
    pub(super) fn length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Whether nothing more is to come, as far as is known by now.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// The next bytes, never none of them; None at the end that the head promised.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        // Around the whole loop: frames without bytes are no progress.
        let next = timeout(self.stall_timeout, next_bytes(&mut self.incoming)).await;
        let why = match next {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(_)) => Outage::ConnectionLost,
            Err(_) => Outage::Stalled(self.stall_timeout),
        };
        Err(UpstreamError::Unavailable { what: self.what, why })
    }

    /// All of it, where it is `bytes_max` at most and there `within` a time.
    pub(super) async fn read(self, bytes_max: u64, within: Duration) -> Result<Bytes, UpstreamError> {
        let read = self.read_where(bytes_max, |_| true, within).await?;
        Ok(read.unwrap_or_default())
    }

    /// The same, where `may` is asked about each number of bytes before there are so many: those that the head promises, and those that come.
    /// `None`, and nothing more is read, where it says no.
    pub(super) async fn read_where(
        self,
        bytes_max: u64,
        may: impl Fn(u64) -> bool,
        within: Duration,
    ) -> Result<Option<Bytes>, UpstreamError> {
        let reserved = self.length().unwrap_or(0).min(RESERVED_BYTES_MAX);
        self.read_within(bytes_max, reserved, may, within).await
    }

    /// The same for what is known to have `size` bytes and was given room: one buffer, which need not grow.
    pub(super) async fn read_into(self, size: u64, within: Duration) -> Result<Bytes, UpstreamError> {
        let read = self.read_within(size, size, |_| true, within).await?;
        Ok(read.unwrap_or_default())
    }

    async fn read_within(
        self,
        bytes_max: u64,
        reserved: u64,
        may: impl Fn(u64) -> bool,
        within: Duration,
    ) -> Result<Option<Bytes>, UpstreamError> {
        let slow = UpstreamError::Unavailable { what: self.what, why: Outage::Slow(within) };
        timeout(within, self.read_all(bytes_max, reserved, may)).await.unwrap_or(Err(slow))
    }

    async fn read_all(
        mut self,
        bytes_max: u64,
        reserved: u64,
        may: impl Fn(u64) -> bool,
    ) -> Result<Option<Bytes>, UpstreamError> {
        let too_large = UpstreamError::Malformed { what: self.what, why: Flaw::TooLarge(bytes_max) };
        match self.length() {
            Some(promised) if promised > bytes_max => return Err(too_large),
            Some(promised) if !may(promised) => return Ok(None),
            _ => {}
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(reserved).unwrap_or(0));
        let mut left = bytes_max;
        while let Some(bytes) = self.next().await? {
            let Some(rest) = left.checked_sub(bytes.len() as u64) else { return Err(too_large) };
            if !may(bytes_max - rest) {
                return Ok(None);
            }
            left = rest;
            whole.extend_from_slice(&bytes);
        }
        Ok(Some(whole.freeze()))
    }
}

async fn next_bytes(incoming: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = incoming.frame().await {
        // What is not data is trailers, which say nothing we would believe.
        if let Ok(bytes) = frame?.into_data()
            && !bytes.is_empty()
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
