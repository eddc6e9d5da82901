//! Why an image is not served, in one line that a stranger can act on.

use std::fmt;

use oci::{Digest, Repository};
use serde::{Deserialize, Serialize};

/// Longest piece of foreign text in a message, in characters.
const TOLD_CHARS_MAX: usize = 200;
/// Longest message, in bytes: it travels in headers and in every client's terminal.
const MESSAGE_BYTES_MAX: usize = 2000;

/// A decision not to serve. The response, the log and `explain` tell it from this one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Of what was asked for.
    pub repository: Repository,
    /// Of what was asked for.
    pub digest: Digest,
    /// The first policy that refused; none where no policy matches.
    pub policy: Option<String>,
    /// The authority that came closest; none where none was asked.
    pub authority: Option<String>,
    /// The kind of reason.
    pub reason: Reason,
    /// One complete line: policy, authority, what was wanted, what was seen. Foreign text in it is escaped and bounded.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The kinds of reason, from "nothing there" to "all good but for the signer".
///
/// The order is that of progress: of several failures the last in this order tells most about what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// No policy governs the image, and `no_match` is `deny`.
    NoMatchingPolicy,
    /// Signatures name SHA-256 digests; this digest is not one.
    Sha512Unsupported,
    /// Nothing that could be a signature was found.
    SignatureMissing,
    /// No attestation of a type that is asked for was found.
    AttestationMissing,
    /// A piece of evidence that is an attestation, or something else that says nothing as a signature.
    NotASignature,
    /// A piece of evidence that is not what it claims to be.
    EvidenceUnreadable,
    /// A signature over something else.
    DigestMismatch,
    /// Signed by a key where a certificate is asked for, or the reverse.
    SignerUnsuitable,
    /// The signature is not good.
    SignatureInvalid,
    /// The certificate does not lead to the trust root, was not valid when signing, or was not published.
    CertificateUntrusted,
    /// No transparency log entry.
    LogMissing,
    /// A transparency log entry that is not good, or about something else.
    LogInvalid,
    /// No trusted signing time.
    TimeMissing,
    /// The trust root is older than the operator allows.
    TrustRootExpired,
    /// All is good, but the signer is another.
    IdentityMismatch,
    /// All is good, but the workflow or the annotations that the policy asks for are others.
    ConditionUnmet,
    /// A rule of the policy could not be evaluated: neither yes nor no, and never the reason of a refusal.
    RuleUndecided,
    /// All is good, but a rule of the policy says no to what is attested, or to what was found.
    RuleUnmet,
    /// The policy says no without looking.
    StaticFail,
}

impl Reason {
    /// As in responses, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoMatchingPolicy => "no-matching-policy",
            Self::Sha512Unsupported => "sha512-unsupported",
            Self::SignatureMissing => "signature-missing",
            Self::AttestationMissing => "attestation-missing",
            Self::NotASignature => "not-a-signature",
            Self::EvidenceUnreadable => "evidence-unreadable",
            Self::DigestMismatch => "digest-mismatch",
            Self::SignerUnsuitable => "signer-unsuitable",
            Self::SignatureInvalid => "signature-invalid",
            Self::CertificateUntrusted => "certificate-untrusted",
            Self::LogMissing => "log-missing",
            Self::LogInvalid => "log-invalid",
            Self::TimeMissing => "time-missing",
            Self::TrustRootExpired => "trust-root-expired",
            Self::IdentityMismatch => "identity-mismatch",
            Self::ConditionUnmet => "condition-unmet",
            Self::RuleUndecided => "rule-undecided",
            Self::RuleUnmet => "rule-unmet",
            Self::StaticFail => "static-fail",
        }
    }

    /// What somebody who meets this may do. Advice is kept apart from the message.
    pub(crate) fn hint(self) -> Option<&'static str> {
        match self {
            Self::NoMatchingPolicy => Some("write a policy whose images match this repository, or see no_match"),
            Self::SignatureMissing | Self::NotASignature => {
                Some("sign the image in this repository, or pull again in a moment if it was just pushed")
            }
            Self::AttestationMissing => {
                Some("attest the image in this repository, or pull again in a moment if it was just pushed")
            }
            Self::LogMissing => Some(
                "sign with the transparency log enabled; signatures are verified offline from what the registry holds",
            ),
            Self::TrustRootExpired => Some("refresh the trust root"),
            Self::Sha512Unsupported => Some("ask for the image by its sha256 digest"),
            Self::EvidenceUnreadable
            | Self::DigestMismatch
            | Self::SignerUnsuitable
            | Self::SignatureInvalid
            | Self::CertificateUntrusted
            | Self::LogInvalid
            | Self::TimeMissing
            | Self::IdentityMismatch
            | Self::ConditionUnmet
            | Self::RuleUndecided
            | Self::RuleUnmet
            | Self::StaticFail => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Foreign text as it may appear in a message: quotes, backslashes and everything outside printable ASCII escaped, cut where it
/// grows long. The caller puts it in quotes.
pub(crate) fn told(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == TOLD_CHARS_MAX {
            out.push('…');
            break;
        }
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            other => out.extend(other.escape_unicode()),
        }
    }
    out
}

/// A whole message, cut where it grows long.
pub(crate) fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(cut.unwrap_or(0));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_break_out_of_its_quotes_or_its_line() {
        assert_eq!(told("a\"b\\c\r\nd\u{1b}[31m"), "a\\\"b\\\\c\\u{d}\\u{a}d\\u{1b}[31m");
        assert_eq!(told("x\u{202e}y"), "x\\u{202e}y");
    }

    #[test]
    fn foreign_text_is_cut() {
        let long = told(&"a".repeat(100_000));
        assert_eq!(long.chars().count(), TOLD_CHARS_MAX + 1);
        assert!(bounded("ä".repeat(5000)).len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn a_reason_reads_the_same_in_records_and_in_responses() {
        for reason in [Reason::NoMatchingPolicy, Reason::Sha512Unsupported, Reason::NotASignature, Reason::StaticFail] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
