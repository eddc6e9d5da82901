//! The decision: evidence, policies, trust root and now become an admission or a refusal.
//!
//! ```text
//! UntrustedManifest + UntrustedEvidence ──admit──▶ Judgement ─┬─▶ Admitted<Manifest> ──permit──▶ Permit
//! UntrustedManifest + Record ──────────readmit──▶             │        │ admit_child
//!                                                             │        ▼
//!                                                             │   Admitted<Manifest> of a child
//!                                                             └─▶ Refusal
//! ```

mod admitted;
mod case;
mod child;
mod config;
mod failure;
mod judgement;
mod kept;
mod rule;
mod survey;
mod verdict;

use std::{fmt, sync::Arc};

use oci::{Addressed, Algorithm, Digest, ManifestKind, Repository, UnixTime, UntrustedManifest};

pub use admitted::{Admitted, EvidenceManifest, FirstToEnd, Manifest, Permit};
pub use case::Worth;
pub use child::{ChildJudgement, ChildOutcome};
pub use judgement::{Assessment, JudgeError, Judgement, Outcome, Readmission, Undecided, VerdictLifetimes};
pub use kept::Kept;

use crate::{
    authority::{Authority, Proof, RootRef, Trust},
    evidence::{UntrustedEvidence, UntrustedPiece, Wanted},
    fingerprint::Fingerprint,
    guard::TagGuards,
    policy_set::{Policy, PolicySet},
    record::{Effect, PolicyFinding, Record},
    refusal::bounded,
    rego::RegoBounds,
    servable::{self, EvidenceLink, NotEvidence},
    sigstore::Sigstore,
    trust_root::TrustRoot,
};
use admitted::Grounds;
use case::{Case, Verifiers};
use kept::Mark;
use verdict::{Terms, Verdict, stands};

/// Everything that is judged by: policies, trust root, lifetimes. Immutable; a reload makes another.
pub struct Judge {
    policies: PolicySet,
    configured: TrustRoot,
    lifetimes: VerdictLifetimes,
    bounds: RegoBounds,
    verifiers: Verifiers,
    mark: Mark,
}

impl Judge {
    /// A judge by these policies and this trust root.
    ///
    /// # Errors
    /// When the trust root cannot be used, or has not what a policy asks of it.
    pub fn new(
        policies: PolicySet,
        trust_root: &TrustRoot,
        lifetimes: VerdictLifetimes,
        bounds: RegoBounds,
    ) -> Result<Self, JudgeError> {
        let verifiers = verifiers(&policies, trust_root)?;
        Ok(Self { policies, configured: trust_root.clone(), lifetimes, bounds, verifiers, mark: Mark::default() })
    }

    /// The policies judged by.
    #[must_use]
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// Under what this image is judged now. A stored verdict with another fingerprint is not looked at.
    #[must_use]
    pub fn fingerprint(&self, repository: &Repository, digest: &Digest) -> Fingerprint {
        let matching = self.policies.matching(repository, digest);
        Fingerprint::of(&matching, self.policies.no_match(), &self.configured.content_digest())
    }

    /// What is to be collected before this image can be judged. Empty where `static` or `no_match` decides alone.
    #[must_use]
    pub fn wanted(&self, repository: &Repository, digest: &Digest) -> Wanted {
        wanted(&self.policies.matching(repository, digest), digest)
    }

    /// Judges an image by its own evidence and admits it where the verdict is to serve: [`Judge::assess`], then
    ///
    /// 7. what is to be served becomes [`Admitted`], here and nowhere else.
    #[must_use]
    pub fn admit(
        &self,
        repository: &Repository,
        manifest: UntrustedManifest,
        evidence: &UntrustedEvidence,
        now: UnixTime,
    ) -> Judgement {
        let assessment = self.assess(repository, manifest.digest(), evidence, now);
        self.conclude(manifest, None, assessment) // 7.
    }

    /// Judges a digest by its evidence without admitting anything: what `verify` and `explain` tell.
    ///
    /// 1. The policies that govern this repository and digest are found.
    /// 2. Each is judged on its own: one satisfied authority satisfies it. Where none is governing, `no_match` decides.
    /// 3. Any enforced policy that failed refuses; *absent* where nothing that could be a signature was there for any of them.
    /// 4. Otherwise any enforced policy that could not be decided leaves the image undecided: no record, nothing served.
    /// 5. Otherwise the image is to be served. What failed or could not be decided under `warn` becomes a warning.
    /// 6. The verdict ends when the first thing it rests on could change by itself.
    #[must_use]
    pub fn assess(
        &self,
        repository: &Repository,
        digest: &Digest,
        evidence: &UntrustedEvidence,
        now: UnixTime,
    ) -> Assessment {
        self.assess_case(repository, &self.case(digest, evidence, now))
    }

