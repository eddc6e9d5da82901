//! From what became of each policy to one verdict on the image.

use oci::{Digest, Repository, UnixTime};

use super::{
    Assessment, Undecided, VerdictLifetimes,
    case::{Case, Outcome, PolicyOutcome},
    failure::{self, Failure},
};
use crate::{
    fingerprint::Fingerprint,
    policy_set::{Mode, NoMatch, Policy},
    record::{Effect, Finding, PolicyFinding, Record},
    refusal::{Reason, Refusal, bounded, told},
};

/// About which image, under which lifetimes, and when.
pub(super) struct Terms<'a> {
    pub repository: &'a Repository,
    pub digest: &'a Digest,
    pub lifetimes: &'a VerdictLifetimes,
    pub now: UnixTime,
}

/// One verdict: what was found, what it leads to, how long it lasts.
pub(super) struct Verdict {
    pub decision: Decision,
    pub findings: Vec<PolicyFinding>,
    pub ends: Option<UnixTime>,
    /// Every policy was decided. A verdict that is not complete is never stored.
    pub complete: bool,
}

pub(super) enum Decision {
    Effect(Effect),
    Undecided(Undecided),
}

/// Whether all of these would be found again, as far as the trust root's age goes.
///
/// The fingerprint does not cover that age: a reload may set another, and what was found before must follow.
pub(super) fn stands(findings: &[PolicyFinding], root_usable: bool) -> bool {
    findings.iter().all(|finding| match Rests::of(&finding.finding) {
        Rests::Nowhere => true,
        Rests::Usable => root_usable,
        Rests::TooOld => !root_usable,
    })
}

/// What a finding takes for granted about the trust root's age.
enum Rests {
    /// Nothing: the root was not asked.
    Nowhere,
    /// That the root may be used. Signatures by a key are counted in, with or without log: no evidence is looked at under an old root.
    Usable,
    /// That it may not.
    TooOld,
}

impl Rests {
    fn of(finding: &Finding) -> Self {
        match finding {
            Finding::Unverified { .. } => Self::Nowhere,
            Finding::Verified { .. } | Finding::Undecided { .. } => Self::Usable,
            Finding::Failed { reason, .. } => match reason {
                Reason::NoMatchingPolicy | Reason::Sha512Unsupported | Reason::StaticFail => Self::Nowhere,
                Reason::TrustRootExpired => Self::TooOld,
                Reason::SignatureMissing
                | Reason::AttestationMissing
                | Reason::NotASignature
                | Reason::EvidenceUnreadable
                | Reason::DigestMismatch
                | Reason::SignerUnsuitable
                | Reason::SignatureInvalid
                | Reason::CertificateUntrusted
                | Reason::LogMissing
                | Reason::LogInvalid
                | Reason::TimeMissing
                | Reason::IdentityMismatch
                | Reason::ConditionUnmet
                | Reason::RuleUndecided
                | Reason::RuleUnmet => Self::Usable,
            },
        }
    }
}

/// What is gathered while the policies are gone through.
#[derive(Default)]
struct Tally<'a> {
    findings: Vec<PolicyFinding>,
    refused: Vec<(&'a Policy, Failure)>,
    undecided: Option<Undecided>,
    warnings: Vec<String>,
    ends: Option<UnixTime>,
    complete: bool,
}

impl Verdict {
    /// What `no_match` decides.
    pub(super) fn without_policy(no_match: NoMatch, terms: &Terms<'_>) -> Self {
        let words = format!("no policy matches {}@{}", terms.repository.canonical(), terms.digest);
        let unverified = |by: &str| Finding::Unverified { by: by.to_owned() };
        let (effect, mode, finding, ends) = match no_match {
            NoMatch::Deny => {
                let refusal = terms.refusal(
                    None,
                    None,
                    Reason::NoMatchingPolicy,
                    format!("refused: {words}, and no_match = \"deny\""),
                );
                let finding = Finding::Failed { reason: Reason::NoMatchingPolicy, message: words.clone() };
                let ends = Some(failure::ends(false, terms.lifetimes, terms.now));
                (Effect::Refuse(refusal), Mode::Enforce, finding, ends)
            }
            NoMatch::Warn => {
                (Effect::Warn(format!("not verified: {words}")), Mode::Warn, unverified("no_match = \"warn\""), None)
            }
            NoMatch::Allow => (Effect::Serve, Mode::Enforce, unverified("no_match = \"allow\""), None),
        };
        let findings = vec![PolicyFinding { policy: None, mode, finding, authorities: Vec::new() }];
        Self { decision: Decision::Effect(effect), findings, ends, complete: true }
    }

    /// What these policies, at least one, decide together: all must pass, each is levelled by its own mode.
    pub(super) fn of<'a>(policies: &[&'a Policy], case: &Case<'a>, terms: &Terms<'_>) -> Self {
        let mut tally = Tally { complete: true, ..Tally::default() };
        for policy in policies {
            tally.add(policy, case.policy(policy), terms);
        }
        tally.close(terms)
    }
}

