//! What can be asked. Files are read by whoever asks: a server never opens a path that a request names.

use oci::{Digest, Repository};
use serde::{Deserialize, Serialize};

/// One command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Is this image signed as the rules want it? Upstream is asked afresh.
    Verify {
        /// As typed.
        image: String,
        /// By what is judged.
        rules: Rules,
    },
    /// What is attested about this image, by somebody whom the rules believe? Upstream is asked afresh.
    Attestation {
        /// As typed.
        image: String,
        /// `os/architecture[/variant]`; the index itself where none.
        platform: Option<String>,
        /// Of this type; every type that is found where none.
        predicate_type: Option<String>,
        /// By what is judged.
        rules: Rules,
    },
    /// What was decided about this image, and why? The store is asked and nobody else.
    Explain {
        /// As typed.
        image: String,
    },
    /// What would be decided about these images under other policies? Upstream is asked afresh.
    PolicyTest {
        /// The policies.
        policies: Vec<PolicyText>,
        /// As typed.
        images: Vec<String>,
    },
    /// Which kept images would be decided about otherwise under other policies? The store is asked and nobody else.
    PolicyDiff {
        /// The policies.
        policies: Vec<PolicyText>,
    },
    /// What is kept, and what shall be?
    Cache(CacheRequest),
}

/// What can be asked about what is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum CacheRequest {
    /// Which images are kept?
    Ls {
        /// Evidence too, which is kept for the image it speaks about.
        all: bool,
        /// Only what comes after this one: an answer has an end, and a store may have more.
        after: Option<(Repository, Digest)>,
    },
    /// What is kept of this image?
    Show {
        /// As typed.
        image: String,
    },
    /// Bring the store within its budgets now.
    Gc {
        /// Only tell what would leave.
        dry_run: bool,
    },
    /// This image stays whatever the budgets say, or no longer does.
    Pin {
        /// As typed.
        image: String,
        /// Whether it stays.
        pinned: bool,
    },
    /// How new the images were that this tag served does not count any more.
    ForgetNewest {
        /// As typed, with a tag.
        image: String,
    },
    /// Let go of these images, all or none.
    Rm {
        /// As typed.
        images: Vec<String>,
        /// Only tell what would leave.
        dry_run: bool,
    },
    /// Read everything again now, and fetch again what has rotted.
    Scrub {
        /// How fast.
        rate: ScrubRate,
    },
    /// How much is kept?
    Stats,
}

/// How fast a scrub reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScrubRate {
    /// At `storage.scrub_bytes_per_second` of whoever owns the store.
    #[default]
    Configured,
    /// At so many bytes a second, or at one where that is none.
    BytesPerSecond(u64),
    /// As the disk gives it.
    Unlimited,
}

/// A policy file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// As it shall appear in errors.
    pub name: String,
    /// The whole file.
    pub text: String,
}

/// By what `verify` and `attestation` judge.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// What cosign's options ask for; the policies in force where there are none.
    pub asked: Option<Asked>,
    /// A `trusted_root.json` in place of the one in force: its text.
    pub trusted_root: Option<String>,
    /// Largest piece of evidence in place of `limits.evidence_bytes_max`, bytes.
    pub attachment_bytes_max: Option<u64>,
}

/// What cosign's options ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// Who vouched for the signer.
    pub issuer: Option<Word>,
    /// Who signed.
    pub subject: Option<Word>,
    /// A public key, PEM: instead of issuer and subject.
    pub key: Option<String>,
    /// What the signature by the key is made over: `sha256`, `sha384`, `sha512`.
    pub hash_algorithm: Option<String>,
    /// No log entry is asked for.
    pub ignore_log: bool,
    /// The certificate need not have been published.
    pub ignore_sct: bool,
    /// What was signed says this.
    pub annotations: Vec<Annotation>,
    /// What the certificate says of the workflow, by cosign's names: `trigger`, `sha`, `name`, `repository`, `ref`.
    pub workflow: Vec<Annotation>,
    /// Cosign's tags are in this repository.
    pub repository: Option<String>,
    /// What stands before `sha256-<hex>` in them.
    pub tag_prefix: Option<String>,
    /// A Sigstore of one's own.
    pub sigstore: Sigstore,
}

/// Keys and certificates of a Sigstore of one's own, PEM: what cosign's variables name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sigstore {
    /// `SIGSTORE_ROOT_FILE`: certificates of the CA, the root last.
    pub ca: Option<String>,
    /// `SIGSTORE_REKOR_PUBLIC_KEY`.
    pub log: Option<String>,
    /// `SIGSTORE_CT_LOG_PUBLIC_KEY_FILE`.
    pub certificate_log: Option<String>,
    /// `SIGSTORE_TSA_CERTIFICATE_FILE`: certificates of the timestamp authority, the root last.
    pub timestamps: Option<String>,
}

/// One half of an identity, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Equal.
    Exact(String),
    /// Matched from first to last character.
    Pattern(String),
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotation {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}
