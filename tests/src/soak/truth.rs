//! What is right under every path of an image, and what came instead.

use std::ops::Range;

use bytes::Bytes;
use http::{Method, StatusCode};
use oci::Digest;

use crate::{client::Client, image::Image};

/// An image as a client walks it: tag, manifests, blobs.
#[derive(Debug, Clone)]
pub struct Truth {
    /// `chainguard/nginx`.
    pub repository: String,
    /// In the order of a pull.
    pub pages: Vec<Page>,
}

/// One thing to ask for.
#[derive(Debug, Clone)]
pub struct Page {
    /// From `/v2/` on.
    pub path: String,
    /// Of the right bytes.
    pub digest: Digest,
    /// The right bytes; shared with upstream, not copied.
    pub bytes: Bytes,
    /// Whether it is a config or a layer.
    pub is_blob: bool,
}

impl Truth {
    /// Everything a pull of `repository:tag` asks for.
    #[must_use]
    pub fn of(repository: &str, tag: &str, image: &Image) -> Self {
        let tagged = Page { path: format!("/v2/{repository}/manifests/{tag}"), ..manifest(repository, image) };
        let mut pages = vec![tagged];
        walk(repository, image, &mut pages);
        Self { repository: repository.to_owned(), pages }
    }

    /// The configs and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Page> {
        self.pages.iter().filter(|page| page.is_blob)
    }

    /// The page with the most bytes.
    ///
    /// # Panics
    /// Never: there is at least the tag.
    #[must_use]
    pub fn largest(&self) -> &Page {
        self.pages.iter().max_by_key(|page| page.bytes.len()).expect("the tag's page is always there")
    }
}

fn walk(repository: &str, image: &Image, pages: &mut Vec<Page>) {
    pages.push(manifest(repository, image));
    for (digest, bytes) in &image.blobs {
        let path = format!("/v2/{repository}/blobs/{digest}");
        pages.push(Page { path, digest: digest.clone(), bytes: bytes.clone(), is_blob: true });
    }
    for child in &image.children {
        walk(repository, child, pages);
    }
}

fn manifest(repository: &str, image: &Image) -> Page {
    Page {
        path: format!("/v2/{repository}/manifests/{}", image.digest),
        digest: image.digest.clone(),
        bytes: image.manifest.clone(),
        is_blob: false,
    }
}

/// What an answer was, where it was not a wrong one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Got {
    /// 200 and all the right bytes.
    Whole,
    /// 206 and just the right bytes.
    Part,
    /// A status of success, and a body that broke before its end.
    Broken,
    /// Another status.
    Status(StatusCode),
    /// Not even a status.
    Nothing,
}

impl Got {
    /// Right bytes to their end.
    #[must_use]
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Whole | Self::Part)
    }
}

/// Asks for `page`, or a range of it.
///
/// # Errors
/// When an answer of success came to its end with other bytes than the right ones: the one thing that must never happen.
pub async fn ask(client: &Client, base: &str, page: &Page, range: Option<Range<u64>>) -> Result<Got, String> {
    let asked = range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
    let headers: Vec<_> = asked.iter().map(|asked| ("range", asked.as_str())).collect();
    let Ok(open) = client.open(Method::GET, &format!("{base}{}", page.path), &headers).await else {
        return Ok(Got::Nothing);
    };
    let status = open.status;
    let content_range = open.header("content-range").map(str::to_owned);
    let drained = open.drain().await;
    if !status.is_success() {
        return Ok(Got::Status(status));
    }
    if !drained.complete {
        return Ok(Got::Broken);
    }
    let (want, got) = match range.filter(|_| status == StatusCode::PARTIAL_CONTENT) {
        None => (page.digest.clone(), Got::Whole),
        Some(range) => {
            let range = range.start..range.end.min(page.bytes.len() as u64);
            let told = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), page.bytes.len());
            if content_range.as_deref() != Some(&told) {
                return Err(format!("{} {asked:?}: Content-Range is {content_range:?}, not {told:?}", page.path));
            }
            (Digest::sha256(part(&page.bytes, &range)), Got::Part)
        }
    };
    if drained.digest == want && (status == StatusCode::OK || got == Got::Part) {
        return Ok(got);
    }
    let bytes = drained.length;
    Err(format!("{} {asked:?}: {status} was complete with {bytes} bytes of {}, want {want}", page.path, drained.digest))
}

fn part<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(place(range.start)..place(range.end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        image,
        upstream::{Fault, Registry, noise},
    };

    async fn world() -> (Registry, Truth) {
        let registry = Registry::builder().start().await.unwrap();
        let image = image::single("linux/amd64", [noise(10_000, 1)]);
        image.push(&registry, "a/b", Some("t"));
        (registry, Truth::of("a/b", "t", &image))
    }

    #[tokio::test]
    async fn right_answers_are_told_apart_from_those_that_are_none() {
        let (registry, truth) = world().await;
        let (client, url, layer) = (Client::plain(), registry.url(), truth.largest());
        for page in &truth.pages {
            assert_eq!(ask(&client, &url, page, None).await, Ok(Got::Whole), "{}", page.path);
        }
        assert_eq!(ask(&client, &url, layer, Some(5..50)).await, Ok(Got::Part));
        assert_eq!(ask(&client, &url, layer, Some(5..50_000)).await, Ok(Got::Part));
        let cut = registry.fault(|_| true, Fault::Truncate(7));
        assert_eq!(ask(&client, &url, layer, None).await, Ok(Got::Broken));
        cut.clear();
        registry.fault(|_| true, Fault::status(503));
        assert_eq!(ask(&client, &url, layer, None).await, Ok(Got::Status(StatusCode::SERVICE_UNAVAILABLE)));
        registry.shutdown().await;
        assert_eq!(ask(&client, &url, layer, None).await, Ok(Got::Nothing));
    }

    #[tokio::test]
    async fn an_answer_that_is_complete_and_wrong_is_told() {
        let (registry, truth) = world().await;
        let (client, url, layer) = (Client::plain(), registry.url(), truth.largest());
        for (fault, range) in [
            (Fault::Corrupt(9999), None),
            (Fault::Corrupt(20), Some(5..50)),
            (Fault::Length(9000), None),
            (Fault::instead("text/plain", "other"), None),
            (Fault::header("content-range", "bytes 6-50/10000"), Some(5..50)),
        ] {
            let fault_in_force = registry.fault(|_| true, fault.clone());
            assert!(ask(&client, &url, layer, range).await.is_err(), "{fault:?}");
            fault_in_force.clear();
        }
    }
}
