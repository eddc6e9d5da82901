//! One image before the authorities: each piece of evidence examined at most once per question.

use std::cell::OnceCell;

use oci::{Algorithm, Digest, UnixTime};

use crate::{
    authority::{Authority, AuthorityKind, Keyless, StaticAction},
    evidence::{UntrustedEvidence, UntrustedPiece},
    identity::Identity,
    policy_set::Policy,
    record::Finding,
    refusal::{Reason, told},
    verifier::{Demand, Examined, Flaw, Signed, Signer, Verifier, examine},
};

/// Most sources or flaws told in one message.
const TOLD_MAX: usize = 4;

/// The subject and its evidence, with what has been found out about it so far.
pub(super) struct Case<'a> {
    verifier: &'a dyn Verifier,
    subject: &'a Digest,
    evidence: &'a UntrustedEvidence,
    root_usable: bool,
    pieces: Vec<Piece<'a>>,
}

struct Piece<'a> {
    untrusted: &'a UntrustedPiece,
    /// By certificate, with and without the certificate log: the same question for every keyless authority.
    with_sct: OnceCell<Examined>,
    without_sct: OnceCell<Examined>,
}

/// What became of one policy, before it is said what that leads to.
pub(super) enum PolicyOutcome {
    Passed(Finding),
    Failed(Failure),
    Undecided(String),
}

/// Why no authority of a policy was satisfied.
pub(super) struct Failure {
    pub authority: Option<String>,
    pub reason: Reason,
    /// One line, without the policy's name.
    pub message: String,
    /// Nothing that could be a signature was there.
    pub absent: bool,
}

enum AuthorityOutcome {
    Passed(Finding),
    Failed(Failure),
    Undecided(String),
}

impl<'a> Case<'a> {
    pub(super) fn new(
        verifier: &'a dyn Verifier,
        subject: &'a Digest,
        evidence: &'a UntrustedEvidence,
        root_usable: bool,
    ) -> Self {
        let mut pieces: Vec<_> = evidence.pieces.iter().collect();
        // Whatever order upstream told them in, the same verdict and the same words come out.
        pieces.sort_by_cached_key(|piece| sort_key(piece));
        let pieces = pieces
            .into_iter()
            .map(|untrusted| Piece { untrusted, with_sct: OnceCell::new(), without_sct: OnceCell::new() })
            .collect();
        Self { verifier, subject, evidence, root_usable, pieces }
    }

    /// Judges one policy: any authority suffices. Undecided only where none is satisfied and one of them could still be.
    pub(super) fn policy(&self, policy: &Policy) -> PolicyOutcome {
        let mut failures = Vec::new();
        let mut undecided = None;
        for authority in policy.authorities() {
            match self.authority(authority) {
                AuthorityOutcome::Passed(finding) => return PolicyOutcome::Passed(finding),
                AuthorityOutcome::Failed(failure) => failures.push(failure),
                AuthorityOutcome::Undecided(why) => undecided = undecided.or(Some(why)),
            }
        }
        match undecided {
            Some(why) => PolicyOutcome::Undecided(why),
            None => PolicyOutcome::Failed(together(failures)),
        }
    }

    fn authority(&self, authority: &Authority) -> AuthorityOutcome {
        let name = &authority.name;
        match &authority.kind {
            AuthorityKind::Static(StaticAction::Pass) => {
                AuthorityOutcome::Passed(Finding::Unverified { by: format!("static authority \"{}\"", told(name)) })
            }
            AuthorityKind::Static(StaticAction::Fail { message }) => {
                let message = message.as_deref().map_or_else(String::new, |message| format!(": {}", told(message)));
                let message = format!("disallowed by static authority \"{}\"{message}", told(name));
                AuthorityOutcome::Failed(Failure {
                    authority: Some(name.clone()),
                    reason: Reason::StaticFail,
                    message,
                    absent: false,
                })
            }
            AuthorityKind::Keyless(keyless) => self.by_evidence(name, |piece| self.keyless(piece, keyless)),
            AuthorityKind::Key(key) => {
                self.by_evidence(name, |piece| examine(self.verifier, piece.untrusted, self.subject, Demand::Key(key)))
            }
        }
    }

