//! The byte budgets: what leaves the store when it holds too much.
//!
//! ```text
//! images, least recently used first ──> layers that no image used since needs ──> unlinked, then struck off
//!                                  └──> manifest, config, evidence, verdicts, edges in one commit ──> files unlinked
//! ```
//!
//! Layers and metadata (manifests, configs, evidence) have a budget each. Layers leave without a trace but in the sums: an admitted
//! image without a layer is a miss. Metadata leaves image by image. Pinned images, and what they are made of, stay; so does what
//! others have open, until they close it. Whatever a crash interrupts is found by [`Keeper::reconcile`].

use std::sync::Arc;

use oci::{Digest, Repository, UnixTime};

pub use self::{
    account::{Account, Freed, Left},
    budget::{Budget, Marks},
};
use crate::{Change, Content, ContentClass, EdgeKind, Ledger, Snapshot, Store, StoreError, Usage, blobs::blocking};

mod account;
mod budget;
mod forget;
mod needed;
mod reconcile;

use self::{
    forget::{Gone, Leaving},
    needed::Lost,
};

/// Facts read at a time.
const PAGE: usize = 64;

/// Keeps a store within its budgets.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    ledger: Arc<Ledger>,
}

/// How a pass is made.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// Only tell what would leave.
    pub dry_run: bool,
    /// Images used since then keep their metadata: they may be on their way to a client.
    pub spare_since: UnixTime,
}

/// What a pass has come to, and who hears of what leaves in it.
struct Pass<F> {
    dry_run: bool,
    freed: Freed,
    gone: Gone,
    left: F,
}

impl<F: FnMut(Left)> Pass<F> {
    fn new(dry_run: bool, left: F) -> Self {
        Self { dry_run, freed: Freed::default(), gone: Gone::default(), left }
    }

    /// A layer of `bytes` bytes.
    fn layer(&mut self, image: Usage, digest: Digest, bytes: u64) {
        self.freed.layers.add(bytes);
        (self.left)(Left::Layer { image, digest });
    }
}

