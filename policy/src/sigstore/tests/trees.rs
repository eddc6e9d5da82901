//! Proofs of inclusion, in trees of every size up to some: the leaf's own place and path, and nothing else, leads to the root.

use sigstore_types::Sha256Hash;

use super::*;

fn leaf(n: u64) -> Vec<u8> {
    format!("leaf {n}").into_bytes()
}

/// The root over leaves `from..to`, by the definition (RFC 9162, 2.1.1).
fn tree(from: u64, to: u64) -> Sha256Hash {
    if to - from == 1 {
        return log::node(&[&[0], &leaf(from)]);
    }
    let middle = from + split(to - from);
    log::node(&[&[1], tree(from, middle).as_slice(), tree(middle, to).as_slice()])
}

/// The path of leaf `index` among leaves `from..to`, by the definition (RFC 9162, 2.1.3.1).
fn path(index: u64, from: u64, to: u64) -> Vec<Sha256Hash> {
    if to - from == 1 {
        return Vec::new();
    }
    let middle = from + split(to - from);
    let (mut path, sibling) = if index < middle {
        (path(index, from, middle), tree(middle, to))
    } else {
        (path(index, middle, to), tree(from, middle))
    };
    path.push(sibling);
    path
}

fn split(size: u64) -> u64 {
    let mut half = 1;
    while half * 2 < size {
        half *= 2;
    }
    half
}

#[test]
fn every_leaf_leads_to_the_root_by_its_own_path_alone() {
    for size in 1..=20 {
        let root = tree(0, size);
        for index in 0..size {
            let good = path(index, 0, size);
            assert_eq!(log::root(&leaf(index), index, size, &good), Some(root), "{index} of {size}");
            assert_ne!(log::root(&leaf(size), index, size, &good), Some(root));
            for other in (0..size + 3).filter(|other| *other != index) {
                assert_ne!(log::root(&leaf(index), other, size, &good), Some(root), "{index} as {other} of {size}");
            }
            let mut longer = good.clone();
            longer.push(root);
            assert_eq!(log::root(&leaf(index), index, size, &longer), None);
            if let Some((_, shorter)) = good.split_last() {
                assert_eq!(log::root(&leaf(index), index, size, shorter), None);
            }
            let mut swapped = good.clone();
            if let Some(first) = swapped.first_mut() {
                *first = root;
                assert_ne!(log::root(&leaf(index), index, size, &swapped), Some(root));
            }
        }
    }
    assert_eq!(log::root(b"", 0, 0, &[]), None);
    assert_eq!(log::root(b"", u64::MAX, u64::MAX, &[]), None);
}

#[test]
fn an_inner_node_is_not_taken_for_a_leaf() {
    let (left, right) = (tree(0, 1), tree(1, 2));
    let inner = [left.as_slice(), right.as_slice()].concat();
    assert_ne!(log::root(&inner, 0, 1, &[]), Some(tree(0, 2)));
}
