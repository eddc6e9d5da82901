//! Whether something may be served: brings image, evidence and judge together, and remembers the verdict.
//!
//! ```text
//! (repository, digest) ─┬─ stored verdict, in force ────────────────────────────┐
//!                       ├─ child of an index that is admitted now ──────────────┤
//!                       ├─ evidence about a subject that is admitted now ───────┼──> Entry | refusal | undecided
//!                       └─ evidence: stored, else collected ── judge, record ───┘
//! (repository, blob) ───── parents by typed edges, any admitted now ────────────────> Permit | 404 | 403
//! (repository, tag) ────── its digest, and guards over where the tag has led ──────────> Tagged | 403
//! (upstream, blob) ─────── the same in any repository of it, by the store alone ─────> where a refused download may go on
//! ```

mod elsewhere;
mod guard;
mod kept;
mod lookup;
mod permit;
mod referrer;
mod renewals;
mod seen;
mod tagged;
mod told;

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use config::Limits;
use metrics::counter;
use oci::{Digest, Repository, UnixTime, UntrustedManifest};
use policy::{
    Admitted, EvidenceManifest, Fingerprint, Judge, Judgement, Manifest, Outcome, Readmission, Record,
    UntrustedEvidence,
};
use storage::{Change, Store, Told};
use tokio::sync::Semaphore;

pub use guard::PermitGuard;
pub use referrer::Referrers;
pub(crate) use renewals::Ending;
pub use tagged::Tagged;
pub use told::{Offered, Through};

use crate::{
    app::InForce,
    clock::Clock,
    collect::{About, Sieve},
    error::ApiError,
    evidence::EvidenceStore,
    flight::Flight,
    patience::Patience,
    resolve::Resolver,
};
use kept::Looks;
use lookup::Around;
use renewals::Renewals;
use seen::Seen;
use tagged::TagsLed;

/// What may be served under a digest.
pub enum Entry {
    /// An image or index that policy let in.
    Image(Arc<Admitted<Manifest>>),
    /// Evidence of a subject that policy let in.
    Evidence(Arc<Admitted<EvidenceManifest>>),
}

/// The gate. Handlers reach a verdict only through here.
pub struct Admission {
    in_force: Arc<Told<Arc<InForce>>>,
    resolver: Arc<Resolver>,
    evidence: EvidenceStore,
    store: Store,
    clock: Clock,
    limits: Arc<Limits>,
    /// One judgement per (repository, digest, fingerprint): two repositories may rightly judge one digest differently.
    judging: Flight<LookKey, Arc<Admitted<Manifest>>>,
    /// The same by stored evidence alone.
    rejudging: Flight<(LookKey, Effort), Arc<Admitted<Manifest>>>,
    /// Judgements at the same time.
    judges: Arc<Semaphore>,
    /// The same about a child through an index.
    children: Flight<(LookKey, Effort), Around>,
    /// Verdicts that must not outlive the process: a `warn` policy that could not be decided.
    in_memory: Mutex<HashMap<VerdictKey, Record>>,
    /// Evidence that was looked at as content, down to its last byte.
    seen: Seen,
    /// Images whose admission is in memory.
    looks: Looks,
    /// Where tags have led.
    tags: TagsLed,
    /// Verdicts that will end, of what is asked for.
    renewals: Renewals,
}

type VerdictKey = (Repository, Digest, Fingerprint);

/// A look for a verdict, and the generation under which it is made: what an upstream or a trust root that is not in force any more has
/// brought about answers nobody who came later.
type LookKey = (VerdictKey, u64);

/// How often a request is looked at again because the policy was reloaded meanwhile.
const RELOADS_MAX: usize = 4;

