//! Whoever signs, and what is shown for it.

use super::{Options, ca::Leaf, flaw::Flaw, key::Key};

pub(super) struct Party<'a> {
    pub(super) key: &'a Key,
    /// Certificate or public key as PEM: what the log is told.
    pub(super) logged_pem: String,
    pub(super) shown: Shown<'a>,
}

/// By what the signature is to be verified.
pub(super) enum Shown<'a> {
    Certificate { leaf: &'a Leaf, chain: bool },
    Key,
}

impl<'a> Party<'a> {
    /// The holder of `leaf`'s key, who shows the certificate of `shown`.
    pub(super) fn certified(leaf: &'a Leaf, shown: &'a Leaf, chain: bool) -> Self {
        Self { key: &leaf.key, logged_pem: leaf.pem(), shown: Shown::Certificate { leaf: shown, chain } }
    }

    pub(super) fn keyed(key: &'a Key) -> Self {
        Self { key, logged_pem: key.public_pem(), shown: Shown::Key }
    }

    /// Signs `message`, or something else.
    pub(super) fn sign(&self, message: &[u8], options: &Options) -> Vec<u8> {
        if options.has(Flaw::SignatureWrong) { self.key.sign(b"something else") } else { self.key.sign(message) }
    }
}