impl Verdict {
    /// As a record, made under `fingerprint`.
    pub(super) fn assessment(self, fingerprint: Fingerprint, terms: &Terms<'_>) -> Assessment {
        let Self { decision, findings, ends, complete } = self;
        let effect = match decision {
            Decision::Effect(effect) => effect,
            Decision::Undecided(undecided) => return Assessment::Undecided(undecided),
        };
        let image = (terms.repository.clone(), terms.digest.clone(), fingerprint);
        let record = Record::new(image, (terms.now, ends), findings, effect);
        if complete { Assessment::Complete(record) } else { Assessment::Partial(record) }
    }
}

impl<'a> Tally<'a> {
    fn add(&mut self, policy: &'a Policy, outcome: PolicyOutcome, terms: &Terms<'_>) {
        let PolicyOutcome { outcome, authorities, read_clock } = outcome;
        let finding = match outcome {
            Outcome::Passed(finding) => finding,
            Outcome::Failed(failure) => self.failed(policy, failure, terms),
            Outcome::Undecided(why) => self.not_decided(policy, why, terms),
        };
        // What rests on the trust root ends with it.
        if let (Rests::Usable, Some(ends)) = (Rests::of(&finding), terms.lifetimes.trust_root_ends) {
            self.end(ends);
        }
        // What looked at the time can change with it.
        if read_clock {
            self.end(terms.now.plus(terms.lifetimes.clock_ttl));
        }
        let (policy, mode) = (Some(policy.name().to_owned()), policy.mode());
        self.findings.push(PolicyFinding { policy, mode, finding, authorities });
    }

    fn failed(&mut self, policy: &'a Policy, failure: Failure, terms: &Terms<'_>) -> Finding {
        self.end(failure::ends(failure.absent, terms.lifetimes, terms.now));
        let finding = Finding::Failed { reason: failure.reason, message: bounded(failure.message.clone()) };
        match policy.mode() {
            Mode::Enforce => self.refused.push((policy, failure)),
            Mode::Warn => {
                self.warnings.push(format!("not verified by policy {}: {}", told(policy.name()), failure.message));
            }
        }
        finding
    }

    fn not_decided(&mut self, policy: &Policy, why: String, terms: &Terms<'_>) -> Finding {
        self.complete = false;
        self.end(failure::ends(true, terms.lifetimes, terms.now));
        match policy.mode() {
            Mode::Enforce => {
                let undecided = Undecided { policy: policy.name().to_owned(), why: why.clone() };
                self.undecided.get_or_insert(undecided);
            }
            Mode::Warn => {
                self.warnings.push(format!("policy {} could not be decided: {why}", told(policy.name())));
            }
        }
        Finding::Undecided { why }
    }

    fn end(&mut self, at: UnixTime) {
        self.ends = Some(self.ends.map_or(at, |ends| ends.min(at)));
    }

    /// A known failure outweighs what is not known, which outweighs what passed.
    fn close(self, terms: &Terms<'_>) -> Verdict {
        let Self { findings, refused, undecided, warnings, ends, complete } = self;
        let decision = if !refused.is_empty() {
            Decision::Effect(refuse(refused, terms))
        } else if let Some(undecided) = undecided {
            Decision::Undecided(undecided)
        } else if findings.is_empty() {
            // Nobody was asked. Callers do not let it come to this; should one, nothing is admitted.
            let refusal =
                terms.refusal(None, None, Reason::NoMatchingPolicy, "refused: no policy was asked".to_owned());
            Decision::Effect(Effect::Refuse(refusal))
        } else if warnings.is_empty() {
            Decision::Effect(Effect::Serve)
        } else {
            Decision::Effect(Effect::Warn(bounded(warnings.join("; "))))
        };
        Verdict { decision, findings, ends, complete }
    }
}

fn refuse(refused: Vec<(&Policy, Failure)>, terms: &Terms<'_>) -> Effect {
    let absent = refused.iter().all(|(_, failure)| failure.absent);
    let messages: Vec<_> = refused
        .iter()
        .map(|(policy, failure)| format!("refused by policy {}: {}", told(policy.name()), failure.message))
        .collect();
    let message = messages.join("; ");
    // Where one policy found nothing and another found something bad, the latter is the reason.
    let first = refused.into_iter().min_by_key(|(_, failure)| failure.absent);
    let (policy, authority, reason) = first.map_or((None, None, Reason::SignatureMissing), |(policy, failure)| {
        (Some(policy.name().to_owned()), failure.authority, failure.reason)
    });
    let refusal = terms.refusal(policy, authority, reason, message);
    if absent { Effect::Absent(refusal) } else { Effect::Refuse(refusal) }
}

impl Terms<'_> {
    fn refusal(&self, policy: Option<String>, authority: Option<String>, reason: Reason, message: String) -> Refusal {
        Refusal {
            repository: self.repository.clone(),
            digest: self.digest.clone(),
            policy,
            authority,
            reason,
            message: bounded(message),
            hint: reason.hint().map(str::to_owned),
        }
    }
}
