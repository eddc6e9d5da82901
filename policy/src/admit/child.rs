//! Children of an admitted index.

use oci::{Digest, ManifestKind, UnixTime, UntrustedManifest};

use super::{
    Admitted, Judge, Judgement, Manifest, Outcome, Readmission, Undecided,
    verdict::{Decision, Terms, Verdict},
    wanted,
};
use crate::{
    evidence::{UntrustedEvidence, Wanted},
    fingerprint::Fingerprint,
    policy_set::Policy,
    record::{Effect, Record},
    refusal::Refusal,
};

/// What judging a child through its index gave.
#[derive(Debug)]
pub struct ChildJudgement {
    /// What the child's own policies found, to be stored under [`Judge::child_fingerprint`]; none where nothing but the index was
    /// asked, or where not all was decided.
    pub record: Option<Record>,
    /// To be kept in memory only, as in [`Judgement`].
    pub in_memory: Option<Record>,
    /// What it led to.
    pub outcome: ChildOutcome,
}

/// What judging a child through its index led to.
#[expect(clippy::large_enum_variant, reason = "made once per judgement and moved, never kept in lists")]
#[derive(Debug)]
pub enum ChildOutcome {
    /// To be served.
    Admitted(Admitted<Manifest>),
    /// A policy that governs the child and not the index says no.
    Refused(Refusal),
    /// A policy that governs the child and not the index found no evidence yet.
    Absent(Refusal),
    /// A policy that governs the child and not the index cannot be decided.
    Undecided(Undecided),
    /// The index does not list this manifest with this size and media type. Nothing is said about the manifest.
    NotListed,
    /// The index's admission has ended or is not in force any more: judge the index again.
    IndexEnded,
    /// A policy governs the child and not the index, or asks for attestations of each platform: collect the child's own evidence, this
    /// of it, and ask again.
    NeedsEvidence(Wanted),
}

impl Judge {
    /// Judges a child through an index that is admitted.
    ///
    /// 1. The index's admission must count now, in this judge.
    /// 2. The index must list the child: digest, size and media type.
    /// 3. Policies that govern the child and not the index, and those that ask for attestations of each platform, must pass besides, by
    ///    the child's own evidence (`extra`).
    /// 4. The child is admitted no longer than the index, and with its warning.
    #[must_use]
    pub fn admit_child(
        &self,
        index: &Admitted<Manifest>,
        child: UntrustedManifest,
        extra: Option<&UntrustedEvidence>,
        now: UnixTime,
    ) -> ChildJudgement {
        // 1.
        if !self.in_force(index, now) {
            return ChildJudgement::only(ChildOutcome::IndexEnded);
        }
        // 2.
        if !lists(index, &child) {
            return ChildJudgement::only(ChildOutcome::NotListed);
        }
        // 3.
        let besides = self.besides(index, child.digest());
        let none = UntrustedEvidence::default();
        let evidence = match extra {
            Some(evidence) => evidence,
            None => match wanted(&besides, child.digest()) {
                wanted if wanted.is_empty() => &none,
                wanted => return ChildJudgement::only(ChildOutcome::NeedsEvidence(wanted)),
            },
        };
        let digest = child.digest().clone();
        let terms = Terms { repository: index.repository(), digest: &digest, lifetimes: &self.lifetimes, now };
        let recorded = !besides.is_empty();
        let verdict = if besides.is_empty() {
            Verdict { decision: Decision::Effect(Effect::Serve), findings: Vec::new(), ends: None, complete: true }
        } else {
            Verdict::of(&besides, &self.case(child.digest(), evidence, now), &terms)
        };
        // 4.
        let assessment = verdict.assessment(self.child_fingerprint(index, &digest), &terms);
        ChildJudgement::from(self.conclude(child, Some(index), assessment), recorded)
    }

    /// Looks at a stored verdict on a child instead of judging, as [`Judge::readmit`] does; the index must count now and list it.
    #[must_use]
    pub fn readmit_child(
        &self,
        index: &Admitted<Manifest>,
        child: UntrustedManifest,
        record: &Record,
        now: UnixTime,
    ) -> Readmission {
        if !self.in_force(index, now) || !lists(index, &child) {
            return Readmission::Ended;
        }
        let fingerprint = self.child_fingerprint(index, child.digest());
        self.recall((index.repository(), fingerprint), Some(index), child, record, now)
    }

    /// Under what a child is judged now through this index: the key of its stored verdict.
    #[must_use]
    pub fn child_fingerprint(&self, index: &Admitted<Manifest>, child: &Digest) -> Fingerprint {
        self.fingerprint(index.repository(), child).through(index.fingerprint())
    }

    /// The policies by whose evidence a child is judged through this index.
    ///
    /// They are those that govern the child and did not govern the index, and those of any index on the way that ask each child for its own,
    /// whether or not their globs name the child: a glob may be about the index's digest alone.
    #[must_use]
    pub fn besides(&self, index: &Admitted<Manifest>, child: &Digest) -> Vec<&Policy> {
        let is_in = |list: &[&Policy], policy: &Policy| list.iter().any(|other| std::ptr::eq(*other, policy));
        let indexs = self.policies.matching(index.repository(), index.digest());
        let mut besides = self.policies.matching(index.repository(), child);
        besides.retain(|policy| policy.conditions().attestations_per_platform || !is_in(&indexs, policy));
        for above in index.path().iter().chain([index.digest()]) {
            for policy in self.policies.matching(index.repository(), above) {
                if policy.conditions().attestations_per_platform && !is_in(&besides, policy) {
                    besides.push(policy);
                }
            }
        }
        besides
    }
}

/// The indexes through which the children of `index` are reached.
pub(super) fn path_through(index: &Admitted<Manifest>) -> Vec<Digest> {
    index.path().iter().chain([index.digest()]).cloned().collect()
}

/// Whether the index lists exactly this manifest.
fn lists(index: &Admitted<Manifest>, child: &UntrustedManifest) -> bool {
    let ManifestKind::Index { manifests } = index.value().manifest().kind() else {
        return false;
    };
    let size = child.addressed().bytes().len() as u64;
    manifests
        .iter()
        .any(|entry| &entry.digest == child.digest() && entry.size == size && &entry.media_type == child.media_type())
}

impl ChildJudgement {
    fn only(outcome: ChildOutcome) -> Self {
        Self { record: None, in_memory: None, outcome }
    }

    fn from(judgement: Judgement, recorded: bool) -> Self {
        let Judgement { record, in_memory, outcome } = judgement;
        let outcome = match outcome {
            Outcome::Admitted(admitted) => ChildOutcome::Admitted(admitted),
            Outcome::Refused(refusal) => ChildOutcome::Refused(refusal),
            Outcome::Absent(refusal) => ChildOutcome::Absent(refusal),
            Outcome::Undecided(undecided) => ChildOutcome::Undecided(undecided),
        };
        Self { record: record.filter(|_| recorded), in_memory: in_memory.filter(|_| recorded), outcome }
    }
}
