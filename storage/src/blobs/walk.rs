//! All names, group by group, in one look at the directory.

use std::{mem, ops::ControlFlow, sync::Arc};

use oci::{Algorithm, Digest};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{BlobStore, blocking};
use crate::StoreError;

/// Names in a group.
const GROUP: usize = 256;

/// A walk over the names of all blobs, in whatever order they come. Whoever asks for the next group sets the pace; dropped, it ends.
pub(crate) struct Walk {
    groups: mpsc::Receiver<Vec<Digest>>,
    /// Taken once it was asked how it ended.
    looking: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Walk {
    pub(super) fn begin(store: Arc<dyn BlobStore>) -> Self {
        let (tell, groups) = mpsc::channel(1);
        let looking = tokio::spawn(blocking("list blobs", move || look(&*store, &tell)));
        Self { groups, looking: Some(looking) }
    }

    /// The next names; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Digest>>, StoreError> {
        if let Some(group) = self.groups.recv().await {
            return Ok(Some(group));
        }
        match self.looking.take() {
            Some(looking) => {
                looking.await.map_err(|_| StoreError::Stopped { operation: "list blobs" })??;
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

fn look(store: &dyn BlobStore, tell: &mpsc::Sender<Vec<Digest>>) -> Result<(), StoreError> {
    let mut group = Vec::with_capacity(GROUP);
    for algorithm in Algorithm::ALL {
        store.each(algorithm, &mut |digest| {
            group.push(digest);
            if group.len() < GROUP || tell.blocking_send(mem::take(&mut group)).is_ok() {
                return ControlFlow::Continue(());
            }
            ControlFlow::Break(())
        })?;
    }
    if !group.is_empty() {
        // Nobody asks any more: that is an end like any other.
        drop(tell.blocking_send(group));
    }
    Ok(())
}
