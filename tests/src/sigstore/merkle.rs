//! Trees of RFC 6962, section 2.1: hashes of a list, and the proof that an entry is in it.

use sha2::{Digest as _, Sha256};

pub(super) type Hash = [u8; 32];

/// A tree that grows. Every complete subtree's hash is kept, so that roots and paths cost no more than the tree is high.
#[derive(Default)]
pub(super) struct Tree {
    /// At place `k`: the hashes of all complete subtrees of 2^k entries, from the left.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// How many entries there are.
    pub(super) fn size(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, entry: &[u8]) {
        let mut hash: Hash = Sha256::new().chain_update([0]).chain_update(entry).finalize().into();
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(hash);
            let [.., left, right] = row.as_slice() else { return };
            if !row.len().is_multiple_of(2) {
                return;
            }
            hash = node(*left, *right);
        }
    }

    /// The hash of the tree as it was with `size` entries.
    pub(super) fn root(&self, size: usize) -> Hash {
        if size == 0 { Sha256::digest([]).into() } else { self.hash(0, size) }
    }

    /// The siblings on the way from the entry at `index` to the root of the tree with `size` entries, lowest first.
    pub(super) fn path(&self, index: usize, size: usize) -> Vec<Hash> {
        let (mut start, mut length, mut path) = (0, size, Vec::new());
        while length > 1 {
            let left = length.next_power_of_two() / 2;
            if index < start + left {
                path.push(self.hash(start + left, length - left));
                length = left;
            } else {
                path.push(self.hash(start, left));
                (start, length) = (start + left, length - left);
            }
        }
        path.reverse();
        path
    }

    /// The hash over `length` entries, at least one, from `start` on. The left part is always complete, and kept.
    fn hash(&self, start: usize, length: usize) -> Hash {
        if length.is_power_of_two() {
            return self.levels[length.trailing_zeros() as usize][start / length];
        }
        let left = length.next_power_of_two() / 2;
        node(self.hash(start, left), self.hash(start + left, length - left))
    }
}

fn node(left: Hash, right: Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}