impl Admission {
    /// A gate over what `in_force` tells.
    #[must_use]
    pub fn new(
        in_force: Arc<Told<Arc<InForce>>>,
        resolver: Arc<Resolver>,
        evidence: EvidenceStore,
        store: Store,
        clock: Clock,
        limits: Arc<Limits>,
    ) -> Arc<Self> {
        let looks = Looks::new(limits.manifest_cache_bytes_max);
        let tags = TagsLed::new(limits.manifest_cache_bytes_max);
        let renewals = Renewals::new(limits.verdict_cache_entries_max);
        Arc::new(Self {
            in_force,
            resolver,
            evidence,
            store,
            clock,
            limits,
            judging: Flight::default(),
            rejudging: Flight::default(),
            judges: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(2, std::num::NonZero::get))),
            children: Flight::default(),
            in_memory: Mutex::default(),
            seen: Seen::default(),
            looks,
            tags,
            renewals,
        })
    }

    /// What may be served under `digest`, decided within the time budget under what is in force at the end.
    ///
    /// # Errors
    /// 403 with its reason, 404 and 502 for what is not there or not right, 503 where nothing could be decided in time; the work
    /// then goes on for the next who asks.
    pub async fn manifest(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
        patience: Patience,
    ) -> Result<Entry, ApiError> {
        self.settled(patience, |in_force| async move { self.entry(&in_force, repository, digest).await }).await
    }

    /// The patience of who asks for nobody in particular.
    fn patience(&self) -> Patience {
        self.in_force.with(|now| now.patience())
    }

    /// Runs `look` within the time budget, again where a reload came between.
    async fn settled<T, L>(&self, patience: Patience, look: impl Fn(Arc<InForce>) -> L) -> Result<T, ApiError>
    where
        L: Future<Output = Result<T, ApiError>>,
    {
        let looking = async {
            for _ in 0..RELOADS_MAX {
                let in_force = self.in_force.get();
                let outcome = look(Arc::clone(&in_force)).await;
                if self.in_force.with(|now| now.generation) == in_force.generation {
                    return outcome;
                }
            }
            Err(ApiError::undecided("cannot decide: the policy is being reloaded again and again"))
        };
        patience.wait(looking).await.unwrap_or_else(|| {
            Err(ApiError::undecided(format!(
                "cannot decide within {} s (limits.decision_timeout); still looking",
                patience.seconds()
            )))
        })
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "only a refusal stands; whatever else was met is looked into")]
    async fn entry(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Entry, ApiError> {
        let own = match self.admitted(in_force, repository, digest, 0, Effort::Settled).await {
            Ok(admitted) => {
                self.plan_renewal(in_force, &admitted);
                return Ok(Entry::Image(admitted));
            }
            Err(error) => error,
        };
        let subject = match self.as_evidence(in_force, repository, digest, Effort::Upstream).await {
            Ok(Some(evidence)) => return Ok(Entry::Evidence(evidence)),
            Ok(None) => None,
            Err(error @ (ApiError::Unknown { .. } | ApiError::Wrong { .. } | ApiError::Fault { .. })) => {
                return Err(error);
            }
            Err(error) => Some(error),
        };
        // A stored refusal that holds stands; everything else is looked into.
        let own = match own {
            refused @ ApiError::Refused(_) => Err(refused),
            _ => self.admitted(in_force, repository, digest, 0, Effort::Upstream).await.map(|admitted| {
                self.plan_renewal(in_force, &admitted);
                Entry::Image(admitted)
            }),
        };
        // Whose subject could not be decided is not refused for want of a signature of its own.
        own.map_err(|error| subject.map_or(error.clone(), |subject| error.or_worse(subject)))
    }

    /// What somebody gets now and what ends by itself is renewed before it does: of a child its own verdict, or that of an index that it was
    /// reached through, whichever ends first. What ends with the trust root is not: no judgement moves that.
    fn plan_renewal(&self, in_force: &InForce, admitted: &Admitted<Manifest>) {
        let root = in_force.trust.ends(&in_force.settings);
        let ending = Ending::of(admitted).filter(|ending| root.is_none_or(|root| ending.ends < root));
        if let Some(ending) = ending {
            self.renewals.plan(ending, self.clock.now());
        }
    }

    /// The next verdict that is about to end. It is not told twice, unless somebody asks for the image.
    pub(crate) fn about_to_end(&self) -> Option<Ending> {
        self.renewals.take(self.clock.now())
    }

    /// What was told and could not be renewed is told once more. Nobody else would see to it: who is answered from memory plans nothing.
    pub(crate) fn renew_later(&self, ending: Ending) {
        self.renewals.plan_again(ending, self.clock.now());
    }

    /// Whether a verdict that ends can be renewed by new evidence only.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn renewal_asks_upstream(
        &self,
        in_force: &InForce,
        Ending { repository, digest, path, .. }: &Ending,
    ) -> Result<bool, ApiError> {
        let fingerprint = in_force.judge.fingerprint_through(repository, path, digest);
        Ok(self.past(&(repository.clone(), digest.clone(), fingerprint))?.wants_new_evidence(Effort::Upstream))
    }

    /// Judges an image for nobody in particular, so that the next who asks need not wait.
    pub(crate) async fn judge_again(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        repository: &Repository,
        digest: &Digest,
        effort: Effort,
    ) -> Result<(), ApiError> {
        self.admitted(in_force, repository, digest, 0, effort).await.map(drop)
    }

    /// Whether somebody judged this manifest by its own evidence: a verdict on it is stored, or a note on evidence.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn is_judged(&self, repository: &Repository, digest: &Digest) -> Result<bool, ApiError> {
        let facts = self.store.facts().read()?;
        Ok(facts.evidence(repository, digest)?.is_some() || !facts.verdicts(repository, digest, 1)?.is_empty())
    }

    /// Judges `manifest` by `evidence` and remembers the verdict.
    async fn judge(
        &self,
        in_force: &InForce,
        repository: &Repository,
        manifest: &UntrustedManifest,
        evidence: &UntrustedEvidence,
    ) -> Result<Admitted<Manifest>, ApiError> {
        let judged = self.judgement(in_force, repository, manifest, evidence).await?;
        let admitted = self.conclude(in_force, judged).await?;
        self.keep_known(repository, manifest).await?;
        Ok(admitted)
    }

    /// While evidence was on its way the image may have made way for others: what it is made of is about to be asked for.
    async fn keep_known(&self, repository: &Repository, manifest: &UntrustedManifest) -> Result<(), ApiError> {
        if self.store.facts().read()?.manifest(repository, manifest.digest())?.is_none() {
            self.resolver.keep(repository, manifest).await?;
        }
        Ok(())
    }

    /// Judges `manifest` by `evidence`. Nothing is remembered of it yet.
    async fn judgement(
        &self,
        in_force: &InForce,
        repository: &Repository,
        manifest: &UntrustedManifest,
        evidence: &UntrustedEvidence,
    ) -> Result<Judgement, ApiError> {
        // Signatures and megabytes of JSON are no work for the threads that serve: they are looked at elsewhere, a few at a time.
        let (judge, now) = (Arc::clone(&in_force.judge), self.clock.now());
        let (repository, manifest, evidence) = (repository.clone(), manifest.clone(), evidence.clone());
        self.aside(move || judge.admit(&repository, manifest, &evidence, now)).await
    }

    /// Remembers a judgement.
    async fn conclude(&self, in_force: &InForce, judged: Judgement) -> Result<Admitted<Manifest>, ApiError> {
        let Judgement { record, in_memory, outcome } = judged;
        self.remember(in_force, record, in_memory).await?;
        concluded(outcome)
    }

    /// Runs work of the judge where it holds up nobody.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let slot = self.judges.acquire().await;
        let done = storage::work::run(work).await;
        drop(slot);
        done.map_err(|_| ApiError::Fault { message: "a judgement ended without a verdict".to_owned() })
    }

    fn sieve(&self, judge: &Arc<Judge>, image: About) -> Sieve {
        Sieve::new(Arc::clone(judge), image, self.clock.now(), Arc::clone(&self.judges))
    }

    async fn remember(
        &self,
        in_force: &InForce,
        record: Option<Record>,
        in_memory: Option<Record>,
    ) -> Result<(), ApiError> {
        for record in record.iter().chain(&in_memory) {
            let pieces: HashSet<_> =
                record.findings().iter().flat_map(policy::PolicyFinding::proven).cloned().collect();
            if !pieces.is_empty() {
                self.evidence.prove((record.repository(), record.digest()), &pieces).await?;
            }
        }
        // What a former upstream or trust root has brought about must not take the place of what was found since, under the same policies.
        if self.in_force.with(|now| now.generation) != in_force.generation {
            return Ok(());
        }
        if let Some(record) = in_memory {
            self.forget(record.digest());
            let mut kept = self.in_memory.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= self.limits.verdict_cache_entries_max {
                let now = self.clock.now();
                kept.retain(|_, record| record.holds_at(now));
            }
            if kept.len() < self.limits.verdict_cache_entries_max {
                kept.insert(key_of(&record), record);
            }
        }
        let Some(record) = record else { return Ok(()) };
        // What was decided in full takes the place of what was not.
        self.in_memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(&record));
        told(&record);
        let change = Change::Verdict {
            repository: record.repository().clone(),
            digest: record.digest().clone(),
            fingerprint: *record.fingerprint().as_bytes(),
            bytes: record.to_bytes(),
        };
        // What nobody gets must not push out what somebody does.
        let unserved = record
            .refusal()
            .map(|_| Change::Unserved { repository: record.repository().clone(), digest: record.digest().clone() });
        self.store.facts().apply(std::iter::once(change).chain(unserved).collect()).await?;
        // Who looked before found another verdict, or none.
        self.forget(record.digest());
        Ok(())
    }

    /// What was decided before, as it is at one moment: between two somebody else may decide anew, and what then holds is not to be taken
    /// for what has ended.
    fn past(&self, key: &VerdictKey) -> Result<Past, ApiError> {
        let (repository, digest, fingerprint) = key;
        let in_memory = self.in_memory.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let bytes = self.store.facts().read()?.verdict(repository, digest, fingerprint.as_bytes())?;
        // One that cannot be read has ended.
        let stored = bytes.and_then(|bytes| Record::from_bytes(&bytes).ok());
        Ok(Past { in_memory, stored, now: self.clock.now() })
    }
}

