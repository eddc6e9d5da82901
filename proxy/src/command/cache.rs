//! `cache`: what is kept, what of it stays, and whether it is still what it was.

mod listing;
mod scrub;

use std::sync::Arc;

use oci::{Digest, Reference, Repository};
use storage::{Amount, Change, EdgeKind, Freed, Keeper, Left, Marks, StoreError, Usage};

use super::{
    answer::{
        AmountTold, CacheAnswer, Failure, FreedTold, LeftImage, LeftLayer, MarksTold, NewestForgotten, Pinned, Stats,
    },
    image::Image,
    progress::{Doing, Progress, Reporter},
    request::CacheRequest,
};
use crate::{app::App, error::ApiError, keeping};

/// Facts read at a time.
const PAGE: usize = 64;
/// Indexes within indexes that leave together.
const DEPTH_MAX: usize = 4;
/// What has left is told one by one up to here; the sums tell of all.
const LEFT_MAX: usize = 10_000;

pub(super) async fn answer(app: &Arc<App>, request: CacheRequest, reporter: &Reporter) -> Result<CacheAnswer, Failure> {
    let keeper = Keeper::new(app.store.clone());
    keeper.settle().await.map_err(failed)?;
    match request {
        CacheRequest::Ls { all, after } => listing::ls(app, all, after).await.map(CacheAnswer::Listed),
        CacheRequest::Show { image } => listing::show(app, &image).map(CacheAnswer::Shown),
        CacheRequest::Gc { dry_run } => gc(app, &keeper, dry_run, reporter).await.map(CacheAnswer::Freed),
        CacheRequest::Pin { image, pinned } => pin(app, &image, pinned).await.map(CacheAnswer::Pinned),
        CacheRequest::ForgetNewest { image } => forget_newest(app, &image).await.map(CacheAnswer::NewestForgotten),
        CacheRequest::Rm { images, dry_run } => rm(app, &keeper, &images, dry_run).await.map(CacheAnswer::Freed),
        CacheRequest::Scrub { rate } => scrub::scrub(app, rate, reporter).await.map(CacheAnswer::Scrubbed),
        CacheRequest::Stats => stats(app).await.map(CacheAnswer::Stats),
    }
}

fn failed(error: StoreError) -> Failure {
    Failure::from(ApiError::from(error))
}

/// The image that was typed, as the store knows it.
struct Kept {
    typed: String,
    usage: Usage,
}

/// Finds what was typed; a tag means what it meant last.
fn find(app: &App, typed: &str) -> Result<Kept, Failure> {
    let Image { typed, repository, reference } = Image::parse(typed, &app.in_force())?;
    let snapshot = app.store.facts().read().map_err(failed)?;
    let unknown = || {
        Failure::no(format!("{repository}{} is not kept here", suffix(&reference)))
            .hint("pratique cache ls tells what is")
    };
    let digest = match &reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(tag) => snapshot.tag(&repository, tag).map_err(failed)?.ok_or_else(unknown)?.digest,
    };
    let usage = snapshot.usage(&repository, &digest).map_err(failed)?.ok_or_else(unknown)?;
    Ok(Kept { typed, usage })
}

fn suffix(reference: &Reference) -> String {
    match reference {
        Reference::Digest(digest) => format!("@{digest}"),
        Reference::Tag(tag) => format!(":{tag}"),
    }
}

async fn gc(app: &Arc<App>, keeper: &Keeper, dry_run: bool, reporter: &Reporter) -> Result<FreedTold, Failure> {
    let told_so_far = |bytes, bytes_total| {
        reporter.report(Progress { doing: Doing::Freeing, bytes, bytes_total, blobs: 0, rotten: 0 });
    };
    let mut gone = Gone::new(app, dry_run);
    let swept = keeper.sweep_telling(keeping::sweep(app, dry_run), |left| gone.one(left), told_so_far).await;
    let freed = swept.map_err(failed)?;
    let budget = app.store.ledger().budget();
    let is_bounded = budget.layers.is_some() || budget.metadata.is_some();
    let note = (!is_bounded)
        .then(|| "no budget is set: nothing has to leave (storage.max_bytes, storage.metadata_max_bytes)".to_owned());
    let lost = end_of_loss(app, dry_run).await.map_err(failed)?;
    Ok(gone.told(freed, lost.or(note)))
}

