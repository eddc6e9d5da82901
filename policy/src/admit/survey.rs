//! What commands ask that tell a person, or another program, what there is. Nothing here admits.

use oci::{Digest, Repository, UnixTime};

use super::{Assessment, Judge, JudgeError, VerdictLifetimes};
use crate::{
    authority::Trust,
    evidence::{UntrustedEvidence, UntrustedPiece},
    policy_set::PolicySet,
    trust_root::TrustRoot,
    verifier::{Examined, Flaw, examine},
};

impl Judge {
    /// A judge by other policies, and by another trust root where one is given; by this one's bounds and lifetimes. A root that is
    /// given has no age: it is the caller's to know.
    ///
    /// # Errors
    /// As [`Judge::new`].
    pub fn by(&self, policies: PolicySet, trust_root: Option<&TrustRoot>) -> Result<Self, JudgeError> {
        let lifetimes = match trust_root {
            Some(_) => VerdictLifetimes { trust_root_ends: None, ..self.lifetimes },
            None => self.lifetimes,
        };
        Self::new(policies, trust_root.unwrap_or(&self.configured), lifetimes, self.bounds)
    }

    /// Judges as [`Judge::assess`] does and comes to the same verdict, but tells every good piece of evidence, and not only the first
    /// that suffices. For showing, never for storing.
    #[must_use]
    pub fn survey(
        &self,
        repository: &Repository,
        digest: &Digest,
        evidence: &UntrustedEvidence,
        now: UnixTime,
    ) -> Assessment {
        self.assess_case(repository, &self.case(digest, evidence, now).telling_all())
    }

    /// Of which type the statement in a piece calls itself, where it speaks about `subject`. Nobody has verified it.
    #[must_use]
    pub fn untrusted_predicate_type(&self, piece: &UntrustedPiece, subject: &Digest) -> Option<String> {
        let verifier = self.verifiers.get(&Trust::default())?;
        match examine(|| verifier.read(piece, subject)) {
            Examined::Good(claim) => claim.predicate_type().map(str::to_owned),
            Examined::Flawed(_) | Examined::Panicked => None,
        }
    }

    /// The statement within a piece: the bytes that are signed. Whether the signature is good is for [`Judge::survey`] to say.
    ///
    /// # Errors
    /// Why there is none: one clause.
    pub fn statement(&self, piece: &UntrustedPiece) -> Result<Vec<u8>, String> {
        let verifier = self.verifiers.get(&Trust::default()).ok_or("the trust root is not there")?;
        match examine(|| verifier.statement(piece)) {
            Examined::Good(statement) => Ok(statement),
            Examined::Flawed(Flaw { detail, .. }) => Err(detail),
            Examined::Panicked => Err("it cannot be read".to_owned()),
        }
    }
}
