//! `ls` and `show`.

use std::collections::HashMap;

use oci::{Digest, Repository};
use storage::{Edge, EdgeKind, Snapshot, Usage};

use super::{PAGE, failed, find};
use crate::{
    app::App,
    command::answer::{Failure, KeptImage, KeptShown, Listed, Part},
};

/// Images in one answer: some megabytes of it.
const LISTED_MAX: usize = 5000;
/// Tags of one repository that are looked through.
const TAGS_MAX: usize = 10_000;
/// Verdicts on one image that are counted.
const VERDICTS_MAX: usize = 1000;

type Tags = HashMap<Digest, Vec<String>>;

pub(super) async fn ls(app: &App, all: bool, mut after: Option<(Repository, Digest)>) -> Result<Listed, Failure> {
    let mut images = Vec::new();
    let mut tags: Option<(Repository, Tags)> = None;
    loop {
        let page = {
            // A snapshot for each page: one that is kept long keeps old pages of the file alive.
            let snapshot = app.store.facts().read().map_err(failed)?;
            let page = snapshot.manifests(after.as_ref(), PAGE).map_err(failed)?;
            for (repository, digest) in &page {
                if tags.as_ref().is_none_or(|(of, _)| of != repository) {
                    tags = Some((repository.clone(), tags_of(&snapshot, repository)?));
                }
                let named = tags.as_ref().and_then(|(_, tags)| tags.get(digest)).cloned().unwrap_or_default();
                let Some(usage) = snapshot.usage(repository, digest).map_err(failed)? else { continue };
                let image = image(&snapshot, &usage, named)?;
                images.extend(image.filter(|image| all || !image.evidence));
            }
            page
        };
        tokio::task::yield_now().await;
        let is_last = page.len() < PAGE;
        after = page.into_iter().next_back();
        if is_last || images.len() >= LISTED_MAX {
            return Ok(Listed { images, next: after.filter(|_| !is_last) });
        }
    }
}

pub(super) fn show(app: &App, typed: &str) -> Result<KeptShown, Failure> {
    let kept = find(app, typed)?;
    let Usage { repository, digest, .. } = &kept.usage;
    let snapshot = app.store.facts().read().map_err(failed)?;
    let named = tags_of(&snapshot, repository)?.remove(digest).unwrap_or_default();
    let unknown = || Failure::no(format!("{repository}@{digest} is not kept here"));
    let fact = snapshot.manifest(repository, digest).map_err(failed)?.ok_or_else(unknown)?;
    let image = image(&snapshot, &kept.usage, named)?.ok_or_else(unknown)?;
    let mut parts = Vec::new();
    edges(&snapshot, repository, digest, |edge| {
        let kept = match edge.kind {
            EdgeKind::Child | EdgeKind::Referrer => snapshot.usage(repository, &edge.child).map_err(failed)?.is_some(),
            EdgeKind::Config | EdgeKind::Layer | EdgeKind::EvidenceBlob | EdgeKind::Noted => {
                snapshot.content(&edge.child).map_err(failed)?.is_some()
            }
        };
        parts.push(Part { kind: kind(edge.kind).to_owned(), digest: edge.child, size: edge.size, kept });
        Ok(())
    })?;
    let verdicts = snapshot.verdicts(repository, digest, VERDICTS_MAX).map_err(failed)?.len() as u64;
    Ok(KeptShown { typed: kept.typed, image, manifest_bytes: fact.size, first_seen: fact.first_seen, verdicts, parts })
}

fn kind(kind: EdgeKind) -> &'static str {
    match kind {
        EdgeKind::Child => "child",
        EdgeKind::Config => "config",
        EdgeKind::Layer => "layer",
        EdgeKind::Referrer | EdgeKind::EvidenceBlob | EdgeKind::Noted => "evidence",
    }
}

/// What is told of one image; `None` where it has left meanwhile.
fn image(snapshot: &Snapshot, usage: &Usage, tags: Vec<String>) -> Result<Option<KeptImage>, Failure> {
    let Usage { repository, digest, used_at, pinned } = usage;
    let Some(fact) = snapshot.manifest(repository, digest).map_err(failed)? else { return Ok(None) };
    let (mut layer_bytes_kept, mut layer_bytes) = (0, 0);
    edges(snapshot, repository, digest, |edge| {
        if edge.kind == EdgeKind::Layer {
            layer_bytes += edge.size;
            layer_bytes_kept += snapshot.content(&edge.child).map_err(failed)?.map_or(0, |content| content.size);
        }
        Ok(())
    })?;
    let parents = snapshot.parents(repository, digest, None, PAGE).map_err(failed)?.found;
    Ok(Some(KeptImage {
        repository: repository.clone(),
        digest: digest.clone(),
        tags,
        media_type: fact.media_type,
        used_at: *used_at,
        pinned: *pinned,
        evidence: parents.iter().any(|edge| edge.kind == EdgeKind::Referrer),
        layer_bytes_kept,
        layer_bytes,
    }))
}

fn tags_of(snapshot: &Snapshot, repository: &Repository) -> Result<Tags, Failure> {
    let mut tags = Tags::new();
    for (tag, fact) in snapshot.tags(repository, TAGS_MAX).map_err(failed)? {
        if fact.gone_at.is_none() {
            tags.entry(fact.digest).or_default().push(tag.to_string());
        }
    }
    Ok(tags)
}

fn edges(
    snapshot: &Snapshot,
    repository: &Repository,
    parent: &Digest,
    mut each: impl FnMut(Edge) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = snapshot.children(repository, parent, after.as_ref(), PAGE).map_err(failed)?;
        after = page.found.last().cloned();
        page.found.into_iter().try_for_each(&mut each)?;
        if !page.more {
            return Ok(());
        }
    }
}