/// Verdicts of before, whether they still hold or not.
struct Past {
    in_memory: Option<Record>,
    stored: Option<Record>,
    now: UnixTime,
}

impl Past {
    /// The one that counts, if it holds.
    fn record(&self) -> Option<&Record> {
        self.in_memory.as_ref().filter(|record| record.holds_at(self.now)).or(self.stored.as_ref())
    }

    /// Whether a verdict that has ended must not be made again from the same evidence: it found something wanting, and only new
    /// evidence can change that. So with one that could not be decided in full: what it found wanting is asked for again with what it
    /// could not ask for.
    fn wants_new_evidence(&self, effort: Effort) -> bool {
        use policy::Finding::{Failed, Undecided};
        let failed = |finding: &policy::PolicyFinding| matches!(finding.finding, Failed { .. });
        let wanting = |finding: &policy::PolicyFinding| matches!(finding.finding, Failed { .. } | Undecided { .. });
        let in_memory =
            self.in_memory.as_ref().is_some_and(|it| it.refusal().is_some() || it.findings().iter().any(failed));
        let of_before = self.record().is_some_and(|it| it.refusal().is_some() || it.findings().iter().any(wanting));
        (effort != Effort::Stored && in_memory) || of_before
    }
}

/// How far a look may go.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Effort {
    /// What is in the store: verdicts, and evidence to judge by again, as far as it goes.
    Stored,
    /// The same, by those who go on to upstream: a verdict by part of what is wanted, that could not be decided in full, is none.
    Settled,
    /// Upstream too.
    Upstream,
    /// The same, and what ends then or before counts as ended: it is to be made anew.
    Beyond(UnixTime),
}

