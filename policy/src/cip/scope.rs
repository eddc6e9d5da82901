//! What the meaning of a document depends on besides its own text.

use super::roots::Roots;
use crate::policy_set::LoadContext;

/// What is known while a document is read.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) context: &'a LoadContext<'a>,
    /// The `TrustRoot` documents of all files.
    pub(super) roots: &'a Roots,
    /// The file's lines: for the places of flaws within a text.
    pub(super) lines: &'a [&'a str],
    /// The document is `v1beta1`, from which the controller's conversion loses some fields.
    pub(super) beta: bool,
}
