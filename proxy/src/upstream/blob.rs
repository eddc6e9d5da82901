//! Blobs: whole, or from a byte on.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use oci::{Digest, RepositoryPath};
use tokio::time::Instant;

use super::{
    Upstream, again_where_lost,
    body::Body,
    client::{Answer, single},
    error::{Flaw, Kind, Outage, UpstreamError},
    exchange::Question,
};

/// The bytes of a blob as they come. Dropping it ends the request.
pub struct BlobStream {
    start: u64,
    length: Option<u64>,
    body: Body,
    pace: Pace,
}

/// How fast bytes have come lately. Only the time counts in which they were waited for: who takes them slowly is no slow upstream.
struct Pace {
    waited: Duration,
    bytes: u64,
    /// A look at it is as long as the longest pause may be.
    window: Duration,
    per_second_min: u64,
}

impl BlobStream {
    /// Which byte of the blob comes first: the one asked for, or 0 where upstream does not do ranges.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many bytes the whole blob has, as far as upstream says.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.length.map(|length| self.start.saturating_add(length))
    }

    /// The next bytes; None at the end. Waits `limits.upstream_stall_timeout` at most, and not at all any more where what came lately
    /// was less than `limits.upstream_bytes_per_second_min`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        if self.pace.is_too_slow() && !self.body.is_at_its_end() {
            let why = Outage::TooSlow(self.pace.per_second_min);
            return Err(UpstreamError::Unavailable { what: Kind::Blob, why });
        }
        let began = Instant::now();
        let next = self.body.next().await?;
        self.pace.came(next.as_ref().map_or(0, |bytes| bytes.len() as u64), began.elapsed());
        Ok(next)
    }
}

impl Pace {
    fn came(&mut self, bytes: u64, waited: Duration) {
        if self.waited >= self.window {
            (self.bytes, self.waited) = (0, Duration::ZERO);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.waited = self.waited.saturating_add(waited);
    }

    fn is_too_slow(&self) -> bool {
        let wanted = u128::from(self.per_second_min).saturating_mul(self.waited.as_millis()) / 1000;
        self.waited >= self.window && u128::from(self.bytes) < wanted
    }
}

impl Upstream {
    /// A blob from `offset` on. Nothing is checked against the digest: whoever reads must hash.
    pub async fn blob(
        &self,
        repository: &RepositoryPath,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, UpstreamError> {
        let url = self.url(repository, &format!("blobs/{digest}"));
        let mut question = Question::get(Kind::Blob, repository, url, "*/*");
        question.offset = offset;
        let answer = self.exchange.ask(&question).await?;
        let malformed = |why| UpstreamError::Malformed { what: Kind::Blob, why };
        let (start, length) = extent(&answer, offset).map_err(malformed)?;
        if length.is_some_and(|length| start.saturating_add(length) > self.limits.blob_bytes_max) {
            return Err(malformed(Flaw::TooLarge(self.limits.blob_bytes_max)));
        }
        let pace = Pace {
            waited: Duration::ZERO,
            bytes: 0,
            window: self.limits.upstream_stall_timeout,
            per_second_min: self.limits.upstream_bytes_per_second_min,
        };
        Ok(BlobStream { start, length, body: answer.body, pace })
    }

    /// A whole blob of `size` bytes, in one buffer; unchecked like [`Self::blob`]. Whoever asks has made room for it. It may take
    /// `longer` than a manifest. It is fetched once more where the connection is lost in the middle of it.
    pub async fn whole_blob(
        &self,
        repository: &RepositoryPath,
        digest: &Digest,
        size: u64,
        longer: Duration,
    ) -> Result<Bytes, UpstreamError> {
        let within = self.whole_within().saturating_add(longer);
        let read = |stream: BlobStream| stream.body.read_into(size, within);
        again_where_lost(|| self.blob(repository, digest, 0), read).await
    }
}

/// Where the body starts within the blob, and how long it is.
fn extent(answer: &Answer, offset: u64) -> Result<(u64, Option<u64>), Flaw> {
    let promised = answer.body.length();
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok((0, promised));
    }
    let range = single(answer.headers(), header::CONTENT_RANGE.as_str())?.and_then(Range::parse).ok_or(Flaw::Range)?;
    let length = (range.last - range.first).checked_add(1).ok_or(Flaw::Range)?;
    // We ask for all that is left, never for less, and not for a range at all from byte 0 on.
    let is_wanted = offset > 0 && range.first == offset && range.total.is_none_or(|total| total - 1 == range.last);
    let is_consistent = promised.is_none_or(|promised| promised == length);
    if is_wanted && is_consistent { Ok((offset, Some(length))) } else { Err(Flaw::Range) }
}

/// `bytes first-last/total`, with `first <= last < total`.
struct Range {
    first: u64,
    last: u64,
    total: Option<u64>,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (unit, range) = text.split_once(' ')?;
        let (span, total) = range.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let range = Self {
            first: number(first)?,
            last: number(last)?,
            total: if total == "*" { None } else { Some(number(total)?) },
        };
        let is_ordered = range.first <= range.last && range.total.is_none_or(|total| range.last < total);
        (unit.eq_ignore_ascii_case("bytes") && is_ordered).then_some(range)
    }
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace { waited: Duration::ZERO, bytes: 0, window: Duration::from_secs(30), per_second_min: 1024 }
    }

    #[test]
    fn what_creeps_is_too_slow_once_a_whole_window_says_so() {
        let mut pace = pace();
        let waits = |pace: &mut Pace, bytes, seconds| {
            pace.came(bytes, Duration::from_secs(seconds));
            pace.is_too_slow()
        };
        assert!(!waits(&mut pace, 1, 29));
        assert!(waits(&mut pace, 1, 29));
        // A pause is made up for within its window, and what came before it does not count for the next one.
        assert!(!waits(&mut pace, 0, 20));
        assert!(!waits(&mut pace, 1 << 20, 10));
        assert!(waits(&mut pace, 1024, 30));
    }

    #[test]
    fn who_takes_bytes_slowly_is_no_slow_upstream() {
        let mut pace = pace();
        for _ in 0..1000 {
            pace.came(1, Duration::ZERO);
        }
        assert!(!pace.is_too_slow());
    }
}