impl Effort {
    /// Whether upstream is not asked.
    fn is_local(self) -> bool {
        matches!(self, Self::Stored | Self::Settled)
    }

    /// Whether an admission suffices.
    fn takes(self, admitted: &Admitted<Manifest>) -> bool {
        match self {
            Self::Beyond(end) => admitted.ends().is_none_or(|ends| ends > end),
            Self::Stored | Self::Settled | Self::Upstream => true,
        }
    }

    /// Whether a verdict suffices. A refusal does.
    fn takes_verdict(self, verdict: &Result<impl Borrow<Admitted<Manifest>>, ApiError>) -> bool {
        verdict.as_ref().map_or(true, |admitted| self.takes(admitted.borrow()))
    }
}

fn key_of(record: &Record) -> VerdictKey {
    (record.repository().clone(), record.digest().clone(), record.fingerprint())
}

fn concluded(outcome: Outcome) -> Result<Admitted<Manifest>, ApiError> {
    match outcome {
        Outcome::Admitted(admitted) => Ok(admitted),
        Outcome::Refused(refusal) | Outcome::Absent(refusal) => Err(ApiError::Refused(Arc::new(refusal))),
        Outcome::Undecided(undecided) => Err(ApiError::undecided(format!("cannot decide: {undecided}"))),
    }
}

