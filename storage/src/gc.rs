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

use std::{collections::HashSet, sync::Arc};

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

use self::{
    forget::{Gone, Leaving},
    needed::Lost,
};

/// Facts read at a time.
const PAGE: usize = 64;
/// Blobs looked at in one page of a walk over all of them.
const WALK_PAGE: usize = 8 * 1024;

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

/// What a pass has come to.
struct Pass {
    dry_run: bool,
    freed: Freed,
    gone: Gone,
}

impl Keeper {
    /// Keeps `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let ledger = Arc::clone(store.ledger());
        Self { store, ledger }
    }

    /// Makes room whenever somebody calls for it, until dropped. `sweep` says how, each time; `told` hears what has left.
    pub async fn run(&self, sweep: impl Fn() -> Sweep, mut told: impl FnMut(Result<Freed, StoreError>)) {
        let keeping = self.ledger.keep();
        loop {
            self.ledger.called.notified().await;
            let calls = keeping.calls();
            told(self.sweep(sweep()).await);
            keeping.answered(calls);
        }
    }

    /// Writes down what has gathered in memory.
    pub async fn settle(&self) -> Result<(), StoreError> {
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

    /// Brings both classes under their low marks where they are above their high ones.
    pub async fn sweep(&self, sweep: Sweep) -> Result<Freed, StoreError> {
        self.sweep_telling(sweep, |_, _| {}).await
    }

    /// The same; `told` hears again and again how many bytes have left, of how many.
    pub async fn sweep_telling(
        &self,
        sweep: Sweep,
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
        let mut pass = Pass { dry_run: sweep.dry_run, freed: Freed::default(), gone: Gone::default() };
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
    async fn layers(&self, wanted: u64, pass: &mut Pass, told: &(impl Fn(&Freed) + Sync)) -> Result<(), StoreError> {
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
                    pass.freed.layer(image.clone(), digest.clone(), size);
                    pass.gone.blob(digest);
                }
                told(&pass.freed);
            }
            after = Some(last.clone());
        }
        Ok(())
    }

    /// Lets go of what was lost with earlier facts: nobody has asked for it since, or it would be reached.
    async fn lost(&self, wanted: u64, pass: &mut Pass, told: &(impl Fn(&Freed) + Sync)) -> Result<(), StoreError> {
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
                pass.gone.blob(digest);
            }
            told(&pass.freed);
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
        pass: &mut Pass,
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
                let leaving = forget::alone(&self.store.facts().read()?, image, &pass.gone)?;
                if let Some(leaving) = leaving {
                    pass.gone.all_of(&leaving);
                    self.let_go(leaving, pass.dry_run, &mut pass.freed).await?;
                    told(&pass.freed);
                }
            }
            after = Some(last.clone());
        }
        Ok(())
    }

    /// Lets go of images, pinned or not, with all that nobody else needs, in one step. What a repository does not have is passed over.
    pub async fn remove(&self, images: &[(Repository, Digest)], dry_run: bool) -> Result<Freed, StoreError> {
        self.settle().await?;
        let leaving = {
            let snapshot = self.store.facts().read()?;
            let usages = images.iter().map(|(repository, digest)| snapshot.usage(repository, digest));
            let known = usages.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
            forget::whole(&snapshot, &known, &Gone::default())?
        };
        let mut freed = Freed::default();
        self.let_go(leaving, dry_run, &mut freed).await?;
        if !dry_run {
            self.settle().await?;
        }
        Ok(freed)
    }

    /// Facts first, in one commit: a file without facts is found later, and facts without a file would be a miss for no reason.
    async fn let_go(&self, leaving: Leaving, dry_run: bool, freed: &mut Freed) -> Result<(), StoreError> {
        if !dry_run {
            let forgotten = leaving.manifests.iter().map(|(repository, digest)| Change::Forgotten {
                repository: repository.clone(),
                digest: digest.clone(),
            });
            self.store.facts().apply(forgotten.collect()).await?;
        }
        for (digest, (Content { class, size }, image)) in leaving.blobs {
            if !dry_run {
                self.store.blobs().remove(&digest).await?;
            }
            match class {
                ContentClass::Layer => freed.layer(image, digest, size),
                ContentClass::Metadata => freed.metadata.add(size),
            }
        }
        freed.what.extend(leaving.manifests.into_iter().map(|(repository, digest)| Left::Image { repository, digest }));
        Ok(())
    }

    /// Compares what is written down with what is there, both ways. Looks at names and sizes, not at bytes. What is there and reached
    /// by nothing is told by name: it may be on its way in, so whoever asks twice and gets it twice may remove it.
    pub async fn reconcile(&self) -> Result<Account, StoreError> {
        let mut account = Account::default();
        let mut after: Option<Digest> = None;
        loop {
            let names = self.store.blobs().list_page(after.as_ref(), WALK_PAGE).await?;
            let ended = names.len() < WALK_PAGE;
            self.struck_off(after.as_ref(), &names, ended, &mut account).await?;
            for digest in &names {
                self.written_down(digest, &mut account).await?;
            }
            after = names.into_iter().next_back();
            if ended {
                self.settle().await?;
                return Ok(account);
            }
        }
    }

    /// Those of these blobs that still no manifest reaches.
    pub fn unreached(&self, blobs: &HashSet<Digest>) -> Result<Vec<Digest>, StoreError> {
        let mut still = Vec::new();
        for page in blobs.iter().collect::<Vec<_>>().chunks(PAGE) {
            let snapshot = self.store.facts().read()?;
            for digest in page {
                if needed::is_unreached(&snapshot, digest)? {
                    still.push((*digest).clone());
                }
            }
        }
        Ok(still)
    }

    async fn written_down(&self, digest: &Digest, account: &mut Account) -> Result<(), StoreError> {
        account.blobs += 1;
        let known = {
            let snapshot = self.store.facts().read()?;
            if needed::is_unreached(&snapshot, digest)? {
                account.unreached.insert(digest.clone());
            }
            snapshot.content(digest)?
        };
        if known.is_none()
            && let Some(blob) = self.store.blobs().open(digest).await?
        {
            account.added += 1;
            let known_as = self.store.facts().read()?.usages(digest, 1)?;
            let class = if known_as.is_empty() { None } else { Some(ContentClass::Metadata) };
            self.ledger.stored(digest, blob.size(), class);
        }
        Ok(())
    }

    /// Strikes off what is written down between `after` and the last of `names` and is not there.
    async fn struck_off(
        &self,
        after: Option<&Digest>,
        names: &[Digest],
        ended: bool,
        account: &mut Account,
    ) -> Result<(), StoreError> {
        let there: HashSet<&Digest> = names.iter().collect();
        let last = names.last().filter(|_| !ended);
        let mut after = after.cloned();
        loop {
            let page = self.store.facts().read()?.contents(after.as_ref(), PAGE)?;
            let more = page.len() == PAGE;
            after = page.last().map(|(digest, _)| digest.clone());
            for (digest, _) in page {
                if last.is_some_and(|last| digest > *last) {
                    return Ok(());
                }
                // It may have come since the names were read.
                if !there.contains(&digest) && self.store.blobs().open(&digest).await?.is_none() {
                    account.struck_off += 1;
                    self.ledger.removed(&digest);
                }
            }
            if !more {
                return Ok(());
            }
        }
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
