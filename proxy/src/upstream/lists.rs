//! Referrers and tags.

use std::collections::HashSet;

use oci::{Descriptor, Digest, RepositoryPath, Tag};
use serde::{Deserialize, de::IgnoredAny};
use url::Url;

use super::{
    Upstream,
    error::{Flaw, Kind, UpstreamError},
    exchange::Question,
    links::next_page,
};

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
    /// In upstream's order.
    pub tags: Vec<Tag>,
    /// Whether upstream has more after the last one.
    pub more: bool,
    /// Entries that are no tags.
    pub skipped: usize,
}

/// A list in which `null` stands for an empty one, as Go writes it, but an absent list is an error.
type List<T> = Option<Vec<T>>;

#[derive(Deserialize)]
struct IndexPage {
    #[serde(deserialize_with = "Option::deserialize")]
    manifests: List<Entry<Descriptor>>,
}

#[derive(Deserialize)]
struct TagsDocument {
    #[serde(deserialize_with = "Option::deserialize")]
    tags: List<Entry<Tag>>,
}

/// One bad entry must not hide the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry<T> {
    Good(T),
    Bad(IgnoredAny),
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
            match next.and_then(|next| self.further(&seen, next)) {
                Ok(Some(next)) => url = next,
                Ok(None) => return Ok(Some(found)),
                Err(error) => {
                    found.cut = Some(error);
                    return Ok(Some(found));
                }
            }
        }
    }

    /// One page of tags, as the API's `n` and `last` ask for it.
    pub async fn tags(
        &self,
        repository: &RepositoryPath,
        n: Option<u64>,
        last: Option<&str>,
    ) -> Result<TagsPage, UpstreamError> {
        const WHAT: Kind = Kind::Tags;
        let mut url = self.url(repository, "tags/list");
        if let Some(n) = n {
            url.query_pairs_mut().append_pair("n", &n.to_string());
        }
        if let Some(last) = last {
            url.query_pairs_mut().append_pair("last", last);
        }
        let answer = self.exchange.ask(&Question::get(WHAT, repository, url.clone(), "application/json")).await?;
        // Only whether there is a next page matters; a link elsewhere is none.
        let next = next_page(WHAT, answer.headers(), &url, &self.exchange.own, repository);
        let body = answer.body.read(self.limits.tags_list_bytes_max, self.whole_within()).await?;
        let document: TagsDocument = self.json(WHAT, &body)?;
        let (tags, skipped) = good(document.tags);
        Ok(TagsPage { tags, skipped, more: matches!(next, Ok(Some(_))) })
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
        let answer =
            self.exchange.ask(&Question::get(WHAT, repository, url.clone(), oci::MediaType::OCI_INDEX)).await?;
        let next = next_page(WHAT, answer.headers(), url, &self.exchange.own, repository);
        let body = answer.body.read(self.limits.manifest_bytes_max, self.whole_within()).await?;
        let page: IndexPage = self.json(WHAT, &body)?;
        let (mut descriptors, skipped) = good(page.manifests);
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

    fn further(&self, seen: &HashSet<Url>, next: Option<Url>) -> Result<Option<Url>, UpstreamError> {
        let Some(next) = next else { return Ok(None) };
        let pages_max = self.limits.referrers_pages_max;
        let why = if seen.contains(&next) {
            Flaw::PageLoop
        } else if seen.len() >= pages_max {
            Flaw::TooManyPages(pages_max)
        } else {
            return Ok(Some(next));
        };
        Err(UpstreamError::Malformed { what: Kind::Referrers, why })
    }

    fn json<T: serde::de::DeserializeOwned>(&self, what: Kind, body: &[u8]) -> Result<T, UpstreamError> {
        oci::json::parse(body, self.limits.json_depth_max)
            .map_err(|_| UpstreamError::Malformed { what, why: Flaw::Json })
    }
}

fn good<T>(entries: List<Entry<T>>) -> (Vec<T>, usize) {
    let mut skipped = 0;
    let mut taken = Vec::new();
    for entry in entries.into_iter().flatten() {
        match entry {
            Entry::Good(entry) => taken.push(entry),
            Entry::Bad(_) => skipped += 1,
        }
    }
    (taken, skipped)
}
