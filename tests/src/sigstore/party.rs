//! Whoever signs, and what is shown for it.

use super::{
    ca::Leaf,
    key::{Key, pem},
};

pub(super) struct Party<'a> {
    pub(super) key: &'a Key,
    /// What the log is told to verify with.
    pub(super) verifier: Verifier,
    pub(super) shown: Shown<'a>,
}

/// A certificate or public key, in DER.
pub(super) enum Verifier {
    Certificate(Vec<u8>),
    Key(Vec<u8>),
}

/// By what the signature is to be verified.
pub(super) enum Shown<'a> {
    Certificate {
        leaf: &'a Leaf,
        /// Whether cosign's chain annotation is written.
        chain: bool,
    },
    Key {
        /// SHA-256 of the key.
        hint: [u8; 32],
    },
}

impl<'a> Party<'a> {
    /// The holder of `leaf`'s key, who shows the certificate of `shown`.
    pub(super) fn certified(leaf: &'a Leaf, shown: &'a Leaf, chain: bool) -> Self {
        let verifier = Verifier::Certificate(leaf.der.clone());
        Self { key: &leaf.key, verifier, shown: Shown::Certificate { leaf: shown, chain } }
    }

    /// The holder of a key, who names it by `hint`.
    pub(super) fn keyed(key: &'a Key, hint: [u8; 32]) -> Self {
        Self { key, verifier: Verifier::Key(key.public_der()), shown: Shown::Key { hint } }
    }
}

impl Verifier {
    pub(super) fn pem(&self) -> String {
        match self {
            Self::Certificate(der) => pem("CERTIFICATE", der),
            Self::Key(der) => pem("PUBLIC KEY", der),
        }
    }
}

/// Somebody else, who signs by the same means.
pub(super) enum Stranger {
    Certified(Box<Leaf>),
    Keyed(Box<Key>),
}

impl Stranger {
    pub(super) fn party(&self) -> Party<'_> {
        match self {
            Self::Certified(leaf) => Party::certified(leaf, leaf, false),
            Self::Keyed(key) => Party::keyed(key, key.id()),
        }
    }
}