fn readmitted(readmission: Readmission) -> Option<Result<Admitted<Manifest>, ApiError>> {
    match readmission {
        Readmission::Admitted(admitted) => Some(Ok(admitted)),
        Readmission::Refused(refusal) => Some(Err(ApiError::Refused(Arc::new(refusal)))),
        Readmission::Ended => None,
    }
}

/// Tells a new verdict to log and metrics.
fn told(record: &Record) {
    let (outcome, reason) = match record.effect() {
        policy::Effect::Serve => ("served", "none"),
        policy::Effect::Warn(_) => ("warned", "none"),
        policy::Effect::Refuse(refusal) => ("refused", refusal.reason.as_str()),
        policy::Effect::Absent(refusal) => ("absent", refusal.reason.as_str()),
    };
    for finding in record.findings() {
        let policy = finding.policy.clone().unwrap_or_else(|| "no_match".to_owned());
        counter!("pratique_verdicts_total", "policy" => policy, "outcome" => outcome, "reason" => reason).increment(1);
    }
    let (repository, digest) = (record.repository(), record.digest());
    match record.effect() {
        policy::Effect::Serve => {
            tracing::info!(%repository, %digest, verdict = outcome, "image admitted: {}", findings(record))
        }
        policy::Effect::Warn(warning) => {
            tracing::warn!(%repository, %digest, verdict = outcome, "image served with a warning: {warning}")
        }
        policy::Effect::Refuse(refusal) | policy::Effect::Absent(refusal) => {
            tracing::info!(%repository, %digest, verdict = outcome, reason, "image refused: {}", refusal.message);
        }
    }
}

fn findings(record: &Record) -> String {
    let one = |finding: &policy::PolicyFinding| {
        let policy = finding.policy.as_deref().unwrap_or("no_match");
        match &finding.finding {
            policy::Finding::Verified { authority, pieces } => {
                format!("verified for policy {policy} by authority \"{authority}\": {}", signed_by(pieces))
            }
            policy::Finding::Unverified { by } => format!("unverified, let in by {by}"),
            policy::Finding::Failed { message, .. } => message.clone(),
            policy::Finding::Undecided { why } => format!("policy {policy} undecided: {why}"),
            // A kind of finding that this build does not know is not called anything else.
            _ => format!("policy {policy}: unknown finding"),
        }
    };
    record.findings().iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Who made the signatures, each once, and for what.
fn signed_by(pieces: &[policy::VerifiedPiece]) -> String {
    let attested = |piece: &policy::VerifiedPiece| piece.attestation.as_ref().map(|attested| attested.name.clone());
    let signers: BTreeSet<String> = pieces.iter().map(|piece| piece.signer.to_string()).collect();
    let attested: BTreeSet<String> = pieces.iter().filter_map(attested).collect();
    let signers = signers.into_iter().collect::<Vec<_>>().join(" and ");
    if attested.is_empty() {
        return signers;
    }
    format!("{} attested by {signers}", attested.into_iter().collect::<Vec<_>>().join(", "))
}