    /// The numbers are those of [`Judge::assess`].
    fn assess_case<'a>(&'a self, repository: &Repository, case: &Case<'a>) -> Assessment {
        let (digest, now) = (case.subject, case.now);
        // 1.
        let matching = self.policies.matching(repository, digest);
        // 2. to 6.
        let terms = Terms { repository, digest, lifetimes: &self.lifetimes, now };
        let verdict = if matching.is_empty() {
            Verdict::without_policy(self.policies.no_match(), &terms)
        } else {
            Verdict::of(&matching, case, &terms)
        };
        let fingerprint = Fingerprint::of(&matching, self.policies.no_match(), &self.configured.content_digest());
        verdict.assessment(fingerprint, &terms)
    }

    /// What each piece is worth to these policies, where there are too many to judge all of them together. What is worth nothing can
    /// be left out without changing the verdict; to the closest of it a refusal owes its words.
    #[must_use]
    pub fn worths<'a>(
        &'a self,
        policies: &[&'a Policy],
        digest: &'a Digest,
        evidence: &'a UntrustedEvidence,
        now: UnixTime,
    ) -> Vec<(&'a UntrustedPiece, Worth)> {
        self.case(digest, evidence, now).worths(policies)
    }

    /// Looks at a stored verdict instead of judging. It counts when
    ///
    /// 1. this build wrote it: same form, same judge;
    /// 2. it is about this repository and this digest;
    /// 3. it was made under what is in force now: policies, `no_match`, trust root, judge;
    /// 4. it was not made in the future and has not ended;
    /// 5. the trust root is young enough to be used, where what was found rests on it. The record's own end does not suffice: a reload
    ///    may have limited the root's age since.
    #[must_use]
    pub fn readmit(
        &self,
        repository: &Repository,
        manifest: UntrustedManifest,
        record: &Record,
        now: UnixTime,
    ) -> Readmission {
        let fingerprint = self.fingerprint(repository, manifest.digest());
        self.recall((repository, fingerprint), None, manifest, record, now)
    }

    /// Leave to serve a blob: `None` unless it is the config or a layer of this admitted image. An index permits no blobs.
    #[must_use]
    pub fn permit(&self, parent: &Admitted<Manifest>, blob: &Digest) -> Option<Permit> {
        permit_within(parent.value().manifest(), true, parent.grounds(), blob)
    }

    /// Lets evidence through for the sake of its subject: bytes that a client may verify for itself. Says nothing about whether it
    /// is true, and lets nothing through that could run.
    ///
    /// `blobs` are the manifest's config and layers, all of them; `media_types` is the closed list of layer types from the
    /// configuration.
    ///
    /// 1. The subject's admission must count now, in this judge.
    /// 2. The manifest must belong to the subject, and be what it claims to be down to the last byte of each layer.
    ///
    /// # Errors
    /// When it is not: such a manifest is to be judged like any other.
    pub fn evidence_of(
        &self,
        subject: &Admitted<Manifest>,
        manifest: UntrustedManifest,
        link: &EvidenceLink,
        blobs: &[Addressed],
        media_types: &[String],
        now: UnixTime,
    ) -> Result<Admitted<EvidenceManifest>, NotEvidence> {
        // 1.
        if !self.in_force(subject, now) {
            return Err(NotEvidence::SubjectEnded);
        }
        // 2.
        servable::check(subject.digest(), &manifest, link, blobs, media_types)?;
        Ok(Admitted::assertion(EvidenceManifest(manifest), Arc::clone(subject.grounds())))
    }

    /// Leave to serve a blob of evidence: `None` unless it is the config or a layer of this manifest.
    #[must_use]
    pub fn evidence_permit(&self, evidence: &Admitted<EvidenceManifest>, blob: &Digest) -> Option<Permit> {
        permit_within(evidence.value().manifest(), false, evidence.grounds(), blob)
    }

    /// Whether an admission that was kept still counts: not ended, and made under what is in force in this judge.
    #[must_use]
    pub fn in_force<T>(&self, admitted: &Admitted<T>, now: UnixTime) -> bool {
        self.stand(admitted.grounds(), now)
    }

    /// Whether a permit that was kept still counts.
    #[must_use]
    pub fn holds(&self, permit: &Permit, now: UnixTime) -> bool {
        self.stand(permit.grounds(), now)
    }

    fn stand(&self, grounds: &Grounds, now: UnixTime) -> bool {
        self.lasts(grounds, now)
            && self.fingerprint_through(&grounds.repository, &grounds.path, &grounds.digest) == grounds.fingerprint
    }

    /// Whether no time has run out: the verdict's own, and the trust root's.
    fn lasts(&self, grounds: &Grounds, now: UnixTime) -> bool {
        grounds.ends.is_none_or(|ends| now < ends) && all_stand(grounds, self.root_usable(now))
    }

    /// Under what `digest` is judged now as reached through the indexes of `path`, outermost first.
    #[must_use]
    pub fn fingerprint_through(&self, repository: &Repository, path: &[Digest], digest: &Digest) -> Fingerprint {
        let own = self.fingerprint(repository, digest);
        match path.split_last() {
            Some((index, outer)) => own.through(self.fingerprint_through(repository, outer, index)),
            None => own,
        }
    }

    fn root_usable(&self, now: UnixTime) -> bool {
        self.lifetimes.trust_root_ends.is_none_or(|ends| now < ends)
    }

    fn case<'a>(&'a self, subject: &'a Digest, evidence: &'a UntrustedEvidence, now: UnixTime) -> Case<'a> {
        Case::new(&self.verifiers, (subject, evidence), &self.bounds, self.root_usable(now), now)
    }

    /// From stored verdict to readmission; the numbers are those of [`Judge::readmit`].
    fn recall(
        &self,
        (repository, fingerprint): (&Repository, Fingerprint),
        index: Option<&Admitted<Manifest>>,
        manifest: UntrustedManifest,
        record: &Record,
        now: UnixTime,
    ) -> Readmission {
        let counts = record.is_ours() // 1.
            && &record.repository == repository // 2.
            && &record.digest == manifest.digest()
            && record.fingerprint == fingerprint // 3.
            && record.holds_at(now) // 4.
            && stands(&record.policies, self.root_usable(now)); // 5.
        if !counts {
            return Readmission::Ended;
        }
        match self.realize(manifest, index, record) {
            Outcome::Admitted(admitted) => Readmission::Admitted(admitted),
            Outcome::Refused(refusal) | Outcome::Absent(refusal) => Readmission::Refused(refusal),
            Outcome::Undecided(_) => Readmission::Ended,
        }
    }

    /// From assessment to outcome.
    fn conclude(
        &self,
        manifest: UntrustedManifest,
        index: Option<&Admitted<Manifest>>,
        assessment: Assessment,
    ) -> Judgement {
        match assessment {
            Assessment::Complete(record) => {
                let outcome = self.realize(manifest, index, &record);
                Judgement { record: Some(record), in_memory: None, outcome }
            }
            Assessment::Partial(record) => {
                let outcome = self.realize(manifest, index, &record);
                Judgement { record: None, in_memory: Some(record), outcome }
            }
            Assessment::Undecided(undecided) => {
                Judgement { record: None, in_memory: None, outcome: Outcome::Undecided(undecided) }
            }
        }
    }

    /// What a verdict that counts leads to. The only place where a manifest is asserted to be admitted.
    ///
    /// A child is served with its index's warning as it is now, and no longer than its index. What rests on the trust root ends with it.
    fn realize(&self, manifest: UntrustedManifest, index: Option<&Admitted<Manifest>>, record: &Record) -> Outcome {
        if manifest.digest() != &record.digest {
            // Callers compare before they come here; an assertion about another digest is the one thing that must not happen.
            let why = "the verdict is about another digest".to_owned();
            return Outcome::Undecided(Undecided { policy: String::new(), why });
        }
        let own = match &record.effect {
            Effect::Serve => None,
            Effect::Warn(warning) => Some(warning.as_str()),
            Effect::Refuse(refusal) => return Outcome::Refused(refusal.clone()),
            Effect::Absent(refusal) => return Outcome::Absent(refusal.clone()),
        };
        let warnings: Vec<_> = index.and_then(Admitted::warning).into_iter().chain(own).collect();
        let mut grounds = Grounds {
            repository: record.repository.clone(),
            digest: record.digest.clone(),
            path: index.map(child::path_through).unwrap_or_default(),
            index: index.map(|index| Arc::clone(index.grounds())),
            fingerprint: record.fingerprint,
            ends: index.and_then(Admitted::ends).into_iter().chain(record.ends_at).min(),
            warning: (!warnings.is_empty()).then(|| bounded(warnings.join("; "))),
            findings: record.policies.clone(),
            guards: self.guards_of(&record.repository, &record.digest, index, &record.policies),
        };
        if !all_stand(&grounds, false) {
            // Also where the record, or the index, is from before the root's age was limited.
            grounds.ends = grounds.ends.into_iter().chain(self.lifetimes.trust_root_ends).min();
        }
        Outcome::Admitted(Admitted::assertion(Manifest(manifest), Arc::new(grounds)))
    }
}