    /// Asks every piece until one satisfies. A piece that is no good spoils nothing; a place that did not answer, or a piece on
    /// which the verifier failed, leaves the authority undecided where the others do not satisfy it.
    fn by_evidence(&self, authority: &str, ask: impl Fn(&Piece<'a>) -> Examined) -> AuthorityOutcome {
        let fail = |reason, detail: &str| AuthorityOutcome::Failed(failure(authority, reason, detail));
        if self.subject.algorithm() != Algorithm::Sha256 {
            return fail(
                Reason::Sha512Unsupported,
                "signatures name sha256 digests, and this image is asked for by another",
            );
        }
        if !self.root_usable {
            return fail(Reason::TrustRootExpired, "the trust root is older than policy.trust_root_max_age");
        }
        let mut flaws = Vec::new();
        let mut panicked = 0_usize;
        for piece in &self.pieces {
            match ask(piece) {
                Examined::Signed(signed) => {
                    return AuthorityOutcome::Passed(verified(authority, piece.untrusted, signed));
                }
                Examined::Flawed(flaw) => flaws.push(flaw),
                Examined::Panicked => panicked += 1,
            }
        }
        if panicked > 0 {
            return AuthorityOutcome::Undecided(format!("the verifier failed on {panicked} of the pieces of evidence"));
        }
        if !self.evidence.unasked.is_empty() {
            return AuthorityOutcome::Undecided(self.unasked());
        }
        let unread = self.evidence.flawed.iter().map(|what| Flaw::new(Reason::EvidenceUnreadable, told(what)));
        flaws.extend(unread);
        AuthorityOutcome::Failed(self.failure_of(authority, flaws))
    }

    fn keyless(&self, piece: &Piece<'a>, keyless: &Keyless) -> Examined {
        let sct = !keyless.ignore_sct;
        let cell = if sct { &piece.with_sct } else { &piece.without_sct };
        let examined =
            cell.get_or_init(|| examine(self.verifier, piece.untrusted, self.subject, Demand::Certificate { sct }));
        let Examined::Signed(signed) = examined else {
            return examined.clone();
        };
        match accept(&keyless.identities, &signed.signer) {
            Ok(()) => Examined::Signed(signed.clone()),
            Err(flaw) => Examined::Flawed(flaw),
        }
    }

    fn failure_of(&self, authority: &str, flaws: Vec<Flaw>) -> Failure {
        let count = flaws.len();
        let closest = flaws.into_iter().max_by(|a, b| (a.reason, &a.detail).cmp(&(b.reason, &b.detail)));
        match closest {
            None => Failure { absent: true, ..missing(authority, &self.looked_at()) },
            Some(Flaw { reason: Reason::NotASignature, detail }) => Failure {
                absent: true,
                ..missing(authority, &format!("{}; found {count} that {detail}", self.looked_at()))
            },
            Some(Flaw { reason, detail }) if count > 1 => {
                failure(authority, reason, &format!("{detail} (the closest of {count} pieces of evidence)"))
            }
            Some(Flaw { reason, detail }) => failure(authority, reason, &detail),
        }
    }

    fn looked_at(&self) -> String {
        let mut asked: Vec<_> = self.evidence.asked.clone();
        asked.sort_unstable();
        asked.dedup();
        let asked: Vec<_> = asked.iter().map(ToString::to_string).collect();
        if asked.is_empty() { "nothing was asked".to_owned() } else { format!("looked at: {}", asked.join(", ")) }
    }

    fn unasked(&self) -> String {
        let mut unasked: Vec<_> =
            self.evidence.unasked.iter().map(|unasked| format!("{}: {}", unasked.source, told(&unasked.why))).collect();
        unasked.sort_unstable();
        unasked.truncate(TOLD_MAX);
        format!("could not ask {}", unasked.join("; "))
    }
}

/// Whether one of the identities is the signer's: issuer and subject in one and the same entry.
fn accept(identities: &[Identity], signer: &Signer) -> Result<(), Flaw> {
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
    let told_half = |noun: &str, pattern: &crate::identity::Pattern, seen: &str| {
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

fn verified(authority: &str, piece: &UntrustedPiece, Signed { signer, at }: Signed) -> Finding {
    Finding::Verified {
        authority: authority.to_owned(),
        signer,
        signed_at: at,
        evidence: addressed(piece).clone(),
        source: piece.source(),
    }
}

fn failure(authority: &str, reason: Reason, detail: &str) -> Failure {
    Failure {
        authority: Some(authority.to_owned()),
        reason,
        message: format!("authority \"{}\": {detail}", told(authority)),
        absent: false,
    }
}

fn missing(authority: &str, detail: &str) -> Failure {
    Failure {
        message: format!("no signature by authority \"{}\" ({detail})", told(authority)),
        ..failure(authority, Reason::SignatureMissing, detail)
    }
}

/// One failure for the policy: reason and authority of the one that came closest, the words of all. Absent only where all are.
fn together(failures: Vec<Failure>) -> Failure {
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

fn addressed(piece: &UntrustedPiece) -> &Digest {
    match piece {
        UntrustedPiece::CosignSignature { payload, .. } => payload.digest(),
        UntrustedPiece::Bundle { bytes, .. } => bytes.digest(),
    }
}

fn sort_key(piece: &UntrustedPiece) -> impl Ord {
    let annotations = match piece {
        UntrustedPiece::CosignSignature { annotations, .. } => Some(annotations.clone()),
        UntrustedPiece::Bundle { .. } => None,
    };
    (addressed(piece).clone(), annotations, piece.source())
}

/// The instant at which a failure is to be looked at again.
pub(super) fn failure_ends(absent: bool, lifetimes: &super::VerdictLifetimes, now: UnixTime) -> UnixTime {
    now.plus(if absent { lifetimes.absent_ttl } else { lifetimes.refused_ttl })
}
