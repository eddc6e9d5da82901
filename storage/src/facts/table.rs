//! The tables, and the check that every value carries.
//!
//! The key-value store looks at its own checksums only while it repairs; a flipped bit in a verdict must be an error at once, and
//! never another verdict. The check covers table and key too: a value in another's place is as wrong.

use sha2::{Digest as _, Sha256};

use crate::StoreError;

/// Against rot, not against people: whoever can write into the store could compute it.
const CHECK_BYTES: usize = 8;

/// The tables. Keys and values are bytes; `codec` gives them meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Meta,
    Tags,
    TagHistory,
    TagServed,
    Manifests,
    Verdicts,
    Evidence,
    Children,
    Parents,
    Contents,
    Uses,
    Oldest,
}

impl Table {
    pub(super) const ALL: [Self; 12] = [
        Self::Meta,
        Self::Tags,
        Self::TagHistory,
        Self::TagServed,
        Self::Manifests,
        Self::Verdicts,
        Self::Evidence,
        Self::Children,
        Self::Parents,
        Self::Contents,
        Self::Uses,
        Self::Oldest,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Tags => "tags",
            Self::TagHistory => "tag-history",
            Self::TagServed => "tag-served",
            Self::Manifests => "manifests",
            Self::Verdicts => "verdicts",
            Self::Evidence => "evidence",
            Self::Children => "children",
            // "parents" was in format 1, with the repository first.
            Self::Parents => "reached-by",
            Self::Contents => "contents",
            Self::Uses => "uses",
            Self::Oldest => "oldest",
        }
    }
}

/// The value as it is stored under `key`.
pub(super) fn seal(table: Table, key: &[u8], value: &[u8]) -> Vec<u8> {
    [check(table, key, value).as_slice(), value].concat()
}

/// The value that was stored under `key`, if it is still that.
pub(super) fn unseal(table: Table, key: &[u8], mut sealed: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let unreadable = |why| StoreError::FactUnreadable { table: table.name(), why };
    let (stored, value) = sealed.split_first_chunk::<CHECK_BYTES>().ok_or_else(|| unreadable("it is cut short"))?;
    if *stored != check(table, key, value) {
        return Err(unreadable("its check does not match"));
    }
    sealed.drain(..CHECK_BYTES);
    Ok(sealed)
}

fn check(table: Table, key: &[u8], value: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(table.name());
    hasher.update((key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let digest: [u8; 32] = hasher.finalize().into();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(digest.split_at(CHECK_BYTES).0);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_changed_moved_or_cut_is_unreadable() {
        let sealed = seal(Table::Tags, b"key", b"value");
        assert_eq!(unseal(Table::Tags, b"key", sealed.clone()).unwrap(), b"value");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(unseal(Table::Tags, b"key", changed).is_err());
            assert!(unseal(Table::Tags, b"key", sealed[..position].to_vec()).is_err());
        }
        assert!(unseal(Table::Tags, b"kez", sealed.clone()).is_err());
        assert!(unseal(Table::Tags, b"keyv", sealed.clone()).is_err());
        assert!(unseal(Table::Verdicts, b"key", sealed).is_err());
    }
}
