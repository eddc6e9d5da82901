//! Referrers and tags.

use std::{collections::HashSet, fmt, marker::PhantomData};

use metrics::counter;
use oci::{Descriptor, Digest, RepositoryPath, Tag};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use url::Url;

use super::{
    Upstream,
    error::{Flaw, Kind, UpstreamError},
    exchange::Question,
    links::next_page,
};
use crate::seldom::Seldom;

/// Pages in a row without a single tag, before one that has some.
const BARREN_PAGES_MAX: usize = 16;
/// Of what is no tag, and yet named to upstream as the last one seen. Tags have 128 at most.
const LAST_BYTES_MAX: usize = 256;

/// What upstream says refers to a digest, over all pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrers {
    /// In upstream's order, each digest once. Nothing here has been fetched or checked.
    pub descriptors: Vec<Descriptor>,
    /// Entries that are no descriptors; told, since one of them may have been meant as evidence.
    pub skipped: usize,
    /// Why the list ends before upstream's does. Where it is set, an absence from `descriptors` says nothing.
    pub cut: Option<UpstreamError>,
}

/// One page of a repository's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsPage {
    /// In upstream's order, as many as were asked for at most.
    pub tags: Vec<Tag>,
    /// Whether there is more after the last of them, which is there then.
    pub more: bool,
    /// Entries that are no tags.
    pub skipped: usize,
}

/// A page of tags as upstream cuts it.
struct UpstreamPage {
    tags: Vec<Tag>,
    skipped: usize,
    /// The last entry, tag or not, by which upstream could be asked for more.
    last: Option<String>,
    /// Where upstream's next page is, or why that cannot be followed; None on its last one.
    next: Option<Result<Url, UpstreamError>>,
}

/// A list in which `null` stands for an empty one, as Go writes it, but an absent list is an error.
type List<T> = Option<Entries<T>>;

#[derive(Deserialize)]
struct IndexPage {
    #[serde(deserialize_with = "Option::deserialize")]
    manifests: List<Descriptor>,
}

#[derive(Deserialize)]
struct TagsDocument {
    #[serde(deserialize_with = "Option::deserialize")]
    tags: List<String>,
}

/// The good entries of a list. The others are counted and take no memory, however many they are.
struct Entries<T> {
    good: Vec<T>,
    skipped: usize,
}

/// One bad entry must not hide the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry<T> {
    Good(T),
    Bad(IgnoredAny),
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for Reading<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Entries<T>, A::Error> {
                let mut read = Entries { good: Vec::new(), skipped: 0 };
                while let Some(entry) = entries.next_element()? {
                    match entry {
                        Entry::Good(entry) => read.good.push(entry),
                        Entry::Bad(_) => read.skipped += 1,
                    }
                }
                Ok(read)
            }
        }

        deserializer.deserialize_seq(Reading(PhantomData))
    }
}

impl Upstream {
    /// What refers to `digest`, by the referrers API; None where upstream does not have that API.
    ///
    /// An error of the first page is returned, one of a later page is told beside what came before it.
    pub async fn referrers(
        &self,
        repository: &RepositoryPath,
        digest: &Digest,
    ) -> Result<Option<Referrers>, UpstreamError> {
        let mut url = self.url(repository, &format!("referrers/{digest}"));
        let mut found = Referrers { descriptors: Vec::new(), skipped: 0, cut: None };
        let (mut seen, mut listed) = (HashSet::new(), HashSet::new());
        loop {
            let is_first = seen.is_empty();
            seen.insert(url.clone());
            let next = match self.referrers_page(repository, &url, &mut found, &mut listed).await {
                Err(UpstreamError::NotFound { .. }) if is_first => return Ok(None),
                Err(error) if is_first => return Err(error),
                Err(error) => Err(error),
                Ok(next) => next,
            };
            let pages_max = self.limits.referrers_pages_max;
            match next.transpose().map(|next| further(Kind::Referrers, pages_max, &seen, next?)) {
                Some(Ok(next)) => url = next,
                None => return Ok(Some(found)),
                Some(Err(error)) => {
                    found.cut = Some(error);
                    return Ok(Some(found));
                }
            }
        }
    }

    /// One page of tags, as the API's `n` and `last` ask for it, also of an upstream that heeds neither.
    ///
    /// The page goes on by its last tag, and needs no upstream's link. Only where upstream's page has no tag at all it is gone on
    /// from here: by its link, or by its last entry where the link cannot be followed.
    pub async fn tags(
        &self,
        repository: &RepositoryPath,
        n: Option<u64>,
        last: Option<&str>,
    ) -> Result<TagsPage, UpstreamError> {
        let count_max = n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let mut url = self.tags_url(repository, n, last);
        let (mut seen, mut skipped) = (HashSet::new(), 0);
        loop {
            seen.insert(url.clone());
            let mut page = self.tags_page(repository, &url, last).await?;
            skipped += page.skipped;
            let next = match page.next {
                Some(next) if page.tags.is_empty() => next,
                next => {
                    let more = next.is_some() || page.tags.len() > count_max;
                    page.tags.truncate(count_max);
                    return Ok(TagsPage { tags: page.tags, more, skipped });
                }
            };
            let next = match (next, page.last) {
                (Ok(next), _) => next,
                (Err(_), Some(last)) => self.tags_url(repository, n, Some(&last)),
                (Err(error), None) => return Err(error),
            };
            url = further(Kind::Tags, BARREN_PAGES_MAX, &seen, next)?;
        }
    }

