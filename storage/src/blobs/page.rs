//! A listing of a million names, in order, without holding a million names.

use std::{collections::BinaryHeap, ops::ControlFlow};

use oci::{Algorithm, Digest};

use super::BlobStore;
use crate::StoreError;

/// The smallest `limit` digests after `after`.
pub(crate) struct Page {
    after: Option<Place>,
    limit: usize,
}

/// Where a blob stands in the order: by algorithm, then by hex.
type Place = (u8, String);

impl Page {
    pub(crate) fn new(after: Option<&Digest>, limit: usize) -> Self {
        Self { after: after.map(place), limit }
    }

    pub(crate) fn fill(&self, store: &dyn BlobStore) -> Result<Vec<Digest>, StoreError> {
        let mut smallest = BinaryHeap::new();
        for algorithm in Algorithm::ALL {
            store.each(algorithm, &mut |digest| {
                self.add(&mut smallest, &digest);
                ControlFlow::Continue(())
            })?;
        }
        Ok(smallest.into_sorted_vec().into_iter().filter_map(|(rank, hex)| digest(rank, &hex)).collect())
    }

    fn add(&self, smallest: &mut BinaryHeap<Place>, digest: &Digest) {
        let place = place(digest);
        if self.after.as_ref().is_none_or(|after| place > *after) {
            smallest.push(place);
            if smallest.len() > self.limit {
                smallest.pop();
            }
        }
    }
}

fn place(digest: &Digest) -> Place {
    (rank(digest.algorithm()), digest.hex().to_owned())
}

fn rank(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 0,
        Algorithm::Sha512 => 1,
    }
}

fn digest(rank: u8, hex: &str) -> Option<Digest> {
    let algorithm = if rank == 0 { Algorithm::Sha256 } else { Algorithm::Sha512 };
    format!("{algorithm}:{hex}").parse().ok()
}
