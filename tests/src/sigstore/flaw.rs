//! Everything that can be wrong with a signature, one at a time.

/// How a signature is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Cosign's legacy layout: simple signing, the rest in annotations.
    Legacy,
    /// A Sigstore bundle of version 0.3 that holds a statement in a DSSE envelope.
    Bundle,
}

/// What the signature is verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Means {
    /// A short-lived certificate.
    Certificate,
    /// A key that the verifier knows.
    Key,
}

/// Who has to notice a flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Catch {
    /// Cryptography: signature, certificate and logs do not hold together, whatever was signed by whoever.
    Proof,
    /// The reader of the signed document: the proof is good, but for something else than this image.
    Claim,
    /// The reader of the certificate: the proof is good, but the signer is not the one who is wanted.
    Identity,
}

/// One thing that is wrong with a signature that is otherwise good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// The log was never told: no bundle annotation, no log entry.
    NotLogged,
    /// One bit of the SET is flipped.
    SetFlipped,
    /// The SET is a good one, of another entry of the same log.
    SetOfAnotherEntry,
    /// The log entry is a good one, of another image signed with the same key and certificate (CVE-2022-23649).
    EntryOfAnotherImage,
    /// The integrated time was changed after the log signed it.
    TimeChanged,
    /// A log that is not in the trust root vouches for the entry, under its own name.
    UnknownLog,
    /// A log that is not in the trust root signed the SET under the name of the one that is.
    SetForged,
    /// There is a proof of inclusion but no SET, so that nobody vouches for a time.
    NoSignedTime,
    /// There is a SET but no proof of inclusion.
    ProofMissing,
    /// One hash on the way to the root is another.
    ProofBroken,
    /// The checkpoint is signed by another key under the log's name.
    CheckpointForged,
    /// The certificate has no SCT.
    SctMissing,
    /// The SCT is by a CT log that is not in the trust root.
    SctByUnknownLog,
    /// The SCT names the CT log in the trust root, but another key signed it.
    SctForged,
    /// The certificate is by a CA that bears the names of the one in the trust root, and has other keys.
    ForeignCa,
    /// The log took the signature in after the certificate had ended.
    OutsideValidity,
    /// The certificate is for TLS servers.
    WrongKeyUsage,
    /// A stranger signed and logged that; the certificate shown is a good one of the wanted signer.
    CertificateSwapped,
    /// The signature is not over this document; the log entry is for that very signature.
    SignatureWrong,
    /// The payload calls itself something else than a signature: `critical.type`, or the envelope's `payloadType`.
    PayloadTypeWrong,
    /// The signed document names another image.
    OtherDigest,
    /// The signed document names the image, another one, and the image again, all under one key.
    DuplicatedDigest,
    /// The statement is an attestation about the image (SLSA provenance), not a signature of it.
    OtherPredicate,
    /// The certificate is of somebody else, vouched for by the same issuer.
    OtherSubject,
    /// The certificate is of the same subject, vouched for by another issuer.
    OtherIssuer,
    /// The certificate names the wanted subject, and then another.
    TwoSubjects,
    /// The certificate names the wanted issuer in the current extension, and another in the deprecated one.
    IssuersDisagree,
}

/// All flaws that a signature in this layout by these means can have. For keys, they make a difference where the log is asked for.
pub fn flaws(layout: Layout, means: Means) -> impl Iterator<Item = Flaw> {
    Flaw::ALL.into_iter().filter(move |flaw| flaw.applies_to(layout, means))
}

impl Flaw {
    /// Every flaw there is.
    pub const ALL: [Self; 27] = [
        Self::NotLogged,
        Self::SetFlipped,
        Self::SetOfAnotherEntry,
        Self::EntryOfAnotherImage,
        Self::TimeChanged,
        Self::UnknownLog,
        Self::SetForged,
        Self::NoSignedTime,
        Self::ProofMissing,
        Self::ProofBroken,
        Self::CheckpointForged,
        Self::SctMissing,
        Self::SctByUnknownLog,
        Self::SctForged,
        Self::ForeignCa,
        Self::OutsideValidity,
        Self::WrongKeyUsage,
        Self::CertificateSwapped,
        Self::SignatureWrong,
        Self::PayloadTypeWrong,
        Self::OtherDigest,
        Self::DuplicatedDigest,
        Self::OtherPredicate,
        Self::OtherSubject,
        Self::OtherIssuer,
        Self::TwoSubjects,
        Self::IssuersDisagree,
    ];

    /// Whether a signature in this layout by these means can have this flaw.
    #[must_use]
    pub fn applies_to(self, layout: Layout, means: Means) -> bool {
        let bundle = layout == Layout::Bundle;
        let certificate = means == Means::Certificate;
        match self {
            Self::ProofMissing | Self::ProofBroken | Self::CheckpointForged | Self::OtherPredicate => bundle,
            Self::NoSignedTime => bundle && certificate,
            Self::SctMissing
            | Self::SctByUnknownLog
            | Self::SctForged
            | Self::ForeignCa
            | Self::OutsideValidity
            | Self::WrongKeyUsage
            | Self::CertificateSwapped
            | Self::OtherSubject
            | Self::OtherIssuer
            | Self::TwoSubjects
            | Self::IssuersDisagree => certificate,
            Self::NotLogged
            | Self::SetFlipped
            | Self::SetOfAnotherEntry
            | Self::EntryOfAnotherImage
            | Self::TimeChanged
            | Self::UnknownLog
            | Self::SetForged
            | Self::SignatureWrong
            | Self::PayloadTypeWrong
            | Self::OtherDigest
            | Self::DuplicatedDigest => true,
        }
    }

    /// Whether only the log's word is wrong: a key whose holder is trusted without the log is none the worse for it.
    #[must_use]
    pub fn is_about_the_log(self) -> bool {
        matches!(
            self,
            Self::NotLogged
                | Self::SetFlipped
                | Self::SetOfAnotherEntry
                | Self::EntryOfAnotherImage
                | Self::TimeChanged
                | Self::UnknownLog
                | Self::SetForged
                | Self::NoSignedTime
                | Self::ProofMissing
                | Self::ProofBroken
                | Self::CheckpointForged
        )
    }

    /// Who has to notice it.
    #[must_use]
    pub fn caught_by(self) -> Catch {
        match self {
            Self::PayloadTypeWrong | Self::OtherDigest | Self::DuplicatedDigest | Self::OtherPredicate => Catch::Claim,
            Self::OtherSubject | Self::OtherIssuer | Self::TwoSubjects | Self::IssuersDisagree => Catch::Identity,
            Self::NotLogged
            | Self::SetFlipped
            | Self::SetOfAnotherEntry
            | Self::EntryOfAnotherImage
            | Self::TimeChanged
            | Self::UnknownLog
            | Self::SetForged
            | Self::NoSignedTime
            | Self::ProofMissing
            | Self::ProofBroken
            | Self::CheckpointForged
            | Self::SctMissing
            | Self::SctByUnknownLog
            | Self::SctForged
            | Self::ForeignCa
            | Self::OutsideValidity
            | Self::WrongKeyUsage
            | Self::CertificateSwapped
            | Self::SignatureWrong => Catch::Proof,
        }
    }
}