/// Ends the time for which blobs are kept that nothing reaches since the facts were lost.
async fn end_of_loss(app: &App, dry_run: bool) -> Result<Option<String>, StoreError> {
    if app.store.facts().read()?.loss()?.is_none() {
        return Ok(None);
    }
    if !dry_run {
        app.store.facts().apply(vec![Change::Loss(None)]).await?;
    }
    let note = "the facts were lost: blobs that no manifest reaches by now are removed when the server next looks, within about an hour";
    Ok(Some(note.to_owned()))
}

/// All of them or none: what one of them leaves behind depends on whether the others go.
async fn rm(app: &Arc<App>, keeper: &Keeper, typed: &[String], dry_run: bool) -> Result<FreedTold, Failure> {
    let images = typed.iter().map(|typed| unpinned(app, typed)).collect::<Result<Vec<_>, _>>()?;
    let leaving = with_children(app, images)?;
    let mut gone = Gone::new(app, dry_run);
    let freed = keeper.remove(&leaving, dry_run, |left| gone.one(left)).await.map_err(failed)?;
    Ok(gone.told(freed, None))
}

fn unpinned(app: &App, typed: &str) -> Result<(Repository, Digest), Failure> {
    let Usage { repository, digest, pinned, .. } = find(app, typed)?.usage;
    if pinned {
        let hint = format!("pratique cache unpin {repository}@{digest}");
        return Err(Failure::no(format!("{repository}@{digest} is pinned")).hint(hint));
    }
    Ok((repository, digest))
}

/// Images, and of indexes among them the children that no other index lists and nobody has pinned.
fn with_children(app: &App, mut leaving: Vec<(Repository, Digest)>) -> Result<Vec<(Repository, Digest)>, Failure> {
    let snapshot = app.store.facts().read().map_err(failed)?;
    let mut from = 0;
    for _ in 0..DEPTH_MAX {
        let parents = leaving.get(from..).unwrap_or_default().to_vec();
        from = leaving.len();
        for (repository, parent) in parents {
            let mut after = None;
            loop {
                let page = snapshot.children(&repository, &parent, after.as_ref(), PAGE).map_err(failed)?;
                after = page.found.last().cloned();
                for edge in page.found.into_iter().filter(|edge| edge.kind == EdgeKind::Child) {
                    let usage = snapshot.usage(&repository, &edge.child).map_err(failed)?;
                    let is_free = usage.is_some_and(|usage| !usage.pinned);
                    let child = (repository.clone(), edge.child);
                    if is_free && !leaving.contains(&child) && !is_listed(&snapshot, &child, &leaving)? {
                        leaving.push(child);
                    }
                }
                if !page.more {
                    break;
                }
            }
        }
    }
    Ok(leaving)
}

/// Whether an index that stays lists a manifest.
fn is_listed(
    snapshot: &storage::Snapshot,
    (repository, child): &(Repository, Digest),
    leaving: &[(Repository, Digest)],
) -> Result<bool, Failure> {
    let parents = snapshot.parents(repository, child, None, PAGE).map_err(failed)?;
    let leaves = |parent: &Digest| leaving.iter().any(|(other, digest)| other == repository && digest == parent);
    Ok(parents.found.iter().any(|edge| edge.kind == EdgeKind::Child && !leaves(&edge.parent)))
}

