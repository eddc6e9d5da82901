//! What single pieces are worth, where there are too many to judge all of them together.

use super::{Case, Piece, undecidable};
use crate::{
    authority::{Authority, AuthorityKind},
    evidence::UntrustedPiece,
    policy_set::Policy,
    refusal::Reason,
    verifier::Examined,
};

/// What a piece of evidence is worth to the policies that govern an image.
///
/// A verdict is the same without the pieces that are [`Worth::Nothing`]: no authority is satisfied by one, and a policy's rule is
/// shown none. Only what a refusal tells comes from them, and that from those with the latest [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// No authority takes it. Of all reasons the one that tells most.
    Nothing(Reason),
    /// Some authority takes it, or nobody can say.
    Something,
}

impl<'a> Case<'a> {
    /// What each piece is worth to these policies.
    pub(in super::super) fn worths(&self, policies: &[&'a Policy]) -> Vec<(&'a UntrustedPiece, Worth)> {
        self.pieces.iter().map(|piece| (piece.untrusted, self.worth(piece, policies))).collect()
    }

    fn worth(&self, piece: &Piece<'a>, policies: &[&'a Policy]) -> Worth {
        let mut closest = Reason::NotASignature;
        for policy in policies {
            for authority in policy.authorities().iter().filter(|authority| looks_at(authority, piece.untrusted)) {
                let attestations = authority.attestations.iter().map(Some);
                let signature = authority.attestations.is_empty().then_some(None);
                for question in attestations.chain(signature) {
                    match self.answers(piece, authority, question, policy.conditions()) {
                        Examined::Flawed(flaw) if undecidable(&flaw).is_none() => closest = closest.max(flaw.reason),
                        Examined::Good(()) | Examined::Flawed(_) | Examined::Panicked => return Worth::Something,
                    }
                }
            }
        }
        Worth::Nothing(closest)
    }
}

fn looks_at(authority: &Authority, piece: &UntrustedPiece) -> bool {
    let asks = !matches!(authority.kind, AuthorityKind::Static(_));
    asks && authority.origins().any(|origin| origin == piece.origin)
}
