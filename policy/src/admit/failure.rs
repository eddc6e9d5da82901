//! Why no authority of a policy was satisfied, in words that name what was wanted and what was seen.

use oci::UnixTime;

use super::VerdictLifetimes;
use crate::{
    authority::Attestation,
    identity::{Identity, Pattern},
    refusal::{Reason, told},
    verifier::{Flaw, Signer},
};

/// Most types of attestation told in one message.
const TYPES_TOLD_MAX: usize = 4;

/// Why no authority of a policy was satisfied.
pub(super) struct Failure {
    pub authority: Option<String>,
    pub reason: Reason,
    /// One line, without the policy's name.
    pub message: String,
    /// Nothing that could have satisfied was there.
    pub absent: bool,
}

/// Which question found no answer.
pub(super) struct Missing<'a> {
    pub authority: &'a str,
    /// The attestation that was asked for; a signature where none.
    pub attested: Option<&'a Attestation>,
    pub looked_at: String,
}

/// A failure of one authority, by a piece of evidence or by none.
pub(super) fn of(authority: &str, reason: Reason, detail: &str) -> Failure {
    Failure {
        authority: Some(authority.to_owned()),
        reason,
        message: format!("authority \"{}\": {detail}", told(authority)),
        absent: false,
    }
}

/// `static: fail`, in the operator's own words.
pub(super) fn disallowed(authority: &str, message: Option<&str>) -> Failure {
    let message = message.map_or_else(String::new, |message| format!(": {}", told(message)));
    let message = format!("disallowed by static authority \"{}\"{message}", told(authority));
    Failure { message, ..of(authority, Reason::StaticFail, "") }
}

/// The failure of an authority by the piece that came closest; absent where none came near.
pub(super) fn closest(missing: &Missing<'_>, flaws: Vec<Flaw>) -> Failure {
    let (count, others) = (flaws.len(), other_kinds(&flaws));
    match flaws.into_iter().max_by(|a, b| (a.reason, &a.detail).cmp(&(b.reason, &b.detail))) {
        None | Some(Flaw { reason: Reason::NotASignature | Reason::AttestationMissing, .. }) => {
            missing.failure(&others)
        }
        Some(Flaw { reason, detail }) => {
            let about = missing
                .attested
                .map_or_else(String::new, |attested| format!("attestation \"{}\": ", told(&attested.name)));
            let among = if count > 1 { format!(" (the closest of {count} pieces of evidence)") } else { String::new() };
            of(missing.authority, reason, &format!("{about}{detail}{among}"))
        }
    }
}

/// What was there instead, counted.
fn other_kinds(flaws: &[Flaw]) -> String {
    let mut kinds: Vec<&str> = flaws
        .iter()
        .filter(|flaw| matches!(flaw.reason, Reason::NotASignature | Reason::AttestationMissing))
        .map(|flaw| flaw.detail.as_str())
        .collect();
    if kinds.is_empty() {
        return String::new();
    }
    let count = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    let more = kinds.len().saturating_sub(TYPES_TOLD_MAX);
    kinds.truncate(TYPES_TOLD_MAX);
    let more = if more > 0 { format!(", or one of {more} other types") } else { String::new() };
    let found =
        if count == 1 { "a piece of evidence that".to_owned() } else { format!("{count} pieces, each of which") };
    format!("; found {found} {}{more}", kinds.join(", or "))
}

impl Missing<'_> {
    fn failure(&self, others: &str) -> Failure {
        let (reason, what) = match self.attested {
            None => (Reason::SignatureMissing, "signature".to_owned()),
            Some(attested) => {
                let what = format!("attestation of type \"{}\"", told(attested.predicate_type.uri()));
                (Reason::AttestationMissing, what)
            }
        };
        let message = format!("no {what} by authority \"{}\" ({}{others})", told(self.authority), self.looked_at);
        Failure { authority: Some(self.authority.to_owned()), reason, message, absent: true }
    }
}

/// Whether one of the identities is the signer's: issuer and subject in one and the same entry.
pub(super) fn accept(identities: &[Identity], signer: &Signer) -> Result<(), Flaw> {
    let Signer::Certificate { issuer, subject } = signer else {
        return Err(Flaw::new(Reason::SignerUnsuitable, "signed by a key, and a certificate is asked for"));
    };
    if identities.iter().any(|identity| identity.matches(issuer, subject)) {
        return Ok(());
    }
    // The entry that came closest is told: one half matching beats none.
    let half = |identity: &&Identity| identity.issuer.matches(issuer) || identity.subject.matches(subject);
    let Some(wanted) = identities.iter().find(half).or_else(|| identities.first()) else {
        return Err(Flaw::new(Reason::IdentityMismatch, "the authority accepts no identity"));
    };
    let told_half = |noun: &str, pattern: &Pattern, seen: &str| {
        if pattern.matches(seen) {
            format!("{noun} matches")
        } else {
            format!("{noun} \"{}\" is not {pattern}", told(seen))
        }
    };
    let others = match identities.len() {
        0 | 1 => String::new(),
        n => format!(" (nor any of {} other identities)", n - 1),
    };
    let detail = format!(
        "identity does not match: {}, {}{others}",
        told_half("issuer", &wanted.issuer, issuer),
        told_half("subject", &wanted.subject, subject)
    );
    Err(Flaw::new(Reason::IdentityMismatch, detail))
}

/// One failure for the policy: reason and authority of the one that came closest, the words of all. Absent only where all are.
pub(super) fn together(failures: Vec<Failure>) -> Failure {
    let absent = failures.iter().all(|failure| failure.absent);
    let messages: Vec<_> = failures.iter().map(|failure| failure.message.clone()).collect();
    let closest = failures.into_iter().max_by_key(|failure| failure.reason);
    match closest {
        Some(closest) => Failure { message: messages.join("; "), absent, ..closest },
        None => Failure {
            authority: None,
            reason: Reason::SignatureMissing,
            message: "the policy has no authority".to_owned(),
            absent: false,
        },
    }
}

/// The instant at which a failure is to be looked at again.
pub(super) fn ends(absent: bool, lifetimes: &VerdictLifetimes, now: UnixTime) -> UnixTime {
    now.plus(if absent { lifetimes.absent_ttl } else { lifetimes.refused_ttl })
}
