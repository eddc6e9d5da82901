//! The flaws: of each, what is wrong, with which part, who has to notice it, which shapes can have it, and where it is known from.
//!
//! The numbers are those of the list of faults: advisories of other software 1–26, scenarios 27–47.

use super::{
    super::shape::{EntryKind, Shape, Version},
    Catch, Part,
};

/// What is known of one flaw.
struct Facts {
    part: Part,
    catch: Catch,
    known_from: &'static [u8],
    told: &'static str,
    applies: fn(Shape) -> bool,
}

macro_rules! flaws {
    ($($(#[doc = $doc:literal])+ $name:ident: $part:ident, $catch:ident, [$($number:literal),*], $applies:expr;)+) => {
        /// One thing that is wrong with evidence that is otherwise good.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Flaw {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Flaw {
            /// Every flaw there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// In the order of the variants.
            const FACTS: &'static [Facts] = &[$(Facts {
                part: Part::$part,
                catch: Catch::$catch,
                known_from: &[$($number),*],
                told: concat!($($doc),+).trim_ascii(),
                applies: $applies,
            }),+];
        }
    };
}

impl Flaw {
    fn facts(self) -> &'static Facts {
        &Self::FACTS[self as usize]
    }

    /// Which part is wrong.
    #[must_use]
    pub fn part(self) -> Part {
        self.facts().part
    }

    /// Who has to notice it.
    #[must_use]
    pub fn caught_by(self) -> Catch {
        self.facts().catch
    }

    /// The advisories (1–26) and scenarios (27–47) that it is a case of; none where nobody is known to have fallen for it.
    #[must_use]
    pub fn known_from(self) -> &'static [u8] {
        self.facts().known_from
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn told(self) -> &'static str {
        self.facts().told
    }

    /// Whether evidence of this shape can have this flaw.
    #[must_use]
    pub fn applies_to(self, shape: Shape) -> bool {
        (self.facts().applies)(shape)
    }
}

const ANY: fn(Shape) -> bool = |_| true;

