//! Everything that can be wrong with evidence, one at a time.

mod table;

use super::shape::{Layout, Means, Said, Shape};

pub use table::Flaw;

/// Who has to notice a flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Catch {
    /// Cryptography: signature, certificate, logs and timestamps do not hold together, whatever was signed by whoever.
    Proof,
    /// The reader of what was fetched: it is not written as such evidence is written, or in a version that is not taken from a registry.
    Form,
    /// The reader of the signed document: the proof is good, but for something else than what is wanted of this image.
    Claim,
    /// The reader of the certificate: the proof is good, but the signer is not the one who is wanted.
    Identity,
}

/// Which part of the evidence is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// What the transparency log says.
    Log,
    /// What the timestamp authority says.
    Time,
    /// The certificate or key, or the signature by it.
    Signer,
    /// The signed document.
    Document,
    /// How it all is written down.
    Writing,
}

/// All flaws that a signature of the usual shape can have under the trust root as it is. For keys, they make a difference where the log
/// is asked for.
pub fn flaws(layout: Layout, means: Means) -> impl Iterator<Item = Flaw> {
    let shape = Shape::of(layout, means, Said::Signature);
    Flaw::ALL.iter().copied().filter(move |flaw| {
        flaw.applies_to(shape) && !flaw.is_in_the_trust_root() && !flaw.is_in_the_bytes() && *flaw != Flaw::NoStatement
    })
}

impl Flaw {
    /// Whether only the log's word is wrong: a key whose holder is trusted without the log is none the worse for it.
    #[must_use]
    pub fn is_about_the_log(self) -> bool {
        self.part() == Part::Log
    }

    /// Whether it shows under [`VirtualSigstore::trusted_root_json_with`](super::VirtualSigstore::trusted_root_json_with) only.
    #[must_use]
    pub fn is_in_the_trust_root(self) -> bool {
        matches!(
            self,
            Self::LogEnded
                | Self::LogNotBegun
                | Self::CaEnded
                | Self::CtLogEnded
                | Self::IntermediateExpired
                | Self::TimestampAuthorityEnded
                | Self::TimestampForOtherUse
        )
    }

    /// Whether it changes what was fetched as a whole, so that it need not be text any more: of a bundle, only the corpus has it.
    pub(super) fn is_in_the_bytes(self) -> bool {
        matches!(self, Self::TrailingBytes | Self::ByteOrderMark | Self::Utf16 | Self::Compressed)
    }

    /// `set-flipped`: a name for files.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for character in format!("{self:?}").chars() {
            if character.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(character.to_ascii_lowercase());
        }
        name
    }
}