impl Judge {
    /// What the policies that govern this image ask where a tag leads to it, about which this was found.
    #[must_use]
    pub fn tag_guards(&self, repository: &Repository, digest: &Digest, findings: &[PolicyFinding]) -> TagGuards {
        self.guards_of(repository, digest, None, findings)
    }

    /// The guards of the policies that govern an image, or an index that it is reached through.
    fn guards_of(
        &self,
        repository: &Repository,
        digest: &Digest,
        index: Option<&Admitted<Manifest>>,
        findings: &[PolicyFinding],
    ) -> TagGuards {
        let mut policies = self.policies.matching(repository, digest);
        for above in index.map(child::path_through).unwrap_or_default() {
            for policy in self.policies.matching(repository, &above) {
                if !policies.iter().any(|other| std::ptr::eq(*other, policy)) {
                    policies.push(policy);
                }
            }
        }
        let above = std::iter::successors(index.map(Admitted::grounds), |grounds| grounds.index.as_ref());
        let findings = findings.iter().chain(above.flat_map(|grounds| &grounds.findings));
        TagGuards::of(&policies, repository, &findings)
    }
}

/// Whether the trust root's age leaves all findings as they are, those on the indexes that a child was reached through included.
fn all_stand(grounds: &Grounds, root_usable: bool) -> bool {
    std::iter::successors(Some(grounds), |grounds| grounds.index.as_deref())
        .all(|grounds| stands(&grounds.findings, root_usable))
}

