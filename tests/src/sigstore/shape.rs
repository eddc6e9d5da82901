//! The shapes in which evidence comes: who says what, with what, and how it is written down.

/// How a signature is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Cosign's legacy layout: simple signing or an envelope, the rest in annotations.
    Legacy,
    /// A Sigstore bundle that holds a statement in a DSSE envelope.
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

/// What is said about the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Said {
    /// That it is signed, and no more.
    Signature,
    /// Something about it: SLSA provenance.
    Attestation,
}

/// A version of the bundle format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// 0.1: promise without proof, or with it; a chain of certificates.
    V01,
    /// 0.2: with proof; a chain of certificates.
    V02,
    /// 0.3: with proof; one certificate.
    #[default]
    V03,
}

impl Version {
    /// The media type by which a bundle tells its version.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::V01 => "application/vnd.dev.sigstore.bundle+json;version=0.1",
            Self::V02 => "application/vnd.dev.sigstore.bundle+json;version=0.2",
            Self::V03 => "application/vnd.dev.sigstore.bundle.v0.3+json",
        }
    }
}

/// What kind of entry the transparency log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EntryKind {
    /// Rekor v1: `hashedrekord` 0.0.1 for signatures over bytes, `dsse` 0.0.1 for envelopes.
    #[default]
    Usual,
    /// Rekor v1: `intoto` 0.0.1, by which Chainguard logged attestations until May 2025.
    IntotoV001,
    /// Rekor v1: `intoto` 0.0.2.
    IntotoV002,
    /// Rekor v2: `hashedrekord` 0.0.2, of the bytes or of the envelope's pre-authentication encoding.
    RekorV2,
}

/// One combination of all that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// How it is written down.
    pub layout: Layout,
    /// What it is verified with.
    pub means: Means,
    /// What is said.
    pub said: Said,
    /// The version, of a bundle.
    pub version: Version,
    /// How it is logged.
    pub entry: EntryKind,
    /// Whether a timestamp authority dates it.
    pub timestamp: bool,
}

const fn legacy(means: Means, said: Said) -> Shape {
    Shape { layout: Layout::Legacy, means, said, version: Version::V03, entry: EntryKind::Usual, timestamp: false }
}

const fn bundle(means: Means, said: Said) -> Shape {
    Shape { layout: Layout::Bundle, ..legacy(means, said) }
}

impl Shape {
    /// Every combination that a registry may hold: all layouts, means, things said and generations of the log.
    pub const ALL: [Self; 22] = {
        use {
            EntryKind::{IntotoV001, IntotoV002, RekorV2},
            Means::{Certificate, Key},
            Said::{Attestation, Signature},
        };
        [
            legacy(Certificate, Signature),
            legacy(Certificate, Attestation),
            legacy(Key, Signature),
            legacy(Key, Attestation),
            bundle(Certificate, Signature),
            bundle(Certificate, Attestation),
            bundle(Key, Signature),
            bundle(Key, Attestation),
            legacy(Certificate, Signature).stamped(),
            legacy(Certificate, Attestation).stamped(),
            legacy(Certificate, Attestation).logged(IntotoV001),
            legacy(Key, Attestation).logged(IntotoV001),
            legacy(Certificate, Attestation).logged(IntotoV002),
            bundle(Certificate, Attestation).logged(IntotoV002),
            bundle(Certificate, Signature).logged(RekorV2).stamped(),
            bundle(Certificate, Attestation).logged(RekorV2).stamped(),
            bundle(Key, Signature).logged(RekorV2),
            bundle(Key, Attestation).logged(RekorV2),
            bundle(Certificate, Signature).stamped(),
            bundle(Certificate, Attestation).stamped(),
            bundle(Certificate, Signature).versioned(Version::V02),
            bundle(Certificate, Attestation).versioned(Version::V02),
        ]
    };

    /// The usual shape of a signature: Rekor v1, no timestamp authority, bundles of version 0.3.
    #[must_use]
    pub const fn of(layout: Layout, means: Means, said: Said) -> Self {
        Self { layout, ..legacy(means, said) }
    }

    const fn stamped(self) -> Self {
        Self { timestamp: true, ..self }
    }

    const fn logged(self, entry: EntryKind) -> Self {
        Self { entry, ..self }
    }

    const fn versioned(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// `bundle-certificate-attestation-rekor2-tsa`: a name for files.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = format!("{:?}-{:?}-{:?}", self.layout, self.means, self.said).to_lowercase();
        if self.version != Version::default() {
            name.push_str(match self.version {
                Version::V01 => "-v01",
                Version::V02 | Version::V03 => "-v02",
            });
        }
        name.push_str(match self.entry {
            EntryKind::Usual => "",
            EntryKind::IntotoV001 => "-intoto001",
            EntryKind::IntotoV002 => "-intoto002",
            EntryKind::RekorV2 => "-rekor2",
        });
        if self.timestamp {
            name.push_str("-tsa");
        }
        name
    }

    /// Whether there is a DSSE envelope. All but legacy signatures have one.
    #[must_use]
    pub fn has_envelope(self) -> bool {
        self.is_bundle() || self.is_attestation()
    }

    // -- what flaws ask for

    pub(super) fn is_bundle(self) -> bool {
        self.layout == Layout::Bundle
    }

    pub(super) fn is_legacy(self) -> bool {
        self.layout == Layout::Legacy
    }

    pub(super) fn by_certificate(self) -> bool {
        self.means == Means::Certificate
    }

    pub(super) fn by_key(self) -> bool {
        self.means == Means::Key
    }

    pub(super) fn is_attestation(self) -> bool {
        self.said == Said::Attestation
    }

    /// Whether the document is a simple signing payload.
    pub(super) fn is_simple(self) -> bool {
        !self.has_envelope()
    }

    /// Whether the log is Rekor v1, which gives a promise with a time.
    pub(super) fn is_promised(self) -> bool {
        self.entry != EntryKind::RekorV2
    }

    /// Whether anything vouches for a time.
    pub(super) fn is_dated(self) -> bool {
        self.is_promised() || self.timestamp
    }
}