    fn tags_url(&self, repository: &RepositoryPath, n: Option<u64>, last: Option<&str>) -> Url {
        let mut url = self.url(repository, "tags/list");
        if let Some(n) = n {
            url.query_pairs_mut().append_pair("n", &n.to_string());
        }
        if let Some(last) = last {
            url.query_pairs_mut().append_pair("last", last);
        }
        url
    }

    /// What is on one page after `last`.
    async fn tags_page(
        &self,
        repository: &RepositoryPath,
        url: &Url,
        last: Option<&str>,
    ) -> Result<UpstreamPage, UpstreamError> {
        const WHAT: Kind = Kind::Tags;
        static UNFOLLOWED: Seldom = Seldom::new();
        static SKIPPED: Seldom = Seldom::new();
        let question = Question::get(WHAT, repository, url.clone(), "application/json");
        let (headers, body) = self.whole(&question, self.limits.tags_list_bytes_max).await?;
        let next = next_page(WHAT, &headers, url, &self.exchange.own, repository).transpose();
        if let Some(Err(error)) = &next
            && let Some(times) = UNFOLLOWED.times()
        {
            let upstream = &self.name;
            tracing::warn!(%upstream, %repository, times, "tags go on after the last one, not where upstream says: {error}");
        }
        let document: TagsDocument = self.json(WHAT, &body)?;
        let (mut entries, mut skipped) = taken(document.tags);
        let end = entries.last().filter(|entry| (1..=LAST_BYTES_MAX).contains(&entry.len())).cloned();
        // An upstream that heeds no `last` tells again what came before it.
        if let Some(at) = last.and_then(|last| entries.iter().position(|entry| entry == last)) {
            entries.drain(..=at);
        }
        let listed = entries.len();
        let tags: Vec<Tag> = entries.into_iter().filter_map(|entry| entry.parse().ok()).collect();
        skipped += listed - tags.len();
        if skipped > 0 {
            let upstream = &self.name;
            counter!("pratique_tags_skipped_total", "upstream" => upstream.clone()).increment(skipped as u64);
            if let Some(times) = SKIPPED.times() {
                tracing::warn!(%upstream, %repository, skipped, times, "entries of upstream's list of tags are no tags, and left out");
            }
        }
        Ok(UpstreamPage { tags, skipped, last: end, next })
    }

    /// Adds one page; inside, where the next one is.
    async fn referrers_page(
        &self,
        repository: &RepositoryPath,
        url: &Url,
        found: &mut Referrers,
        listed: &mut HashSet<Digest>,
    ) -> Result<Result<Option<Url>, UpstreamError>, UpstreamError> {
        const WHAT: Kind = Kind::Referrers;
        let question = Question::get(WHAT, repository, url.clone(), oci::MediaType::OCI_INDEX);
        let (headers, body) = self.whole(&question, self.limits.manifest_bytes_max).await?;
        let next = next_page(WHAT, &headers, url, &self.exchange.own, repository);
        let page: IndexPage = self.json(WHAT, &body)?;
        let (mut descriptors, skipped) = taken(page.manifests);
        found.skipped += skipped;
        let is_empty = descriptors.is_empty();
        descriptors.retain(|descriptor| listed.insert(descriptor.digest.clone()));
        // Whatever its URL, a page on which all is known was read before; where it leads on, it leads in a circle.
        if descriptors.is_empty() && !is_empty && matches!(next, Ok(Some(_))) {
            return Ok(Err(UpstreamError::Malformed { what: WHAT, why: Flaw::PageLoop }));
        }
        let count_max = self.limits.referrers_count_max;
        let room = count_max.saturating_sub(found.descriptors.len());
        let is_over = descriptors.len() > room;
        found.descriptors.extend(descriptors.into_iter().take(room));
        if is_over {
            return Ok(Err(UpstreamError::Malformed { what: WHAT, why: Flaw::TooManyEntries(count_max) }));
        }
        Ok(next)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, what: Kind, body: &[u8]) -> Result<T, UpstreamError> {
        oci::json::parse(body, self.limits.json_depth_max)
            .map_err(|_| UpstreamError::Malformed { what, why: Flaw::Json })
    }
}

/// `next`, unless it was read before or comes after as many pages as may be.
fn further(what: Kind, pages_max: usize, seen: &HashSet<Url>, next: Url) -> Result<Url, UpstreamError> {
    let why = if seen.contains(&next) {
        Flaw::PageLoop
    } else if seen.len() >= pages_max {
        Flaw::TooManyPages(pages_max)
    } else {
        return Ok(next);
    };
    Err(UpstreamError::Malformed { what, why })
}

fn taken<T>(entries: List<T>) -> (Vec<T>, usize) {
    entries.map_or_else(Default::default, |entries| (entries.good, entries.skipped))
}