async fn pin(app: &Arc<App>, typed: &str, pinned: bool) -> Result<Pinned, Failure> {
    let Kept { typed, usage: Usage { repository, digest, .. } } = find(app, typed)?;
    let change = Change::Pinned { repository: repository.clone(), digest: digest.clone(), pinned, at: app.clock.now() };
    app.store.facts().apply(vec![change]).await.map_err(failed)?;
    // It may have made way for others at that very moment.
    let usage = app.store.facts().read().and_then(|facts| facts.usage(&repository, &digest)).map_err(failed)?;
    if usage.is_none() {
        return Err(Failure::no(format!("{repository}@{digest} has just left the store")).hint("pull it again"));
    }
    Ok(Pinned { image: typed, repository, digest, stays: pinned })
}

async fn forget_newest(app: &Arc<App>, typed: &str) -> Result<NewestForgotten, Failure> {
    let Image { typed, repository, reference } = Image::parse(typed, &app.in_force())?;
    let Reference::Tag(tag) = reference else {
        let hint = "write it as cgr.dev/chainguard/nginx:latest: by digest nothing is compared";
        return Err(Failure::usage(format!("{typed} is a digest, and what is forgotten is known of tags"), hint));
    };
    let newest = app.admission.forget_newest(&repository, &tag).await?;
    Ok(NewestForgotten { image: typed, repository, tag: tag.to_string(), newest })
}

async fn stats(app: &Arc<App>) -> Result<Stats, Failure> {
    let snapshot = || app.store.facts().read().map_err(failed);
    let totals = snapshot()?.totals().map_err(failed)?;
    let budget = app.store.ledger().budget();
    let (mut manifests, mut pinned, mut oldest_use) = (0, 0, None);
    let mut after: Option<Usage> = None;
    loop {
        let page = snapshot()?.least_recently_used(after.as_ref(), PAGE).map_err(failed)?;
        oldest_use = oldest_use.or(page.iter().map(|usage| usage.used_at).find(|at| at.as_millis() > 0));
        manifests += page.len() as u64;
        pinned += page.iter().filter(|usage| usage.pinned).count() as u64;
        let is_last = page.len() < PAGE;
        after = page.into_iter().next_back();
        if is_last {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(Stats {
        layers: amount(totals.layers),
        metadata: amount(totals.metadata),
        layers_budget: budget.layers.map(marks),
        metadata_budget: budget.metadata.map(marks),
        in_flight_bytes: app.store.ledger().in_flight(),
        manifests,
        pinned,
        oldest_use,
    })
}

/// What leaves at somebody's word.
struct Gone<'a> {
    app: &'a App,
    dry_run: bool,
    layers: Vec<LeftLayer>,
    images: Vec<LeftImage>,
    /// Not told one by one.
    further: u64,
}

impl<'a> Gone<'a> {
    fn new(app: &'a App, dry_run: bool) -> Self {
        Self { app, dry_run, layers: Vec::new(), images: Vec::new(), further: 0 }
    }

    fn one(&mut self, left: Left) {
        if !self.dry_run {
            keeping::forget(self.app, &left);
        }
        if self.layers.len() + self.images.len() >= LEFT_MAX {
            self.further += 1;
            return;
        }
        match left {
            Left::Layer { image, digest } => self.layers.push(LeftLayer {
                repository: image.repository,
                image: image.digest,
                used_at: image.used_at,
                digest,
            }),
            Left::Image { repository, digest } => self.images.push(LeftImage { repository, digest }),
        }
    }

    fn told(self, freed: Freed, note: Option<String>) -> FreedTold {
        if !self.dry_run {
            keeping::told(&freed);
        }
        let further = (self.further > 0).then(|| format!("and {} more that are not told one by one", self.further));
        FreedTold {
            dry_run: self.dry_run,
            layers: amount(freed.layers),
            metadata: amount(freed.metadata),
            left_layers: self.layers,
            left_images: self.images,
            note: note.or(further),
        }
    }
}

fn amount(Amount { blobs, bytes }: Amount) -> AmountTold {
    AmountTold { blobs, bytes }
}

fn marks(Marks { max, high, low }: Marks) -> MarksTold {
    MarksTold { max, high, low }
}