impl Keeper {
    /// Keeps `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let ledger = Arc::clone(store.ledger());
        Self { store, ledger }
    }

    /// Makes room whenever somebody calls for it, until dropped. `sweep` says how, each time; `left` hears of everything that leaves,
    /// and `told` how much that was in the end.
    pub async fn run(
        &self,
        sweep: impl Fn() -> Sweep,
        mut left: impl FnMut(Left),
        mut told: impl FnMut(Result<Freed, StoreError>),
    ) {
        let keeping = self.ledger.keep();
        loop {
            self.ledger.called.notified().await;
            let calls = keeping.calls();
            told(self.sweep(sweep(), &mut left).await);
            keeping.answered(calls);
        }
    }

    /// Writes down what has gathered in memory; when it returns, that holds of what another was writing down meanwhile, too.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let _turn = self.ledger.settling.lock().await;
        let changes = self.ledger.drain();
        if !changes.is_empty()
            && let Err(error) = self.store.facts().apply(changes.clone()).await
        {
            self.ledger.put_back(changes);
            return Err(error);
        }
        self.ledger.found(&self.store.facts().read()?.totals()?);
        Ok(())
    }

    /// Brings both classes under their low marks where they are above their high ones. `left` hears of everything that leaves, when it
    /// does: there may be more of it than anybody should hold.
    pub async fn sweep(&self, sweep: Sweep, left: impl FnMut(Left)) -> Result<Freed, StoreError> {
        self.sweep_telling(sweep, left, |_, _| {}).await
    }

    /// The same; `told` hears again and again how many bytes have left, of how many.
    pub async fn sweep_telling(
        &self,
        sweep: Sweep,
        left: impl FnMut(Left),
        told: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Freed, StoreError> {
        self.settle().await?;
        let budget = self.ledger.budget();
        let totals = self.store.facts().read()?.totals()?;
        let in_flight = self.ledger.in_flight();
        let too_much = |marks: Option<Marks>, held: u64, coming: u64| match marks {
            Some(marks) if held.saturating_add(coming) > marks.high => {
                held.saturating_sub(marks.low.saturating_sub(coming))
            }
            _ => 0,
        };
        let layers = too_much(budget.layers, totals.layers.bytes, in_flight);
        let metadata = too_much(budget.metadata, totals.metadata.bytes, 0);
        let mut pass = Pass::new(sweep.dry_run, left);
        let told = |freed: &Freed| {
            told(freed.layers.bytes.min(layers) + freed.metadata.bytes.min(metadata), layers + metadata);
        };
        self.layers(layers, &mut pass, &told).await?;
        self.metadata(metadata, sweep.spare_since, &mut pass, &told).await?;
        let freed = pass.freed;
        if !sweep.dry_run {
            self.settle().await?;
        }
        Ok(freed)
    }

    /// Lets go of `wanted` bytes of layers.
    async fn layers(
        &self,
        wanted: u64,
        pass: &mut Pass<impl FnMut(Left)>,
        told: &(impl Fn(&Freed) + Sync),
    ) -> Result<(), StoreError> {
        if wanted > 0 && self.store.facts().read()?.loss()?.is_some() {
            self.lost(wanted, pass, told).await?;
        }
        let mut after = None;
        while pass.freed.layers.bytes < wanted {
            let page = self.store.facts().read()?.least_recently_used(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            for image in &page {
                if pass.freed.layers.bytes >= wanted {
                    break;
                }
                let leaving = needed::layers_of(&self.store.facts().read()?, image, &pass.gone)?;
                for (digest, size) in leaving {
                    if !pass.dry_run {
                        self.store.blobs().remove(&digest).await?;
                    }
                    pass.gone.blob(&digest);
                    pass.layer(image.clone(), digest, size);
                }
                told(&pass.freed);
            }
            after = Some(last.clone());
            self.struck_off(pass).await?;
            // Many images may have nothing left that could leave, and others have something to do.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Lets go of what was lost with earlier facts: nobody has asked for it since, or it would be reached.
    async fn lost(
        &self,
        wanted: u64,
        pass: &mut Pass<impl FnMut(Left)>,
        told: &(impl Fn(&Freed) + Sync),
    ) -> Result<(), StoreError> {
        let mut after: Option<Digest> = None;
        while pass.freed.layers.bytes < wanted {
            let (facts, from) = (self.store.facts().clone(), after.take());
            let looked =
                blocking("look for blobs that nothing reaches", move || needed::lost(&facts.read()?, from.as_ref()));
            let Lost { blobs, until } = looked.await?;
            for (digest, size) in blobs {
                if pass.freed.layers.bytes >= wanted {
                    return Ok(());
                }
                if !pass.dry_run {
                    self.store.blobs().remove(&digest).await?;
                }
                pass.freed.layers.add(size);
                pass.gone.blob(&digest);
            }
            told(&pass.freed);
            self.struck_off(pass).await?;
            after = until;
            if after.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets go of images with `wanted` bytes of metadata, but not of those used since `spare_since`.
    async fn metadata(
        &self,
        wanted: u64,
        spare_since: UnixTime,
        pass: &mut Pass<impl FnMut(Left)>,
        told: &(impl Fn(&Freed) + Sync),
    ) -> Result<(), StoreError> {
        let mut after = None;
        while pass.freed.metadata.bytes < wanted {
            let page = self.store.facts().read()?.least_recently_used(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            for image in &page {
                // In the order of their use: all further ones were used later.
                if image.used_at >= spare_since || pass.freed.metadata.bytes >= wanted {
                    return Ok(());
                }
                let facts = self.store.facts().read()?;
                // It may have been served since this page was read: a client is about to ask for what it is made of.
                if self.was_used_since(&facts, image)? {
                    continue;
                }
                let leaving = forget::alone(&facts, image, &pass.gone)?;
                drop(facts);
                if let Some(leaving) = leaving {
                    self.let_go(leaving, Some(&image.digest), pass).await?;
                    told(&pass.freed);
                }
            }
            after = Some(last.clone());
            self.struck_off(pass).await?;
        }
        Ok(())
    }

    /// Whether an image was used after what is known of it was read, written down or not.
    fn was_used_since(&self, facts: &Snapshot, image: &Usage) -> Result<bool, StoreError> {
        let (repository, digest) = (&image.repository, &image.digest);
        let settled = facts.usage(repository, digest)?.map(|usage| usage.used_at);
        let unsettled = self.ledger.unsettled_use(repository, digest);
        Ok(settled.max(unsettled).is_some_and(|at| at > image.used_at))
    }

    /// What has left is struck off before the next page, and need not be remembered besides: the store may hold a million blobs. A dry
    /// run, in which nothing changes, has to remember all of it.
    async fn struck_off<F>(&self, pass: &mut Pass<F>) -> Result<(), StoreError> {
        if pass.dry_run || pass.gone.is_empty() {
            return Ok(());
        }
        self.settle().await?;
        pass.gone = Gone::default();
        Ok(())
    }

    /// Lets go of images, pinned or not, with all that nobody else needs, in one step. What a repository does not have is passed over.
    pub async fn remove(
        &self,
        images: &[(Repository, Digest)],
        dry_run: bool,
        left: impl FnMut(Left),
    ) -> Result<Freed, StoreError> {
        self.settle().await?;
        let leaving = {
            let snapshot = self.store.facts().read()?;
            let usages = images.iter().map(|(repository, digest)| snapshot.usage(repository, digest));
            let known = usages.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
            forget::whole(&snapshot, &known, &Gone::default())?
        };
        let mut pass = Pass::new(dry_run, left);
        self.let_go(leaving, None, &mut pass).await?;
        if !dry_run {
            self.settle().await?;
        }
        Ok(pass.freed)
    }

    /// Facts first, in one commit: a file without facts is found later, and facts without a file would be a miss for no reason. All of
    /// it stays where this image was pinned since.
    async fn let_go(
        &self,
        leaving: Leaving,
        unless_pinned: Option<&Digest>,
        pass: &mut Pass<impl FnMut(Left)>,
    ) -> Result<(), StoreError> {
        if !pass.dry_run {
            let forgotten = leaving.manifests.iter().map(|(repository, digest)| Change::Forgotten {
                repository: repository.clone(),
                digest: digest.clone(),
                unless_pinned: unless_pinned.cloned(),
            });
            self.store.facts().apply(forgotten.collect()).await?;
            let facts = self.store.facts().read()?;
            for (repository, digest) in &leaving.manifests {
                if facts.usage(repository, digest)?.is_some() {
                    return Ok(());
                }
            }
        }
        pass.gone.all_of(&leaving);
        for (digest, (Content { class, size }, image)) in leaving.blobs {
            if !pass.dry_run {
                self.store.blobs().remove(&digest).await?;
            }
            match class {
                ContentClass::Layer => pass.layer(image, digest, size),
                ContentClass::Metadata => pass.freed.metadata.add(size),
            }
        }
        leaving.manifests.into_iter().for_each(|(repository, digest)| (pass.left)(Left::Image { repository, digest }));
        Ok(())
    }
}

/// What is needed of an image in the order of its use.
fn edges(
    snapshot: &Snapshot,
    repository: &Repository,
    parent: &Digest,
    mut each: impl FnMut(crate::Edge) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = snapshot.children(repository, parent, after.as_ref(), PAGE)?;
        after = page.found.last().cloned();
        page.found.into_iter().try_for_each(&mut each)?;
        if !page.more {
            return Ok(());
        }
    }
}

/// Whether an edge leads to bytes, and not to another manifest.
fn is_blob(kind: EdgeKind) -> bool {
    matches!(kind, EdgeKind::Config | EdgeKind::Layer | EdgeKind::EvidenceBlob | EdgeKind::Noted)
}

/// Whether `one` was used after `other`; of two used at the same time one comes first all the same.
fn is_fresher(one: &Usage, other: &Usage) -> bool {
    (one.used_at, &one.digest, &one.repository) > (other.used_at, &other.digest, &other.repository)
}
