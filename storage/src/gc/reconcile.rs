//! Comparing what is written down with what is there.
//!
//! ```text
//! contents, page by page ──> not there? ──> struck off          both at a bounded rate, off the threads that serve,
//! names, group by group ──> not known? ──> written down         and each name looked at once
//!                       └─> reached by nothing? ──> told
//! ```

use std::time::Duration;

use oci::Digest;
use tokio::time::sleep;

use super::{Account, Keeper, needed};
use crate::{ContentClass, Facts, StoreError, blobs::blocking};

/// Entries of the facts compared at a time.
const GROUP: usize = 256;
/// Blobs that are told to be reached by nothing; the next comparison tells of the others.
const UNREACHED_MAX: usize = 64 * 1024;
/// Corrections that gather before they are written down: the ledger holds a bounded number.
const GATHERED_MAX: u64 = 8 * 1024;

/// What the facts say about a blob that is there.
struct Known {
    digest: Digest,
    is_unreached: bool,
    is_written_down: bool,
    /// A repository has it as a manifest.
    is_manifest: bool,
}

impl Keeper {
    /// Compares what is written down with what is there, both ways. Looks at names and sizes, not at bytes, and rests for `rest` after
    /// every 256 of them: a start has better things to do. What is there and reached by nothing is told by name: it may be on its way in,
    /// so whoever asks twice and gets it twice may remove it.
    pub async fn reconcile(&self, rest: Duration) -> Result<Account, StoreError> {
        let mut account = Account::default();
        self.strike_off(rest, &mut account).await?;
        self.write_down(rest, &mut account).await?;
        self.settle().await?;
        Ok(account)
    }

    /// Those of these blobs that still no manifest reaches, all looked at in one moment: to be asked of few at a time.
    pub async fn unreached(&self, blobs: Vec<Digest>) -> Result<Vec<Digest>, StoreError> {
        let facts = self.store.facts().clone();
        blocking("look for blobs that nothing reaches", move || {
            let (snapshot, mut still) = (facts.read()?, Vec::new());
            for digest in blobs {
                if needed::is_unreached(&snapshot, &digest)? {
                    still.push(digest);
                }
            }
            Ok(still)
        })
        .await
    }

    /// What is written down and is not there.
    async fn strike_off(&self, rest: Duration, account: &mut Account) -> Result<(), StoreError> {
        let mut after: Option<Digest> = None;
        loop {
            let facts = self.store.facts().clone();
            let from = after.take();
            let page = blocking("compare facts", move || facts.read()?.contents(from.as_ref(), GROUP)).await?;
            let is_last = page.len() < GROUP;
            after = page.last().map(|(digest, _)| digest.clone());
            let digests = page.into_iter().map(|(digest, _)| digest).collect();
            for (digest, size) in self.store.blobs().sizes(digests).await? {
                if size.is_none() {
                    account.struck_off += 1;
                    self.ledger.removed(&digest);
                    self.gathered(account).await?;
                }
            }
            if is_last {
                return Ok(());
            }
            sleep(rest).await;
        }
    }

    /// What is there and not written down.
    async fn write_down(&self, rest: Duration, account: &mut Account) -> Result<(), StoreError> {
        let mut names = self.store.blobs().walk();
        while let Some(group) = names.next().await? {
            account.blobs += group.len() as u64;
            let facts = self.store.facts().clone();
            let known = blocking("compare facts", move || known(&facts, group)).await?;
            let mut new = Vec::new();
            for Known { digest, is_unreached, is_written_down, is_manifest } in known {
                if is_unreached {
                    account.has_more |= account.unreached.len() >= UNREACHED_MAX;
                    if !account.has_more {
                        account.unreached.insert(digest.clone());
                    }
                }
                if !is_written_down {
                    new.push((digest, is_manifest.then_some(ContentClass::Metadata)));
                }
            }
            let sizes = self.store.blobs().sizes(new.iter().map(|(digest, _)| digest.clone()).collect()).await?;
            for ((digest, size), (_, class)) in sizes.into_iter().zip(new) {
                if let Some(size) = size {
                    account.added += 1;
                    self.ledger.stored(&digest, size, class);
                    self.gathered(account).await?;
                }
            }
            sleep(rest).await;
        }
        Ok(())
    }

    async fn gathered(&self, account: &Account) -> Result<(), StoreError> {
        if (account.added + account.struck_off).is_multiple_of(GATHERED_MAX) {
            self.settle().await?;
        }
        Ok(())
    }
}

fn known(facts: &Facts, digests: Vec<Digest>) -> Result<Vec<Known>, StoreError> {
    let snapshot = facts.read()?;
    let look = |digest: Digest| {
        let is_manifest = !snapshot.usages(&digest, 1)?.is_empty();
        let is_unreached = !is_manifest && snapshot.reached_by(&digest, None, 1)?.is_empty();
        let is_written_down = snapshot.content(&digest)?.is_some();
        Ok(Known { digest, is_unreached, is_written_down, is_manifest })
    };
    digests.into_iter().map(look).collect()
}