flaws! {
    // -- the log's entry

    /// The log was never told: no bundle annotation, no log entry.
    NotLogged: Log, Proof, [2], ANY;
    /// The log entry is a good one, of another image signed with the same key and certificate.
    EntryOfAnotherImage: Log, Proof, [1, 3, 38], ANY;
    /// The log entry is a good one, of the same document signed by somebody else.
    EntryOfAnotherSigner: Log, Proof, [1, 3, 38], ANY;
    /// The log entry is of the same document, signed again by the same signer: another signature.
    EntryOfAnotherSignature: Log, Proof, [2, 3], ANY;
    /// The entry holds this signature and certificate, and the hash of another document.
    EntryHashDiffers: Log, Proof, [2, 3], ANY;
    /// The entry holds this signature and this hash, and another certificate or key.
    EntryVerifierDiffers: Log, Proof, [3], ANY;
    /// The entry is of a kind that nobody knows.
    EntryOfUnknownKind: Log, Form, [2, 17], ANY;
    /// The bundle says that the entry is of another kind than it is.
    EntryKindDiffers: Log, Proof, [2], |shape| shape.is_bundle() && shape.is_promised();
    /// The entry is no JSON.
    EntryUnreadable: Log, Form, [2, 17], ANY;
    /// The entry names its kind's content twice under one key: that of another document, and that of this one.
    EntryBodyTwofold: Log, Form, [3], ANY;
    /// A second entry of the same log is there, of another image.
    SecondEntryUnrelated: Log, Proof, [8, 11], |shape| shape.is_bundle();

    // -- the log's promise

    /// One bit of the SET is flipped.
    SetFlipped: Log, Proof, [2], |shape| shape.is_promised();
    /// The SET is a good one, of another entry of the same log.
    SetOfAnotherEntry: Log, Proof, [1], |shape| shape.is_promised();
    /// The integrated time was changed after the log signed it.
    TimeChanged: Log, Proof, [13], |shape| shape.is_promised();
    /// A log that is not in the trust root vouches for the entry, under its own name.
    UnknownLog: Log, Proof, [39], ANY;
    /// A log that is not in the trust root signed the SET under the name of the one that is.
    SetForged: Log, Proof, [39], |shape| shape.is_promised();
    /// The log in the trust root signed the SET; the entry says that another log did.
    LogIdDiffers: Log, Proof, [39], |shape| shape.is_promised();
    /// The SET is empty.
    SetEmpty: Log, Proof, [2], |shape| shape.is_promised();
    /// The log says that it took the signature in in the year 2039, when the certificate was valid.
    LoggedInTheFuture: Log, Proof, [37], |shape| shape.is_promised() && shape.by_certificate();
    /// There is a proof of inclusion but no SET, so that nobody vouches for a time.
    NoSignedTime: Log, Proof, [13, 36], |shape| {
        shape.is_bundle() && shape.by_certificate() && shape.is_promised() && !shape.timestamp
    };
    /// The trust root says that the log's key had ended a day before.
    LogEnded: Log, Proof, [9, 39], |shape| shape.is_dated();
    /// The trust root says that the log's key began a day later.
    LogNotBegun: Log, Proof, [9, 39], |shape| shape.is_dated();

    // -- the log's proof

    /// There is no proof of inclusion.
    ProofMissing: Log, Proof, [12], |shape| shape.is_bundle();
    /// One hash on the way to the root is another.
    ProofBroken: Log, Proof, [2], |shape| shape.is_bundle();
    /// The last hash on the way to the root is left out.
    ProofShortened: Log, Proof, [2], |shape| shape.is_bundle();
    /// One hash too many leads to the root.
    ProofLengthened: Log, Proof, [2], |shape| shape.is_bundle();
    /// The proof is a good one, of another entry of the same tree.
    ProofOfAnotherEntry: Log, Proof, [1, 11], |shape| shape.is_bundle();
    /// The proof is said to be for another place in the tree.
    ProofIndexWrong: Log, Proof, [2], |shape| shape.is_bundle();
    /// The proof is said to be for a tree of another size.
    ProofSizeWrong: Log, Proof, [2], |shape| shape.is_bundle() && shape.is_promised();
    /// The proof has no checkpoint.
    CheckpointMissing: Log, Form, [12], |shape| shape.is_bundle();
    /// The checkpoint is not signed.
    CheckpointUnsigned: Log, Form, [12], |shape| shape.is_bundle();
    /// The checkpoint is signed by another key under the log's name.
    CheckpointForged: Log, Proof, [39], |shape| shape.is_bundle();
    /// The checkpoint is a good one, of the tree as it was before.
    CheckpointOlder: Log, Proof, [18], |shape| shape.is_bundle();

    // -- the timestamp

    /// The log gives no time, and no timestamp authority either.
    TimestampMissing: Time, Proof, [13, 36], |shape| shape.timestamp && !shape.is_promised();
    /// The timestamp is a good one, of another signature.
    TimestampOfAnotherSignature: Time, Proof, [10], |shape| shape.timestamp;
    /// The timestamp is by an authority that is not in the trust root.
    TimestampByStranger: Time, Proof, [10], |shape| shape.timestamp;
    /// A stranger signed the timestamp under the name and serial number of the authority in the trust root.
    TimestampForged: Time, Proof, [10], |shape| shape.timestamp;
    /// A stranger signed the timestamp under its own name, and embeds the certificate of the authority in the trust root.
    TimestampEmbedsAnother: Time, Proof, [10], |shape| shape.timestamp;
    /// One bit of the timestamp's signature is flipped.
    TimestampFlipped: Time, Proof, [10], |shape| shape.timestamp;
    /// The timestamp's time was changed after the authority signed it.
    TimestampTimeChanged: Time, Proof, [10], |shape| shape.timestamp;
    /// The authority's certificate is for signing code, not for timestamps.
    TimestampForOtherUse: Time, Proof, [10], |shape| shape.timestamp;
    /// The timestamp is over a hash that nobody uses any more (SHA-1).
    TimestampHashWeak: Time, Proof, [10], |shape| shape.timestamp;
    /// The authority answers that it refuses to give a timestamp, and gives one.
    TimestampNotGranted: Time, Proof, [10], |shape| shape.timestamp;
    /// The timestamp breaks off half-way.
    TimestampTruncated: Time, Form, [10, 17], |shape| shape.timestamp;
    /// The trust root says that the timestamp authority had ended a day before.
    TimestampAuthorityEnded: Time, Proof, [9, 10], |shape| shape.timestamp;
    /// The timestamp was given after the certificate had ended.
    TimestampLate: Time, Proof, [37], |shape| shape.timestamp;
    /// The timestamp was given before the certificate began.
    TimestampEarly: Time, Proof, [37], |shape| shape.timestamp;

    // -- the certificate

    /// The certificate has no SCT.
    SctMissing: Signer, Proof, [], |shape| shape.by_certificate();
    /// The SCT is by a CT log that is not in the trust root.
    SctByUnknownLog: Signer, Proof, [], |shape| shape.by_certificate();
    /// The SCT names the CT log in the trust root, but another key signed it.
    SctForged: Signer, Proof, [], |shape| shape.by_certificate();
    /// The SCT is a good one, of another certificate.
    SctOfAnotherCertificate: Signer, Proof, [1], |shape| shape.by_certificate();
    /// The trust root says that the CT log's key had ended a day before.
    CtLogEnded: Signer, Proof, [9], |shape| shape.by_certificate();
    /// The certificate is by a CA that bears the names of the one in the trust root, and has other keys; the chain annotation shows it.
    ForeignCa: Signer, Proof, [10], |shape| shape.by_certificate();
    /// The trust root says that the CA had ended a day before.
    CaEnded: Signer, Proof, [9], |shape| shape.by_certificate();
    /// The certificate signed itself.
    SelfSigned: Signer, Proof, [], |shape| shape.by_certificate();
    /// The holder of a good certificate, which is none of a CA, issued the certificate with it.
    IssuedByLeaf: Signer, Proof, [], |shape| shape.by_certificate();
    /// The intermediate that issued the certificate had ended before, and the trust root still lists it.
    IntermediateExpired: Signer, Proof, [7], |shape| shape.by_certificate();
    /// The intermediate that issued the certificate is a good one by the same root, for timestamps.
    IntermediateForOtherUse: Signer, Proof, [10], |shape| shape.by_certificate();
    /// The log took the signature in after the certificate had ended, and the timestamp authority saw it no earlier.
    OutsideValidity: Signer, Proof, [36, 37], |shape| shape.by_certificate();
    /// The log took the signature in before the certificate began.
    LoggedEarly: Signer, Proof, [37], |shape| shape.by_certificate() && shape.is_promised();
    /// The certificate is for TLS servers.
    WrongKeyUsage: Signer, Proof, [10], |shape| shape.by_certificate();
    /// The certificate is one of a CA.
    LeafIsCa: Signer, Proof, [], |shape| shape.by_certificate();
    /// The certificate has an extension that nobody knows and everybody must heed.
    UnknownCriticalExtension: Signer, Proof, [], |shape| shape.by_certificate();
    /// A stranger signed and logged that; the certificate shown is a good one of the wanted signer.
    CertificateSwapped: Signer, Proof, [3], |shape| shape.by_certificate();
    /// There is no certificate.
    CertificateMissing: Signer, Form, [2], |shape| shape.by_certificate();
    /// What should be the certificate is none.
    CertificateUnreadable: Signer, Form, [17], |shape| shape.by_certificate();
    /// The certificate annotation holds two: the wanted signer's, and then the one that signed.
    TwoCertificates: Signer, Form, [10], |shape| shape.by_certificate() && shape.is_legacy();
    /// Signed and logged with a key, where a certificate is asked for.
    KeyInstead: Signer, Identity, [], |shape| shape.by_certificate() && !shape.timestamp;

    // -- the signer's identity

    /// The certificate is of somebody else, vouched for by the same issuer: the same workflow in a fork.
    OtherSubject: Signer, Identity, [2, 23, 24], |shape| shape.by_certificate();
    /// The certificate is of the same subject, vouched for by another issuer.
    OtherIssuer: Signer, Identity, [2, 23], |shape| shape.by_certificate();
    /// The certificate is of another workflow in the same repository.
    OtherWorkflow: Signer, Identity, [24], |shape| shape.by_certificate();
    /// The certificate is of the same workflow on another branch.
    OtherBranch: Signer, Identity, [24], |shape| shape.by_certificate();
    /// The subject is the wanted one with something before it.
    SubjectPrefixed: Signer, Identity, [25, 40], |shape| shape.by_certificate();
    /// The subject is the wanted one with something behind it.
    SubjectSuffixed: Signer, Identity, [25, 40], |shape| shape.by_certificate();
    /// The subject is the wanted one, a line break, and something else.
    SubjectOnTwoLines: Signer, Identity, [25], |shape| shape.by_certificate();
    /// The subject differs from the wanted one in the case of its letters.
    SubjectInOtherCase: Signer, Identity, [25], |shape| shape.by_certificate();
    /// The issuer is the wanted one with something behind it.
    IssuerSuffixed: Signer, Identity, [25, 40], |shape| shape.by_certificate();
    /// The issuer is the wanted one with a slash behind it.
    IssuerWithSlash: Signer, Identity, [25], |shape| shape.by_certificate();
    /// The certificate names the wanted subject, and then another.
    TwoSubjects: Signer, Identity, [25], |shape| shape.by_certificate();
    /// The certificate names nobody.
    NoSubject: Signer, Identity, [], |shape| shape.by_certificate();
    /// The certificate does not say who vouched for its subject.
    NoIssuer: Signer, Identity, [], |shape| shape.by_certificate();
    /// The certificate names the wanted issuer in the current extension, and another in the deprecated one.
    IssuersDisagree: Signer, Identity, [25], |shape| shape.by_certificate();

    // -- the signature, and keys

    /// The signature is not over this document; the log entry is for that very signature.
    SignatureWrong: Signer, Proof, [2], ANY;
    /// The signature is over the payload alone, not over its type and length with it.
    SignedWithoutType: Signer, Proof, [], |shape| shape.has_envelope();
    /// The document was exchanged after it had been signed and logged: it was about another image.
    PayloadSwapped: Signer, Proof, [2], ANY;
    /// Another key of the same kind signed and logged it, under the wanted key's hint.
    OtherKey: Signer, Proof, [], |shape| shape.by_key();
    /// A key over another curve signed and logged it.
    OtherCurve: Signer, Proof, [], |shape| shape.by_key() && shape.is_promised();
    /// A certificate's holder signed and logged it, where a key is asked for.
    CertificateInstead: Signer, Proof, [], |shape| shape.by_key();

    // -- what the signed document says

    /// The payload calls itself something else than a signature: `critical.type`, or the envelope's `payloadType`.
    PayloadTypeWrong: Document, Claim, [34, 43], ANY;
    /// The payload is signed as something else than a statement; the envelope calls it one.
    PayloadTypeRetold: Signer, Proof, [43], |shape| shape.has_envelope();
    /// The signed document is no JSON.
    PayloadNotJson: Document, Claim, [6], ANY;
    /// The signed document is an array, of one good document.
    PayloadInArray: Document, Claim, [6], ANY;
    /// The signed document is nested a thousand deep.
    PayloadDeep: Document, Claim, [17], ANY;
    /// The signed document names another image.
    OtherDigest: Document, Claim, [1, 33, 41], ANY;
    /// The signed document names the image, another one, and the image again, all under one key.
    DuplicatedDigest: Document, Claim, [34], ANY;
    /// The signed document says what it is about twice: another image, and this one.
    SubjectTwofold: Document, Claim, [34], ANY;
    /// The signed document does not say what it is about.
    SubjectMissing: Document, Claim, [6], ANY;
    /// The list of subjects is empty.
    SubjectsEmpty: Document, Claim, [6], |shape| shape.has_envelope();
    /// The subject is no list.
    SubjectNotListed: Document, Claim, [6], |shape| shape.has_envelope();
    /// The subject is named by another algorithm alone.
    SubjectByOtherAlgorithm: Document, Claim, [41], ANY;
    /// Ten thousand subjects, and the image is none of them.
    SubjectsMany: Document, Claim, [14, 41], |shape| shape.has_envelope();
    /// The subject has the image's digest for a name, and another digest.
    SubjectByNameAlone: Document, Claim, [41], |shape| shape.has_envelope();
    /// The digest is in capitals.
    DigestInCapitals: Document, Claim, [41], ANY;
    /// The digest is cut short.
    DigestShortened: Document, Claim, [41], ANY;
    /// A blank is before the digest.
    DigestPadded: Document, Claim, [41], ANY;
    /// The image is named in what the signer may add at will, and another one where it counts.
    DigestInOptional: Document, Claim, [33], |shape| shape.is_simple();
    /// Something that nobody knows stands among what is critical.
    CriticalExtra: Document, Claim, [34], |shape| shape.is_simple();
    /// Nothing is critical.
    CriticalMissing: Document, Claim, [6, 34], |shape| shape.is_simple();
    /// The statement is of a type that nobody knows.
    StatementTypeUnknown: Document, Claim, [6], |shape| shape.has_envelope();
    /// The statement does not say of what type it is.
    StatementTypeMissing: Document, Claim, [6], |shape| shape.has_envelope();
    /// The statement says something else than is wanted; of an attestation, the annotation says what is wanted.
    OtherPredicate: Document, Claim, [4, 42], |shape| shape.has_envelope();
    /// The statement does not say what kind of thing it says.
    PredicateTypeMissing: Document, Claim, [4, 6], |shape| shape.has_envelope();
    /// The statement says what kind of thing it says twice: something else, and what is wanted.
    PredicateTypeTwofold: Document, Claim, [4, 42], |shape| shape.has_envelope();
    /// A good signature, where an attestation is asked for.
    SignatureInstead: Document, Claim, [5], |shape| {
        shape.is_attestation() && matches!(shape.entry, EntryKind::Usual | EntryKind::RekorV2)
    };
    /// A good signature over bytes, without a statement about an image.
    NoStatement: Document, Claim, [5], |shape| shape.is_bundle() && shape.entry != EntryKind::IntotoV002;

    // -- how it is written down

    /// Behind the document stands another.
    TrailingBytes: Writing, Form, [20], ANY;
    /// A byte order mark stands before the document.
    ByteOrderMark: Writing, Form, [20], ANY;
    /// The document is in UTF-16.
    Utf16: Writing, Form, [20], ANY;
    /// The document is compressed.
    Compressed: Writing, Form, [16], ANY;
    /// The envelope has no signatures.
    NoSignatures: Writing, Form, [2, 44], |shape| shape.has_envelope();
    /// The envelope has a second signature, by a stranger.
    TwoSignatures: Writing, Form, [8, 44], |shape| shape.has_envelope();
    /// The envelope has two payloads under one key: about another image, and the one that was signed.
    PayloadTwofold: Writing, Form, [34], |shape| shape.has_envelope();
    /// The signature is left out.
    SignatureMissing: Writing, Form, [2], ANY;
    /// The signature is not in base64.
    SignatureUnreadable: Writing, Form, [17], ANY;
    /// What the log said is not JSON.
    LogAnswerUnreadable: Writing, Form, [2, 17], |shape| shape.is_legacy();
    /// What the log said is given twice under one key: of another entry, and of this one.
    LogAnswerTwofold: Writing, Form, [2], |shape| shape.is_legacy();
    /// The bundle is of version 0.1, with all that a later one has.
    OldVersion: Writing, Form, [12], |shape| shape.is_bundle() && shape.is_promised() && shape.version == Version::V03;
    /// The bundle is of version 0.1, which need not bring its proof, and does not.
    Downgraded: Writing, Form, [12], |shape| shape.is_bundle() && shape.is_promised() && shape.version == Version::V03;
    /// The bundle is of a version that nobody knows.
    VersionUnknown: Writing, Form, [12], |shape| shape.is_bundle();
    /// The bundle does not say of which version it is.
    VersionMissing: Writing, Form, [12], |shape| shape.is_bundle();
    /// The bundle is of version 0.3 and has a chain of certificates, which that version forbids.
    ChainInV03: Writing, Form, [12], |shape| {
        shape.is_bundle() && shape.by_certificate() && shape.version == Version::V03
    };
    /// The bundle brings a certificate and names a key.
    CertificateAndKey: Writing, Form, [10], |shape| shape.is_bundle() && shape.by_certificate();
    /// The bundle has two envelopes under one key: about another image, and about this one.
    EnvelopeTwofold: Writing, Form, [34], |shape| shape.is_bundle();
}