/// The only place where a permit is asserted.
fn permit_within(
    manifest: &UntrustedManifest,
    is_image: bool,
    grounds: &Arc<Grounds>,
    blob: &Digest,
) -> Option<Permit> {
    let ManifestKind::Image { config, layers } = manifest.kind() else {
        return None;
    };
    let reached = std::iter::once(config).chain(layers).find(|descriptor| &descriptor.digest == blob)?;
    let is_layer = is_image && reached.digest != config.digest;
    let blob = (reached.digest.clone(), reached.size);
    Some(Permit::assertion(blob, is_layer, manifest.digest().clone(), Arc::clone(grounds)))
}

/// Signatures name SHA-256 digests, so evidence helps no other; `static` authorities look at none.
fn wanted(policies: &[&Policy], digest: &Digest) -> Wanted {
    if digest.algorithm() != Algorithm::Sha256 {
        return Wanted::default();
    }
    let authorities = policies.iter().flat_map(|policy| policy.authorities());
    let configs = policies.iter().any(|policy| policy.rule().is_some_and(|rule| rule.fetch_config_file));
    Wanted { origins: authorities.flat_map(Authority::origins).collect(), configs }
}

/// A verifier for each composition of trust roots that a policy asks for, and for the configured one.
fn verifiers(policies: &PolicySet, configured: &TrustRoot) -> Result<Verifiers, JudgeError> {
    let mut verifiers = Verifiers::new();
    let made = Sigstore::new(configured).map_err(JudgeError::TrustRoot)?;
    verifiers.insert(Trust::default(), Box::new(made));
    for policy in policies.policies() {
        for Authority { proof: Proof { trust, .. }, .. } in policy.authorities() {
            if verifiers.contains_key(trust) {
                continue;
            }
            let root = |name: &RootRef| match name {
                RootRef::Configured => Ok(configured),
                RootRef::Named(name) => policies.trust_roots().get(name).ok_or_else(|| JudgeError::UnknownTrustRoot {
                    policy: policy.name().to_owned(),
                    name: name.clone(),
                }),
            };
            let composed = TrustRoot::composed(root(&trust.ca)?, root(&trust.log)?, root(&trust.timestamp)?);
            let made = composed.and_then(|root| Sigstore::new(&root)).map_err(JudgeError::TrustRoot)?;
            verifiers.insert(trust.clone(), Box::new(made));
        }
    }
    Ok(verifiers)
}

/// Without the verifier, which has nothing to show.
impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("policies", &self.policies)
            .field("lifetimes", &self.lifetimes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
