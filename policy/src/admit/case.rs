//! One image before the authorities: each piece of evidence read once, and examined at most once per question.

mod worth;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use oci::{Algorithm, Digest, UnixTime};

use super::{
    failure::{self, Failure},
    rule,
};
use crate::{
    authority::{Attestation, Authority, AuthorityKind, Proof, StaticAction, Trust},
    condition::Conditions,
    evidence::{Origin, Unasked, UntrustedEvidence, UntrustedPiece},
    policy_set::{Policy, PolicyRule},
    record::{Attested, AuthorityFinding, Finding, PIECES_TOLD_MAX, PieceFinding, VerifiedPiece},
    refusal::{Reason, told},
    rego::RegoBounds,
    verifier::{By, Claim, Demand, Examined, Flaw, Names, Signed, Verifier, examine},
};

pub use worth::Worth;

/// Most places told in one message.
const TOLD_MAX: usize = 4;

/// Who verifies by which trust root; the configured one is among them.
pub(super) type Verifiers = BTreeMap<Trust, Box<dyn Verifier>>;

/// The subject and its evidence, with what has been found out about it so far.
pub(super) struct Case<'a> {
    pub(super) verifiers: &'a Verifiers,
    pub(super) subject: &'a Digest,
    pub(super) evidence: &'a UntrustedEvidence,
    pub(super) root_usable: bool,
    pub(super) bounds: &'a RegoBounds,
    pub(super) now: UnixTime,
    pieces: Vec<Piece<'a>>,
    /// Every good piece is told, not only the first that suffices.
    tells_all: bool,
    /// A rule asked what time it is, since this was last looked at.
    read_clock: Cell<bool>,
}

struct Piece<'a> {
    untrusted: &'a UntrustedPiece,
    claim: OnceCell<Examined<Claim>>,
    /// By certificate: the same question for every keyless authority that wants it proven alike.
    by_certificate: RefCell<ByProof<'a>>,
}

/// Who signed, by whether the certificate log counts, and by the proof that is wanted.
type ByProof<'a> = BTreeMap<(bool, &'a Proof), Rc<Examined<Signed>>>;

/// What became of one policy, before it is said what that leads to.
pub(super) struct PolicyOutcome {
    pub outcome: Outcome,
    pub authorities: Vec<AuthorityFinding>,
    /// A rule looked at the time: another time, another outcome.
    pub read_clock: bool,
}

pub(super) enum Outcome {
    Passed(Finding),
    Failed(Failure),
    Undecided(String),
}

/// What satisfied an authority.
pub(super) struct Satisfied<'a> {
    pub authority: &'a Authority,
    /// Good pieces: the first that suffices, or all of them where a rule wants to see them.
    pub pieces: Vec<Good<'a>>,
}

/// A piece that is good, and says what is wanted.
pub(super) struct Good<'a> {
    pub piece: &'a UntrustedPiece,
    pub signed: Signed,
    /// As what its signer named the image; where no rule wants to see all, also those of what was signed as it was.
    pub names: Names,
    /// Which attestation of the authority it is, and as what type; none for a signature.
    pub attested: Option<&'a Attestation>,
}

/// What became of one authority.
struct Heard<'a> {
    outcome: Result<Satisfied<'a>, Unsatisfied>,
    told: Vec<PieceFinding>,
    /// Why a satisfied authority may have more to say than was heard. It matters to a rule over all that was found.
    unheard: Option<String>,
}

enum Unsatisfied {
    Failed(Failure),
    Undecided(String),
}

impl<'a> Case<'a> {
    pub(super) fn new(
        verifiers: &'a Verifiers,
        (subject, evidence): (&'a Digest, &'a UntrustedEvidence),
        bounds: &'a RegoBounds,
        root_usable: bool,
        now: UnixTime,
    ) -> Self {
        let mut pieces: Vec<_> = evidence.pieces.iter().collect();
        // Whatever order upstream told them in, the same verdict and the same words come out.
        pieces.sort_by(|a, b| (a.digest(), &a.form, &a.origin).cmp(&(b.digest(), &b.form, &b.origin)));
        let piece = |untrusted| Piece { untrusted, claim: OnceCell::new(), by_certificate: RefCell::default() };
        let pieces = pieces.into_iter().map(piece).collect();
        Self {
            verifiers,
            subject,
            evidence,
            root_usable,
            bounds,
            now,
            pieces,
            tells_all: false,
            read_clock: Cell::new(false),
        }
    }

    /// The same, telling every good piece.
    pub(super) fn telling_all(mut self) -> Self {
        self.tells_all = true;
        self
    }

    /// Judges one policy.
    ///
    /// 1. Any authority suffices, and the first that is satisfied ends the search, unless a rule wants to see them all.
    /// 2. The policy's rule, where it has one, must agree.
    /// 3. Undecided only where it has not passed and what is not known could still make it.
    pub(super) fn policy(&self, policy: &'a Policy) -> PolicyOutcome {
        self.read_clock.set(false);
        let (mut satisfied, mut failures, mut undecided, mut findings) = (Vec::new(), Vec::new(), None, Vec::new());
        // 1.
        for authority in policy.authorities() {
            let Heard { outcome, told, unheard } = self.authority(authority, policy);
            findings.push(finding(authority, outcome.is_ok(), told));
            undecided = undecided.or(unheard.filter(|_| policy.rule().is_some()));
            match outcome {
                Ok(one) => satisfied.push(one),
                Err(Unsatisfied::Failed(failure)) => failures.push(failure),
                Err(Unsatisfied::Undecided(why)) => undecided = undecided.or(Some(why)),
            }
            if !satisfied.is_empty() && policy.rule().is_none() {
                break;
            }
        }
        let outcome = if satisfied.is_empty() {
            undecided.map_or_else(|| Outcome::Failed(failure::together(failures)), Outcome::Undecided)
        } else {
            self.ruled(policy.rule(), &satisfied, undecided) // 2.
        };
        PolicyOutcome { outcome, authorities: findings, read_clock: self.read_clock.get() }
    }

    /// What the policy's rule says about what the authorities found.
    fn ruled(&self, rule: Option<&PolicyRule>, satisfied: &[Satisfied<'_>], undecided: Option<String>) -> Outcome {
        let Some(rule) = rule else { return passed(satisfied) };
        match rule::of_policy(self, rule, satisfied) {
            // A rule may ask for what is not there: what was not heard is not nothing.
            Examined::Good(()) => undecided.map_or_else(|| passed(satisfied), Outcome::Undecided),
            Examined::Panicked => Outcome::Undecided("the policy's rule could not be evaluated".to_owned()),
            // 3. With more evidence it might agree.
            Examined::Flawed(flaw) => match undecided.or_else(|| undecidable(&flaw)) {
                Some(why) => Outcome::Undecided(why),
                None => Outcome::Failed(Failure {
                    authority: None,
                    reason: flaw.reason,
                    message: flaw.detail,
                    absent: false,
                }),
            },
        }
    }

    fn authority(&self, authority: &'a Authority, policy: &Policy) -> Heard<'a> {
        match &authority.kind {
            AuthorityKind::Static(StaticAction::Pass) => {
                Heard { outcome: Ok(Satisfied { authority, pieces: Vec::new() }), told: Vec::new(), unheard: None }
            }
            AuthorityKind::Static(StaticAction::Fail { message }) => {
                let failure = failure::disallowed(&authority.name, message.as_deref());
                Heard { outcome: Err(Unsatisfied::Failed(failure)), told: Vec::new(), unheard: None }
            }
            AuthorityKind::Keyless(_) | AuthorityKind::Key(_) => self.by_evidence(authority, policy),
        }
    }

    /// Asks for a signature, or for each attestation that is listed. A piece that is no good spoils nothing; a place that did not
    /// answer, or a piece on which an examination failed, leaves the authority undecided where the others do not satisfy it.
    fn by_evidence(&self, authority: &'a Authority, policy: &Policy) -> Heard<'a> {
        let fail = |reason, detail: &str| Heard {
            outcome: Err(Unsatisfied::Failed(failure::of(&authority.name, reason, detail))),
            told: Vec::new(),
            unheard: None,
        };
        if self.subject.algorithm() != Algorithm::Sha256 {
            return fail(
                Reason::Sha512Unsupported,
                "signatures name sha256 digests, and this image is asked for by another",
            );
        }
        if !self.root_usable {
            return fail(Reason::TrustRootExpired, "the trust root is older than policy.trust_root_max_age");
        }
        let (mut told, mut pieces, mut unheard) = (Vec::new(), Vec::new(), self.unasked(authority));
        let wanted: Vec<_> = if authority.attestations.is_empty() {
            vec![None]
        } else {
            authority.attestations.iter().map(Some).collect()
        };
        for attestation in wanted {
            match self.search(authority, attestation, policy, &mut told) {
                Ok((good, doubt)) => {
                    pieces.extend(good);
                    unheard = unheard.or(doubt);
                }
                Err(why) => return Heard { outcome: Err(why), told, unheard: None },
            }
        }
        Heard { outcome: Ok(Satisfied { authority, pieces }), told, unheard }
    }

    /// The pieces that are good for one question, and a doubt about another; the first signed suffices, unless the policy's rule wants to
    /// see all.
    ///
    /// 1. Which are signed as it is asked.
    /// 2. Of these the one that was signed first and says what is wanted: who signs an old image again makes it no younger, and who can
    ///    only withhold evidence can make it look younger, not older.
    fn search(
        &self,
        authority: &'a Authority,
        attested: Option<&'a Attestation>,
        policy: &Policy,
        told: &mut Vec<PieceFinding>,
    ) -> Result<(Vec<Good<'a>>, Option<String>), Unsatisfied> {
        let (mut good, mut flaws, mut doubts, mut findings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let name = attested.map(|attested| attested.name.clone());
        let mut note = |untrusted: &UntrustedPiece, failed: Option<Reason>, told| {
            let (evidence, origin) = (untrusted.digest().clone(), untrusted.origin.clone());
            let piece = failed.is_none().then(|| untrusted.form.piece(&evidence));
            findings.push(PieceFinding { evidence, origin, attestation: name.clone(), piece, failed, told });
        };
        let wants_all = policy.rule().is_some() || self.tells_all;
        // 1.
        let mut signed: Vec<_> = self
            .pieces_for(authority)
            .map(|piece| (piece, self.signed_as_asked(piece, authority, attested, policy.conditions())))
            .collect();
        let mut names = Names::default();
        if !wants_all {
            signed.sort_by_key(|(_, examined)| first_signed(examined));
            names.add(signed.iter().filter_map(|(piece, examined)| self.names(piece, examined)).flat_map(Names::iter));
        }
        // 2.
        for (piece, examined) in signed {
            match examined.and_then(|signed| self.says_as_asked(piece, attested).and_then(|()| Examined::Good(signed)))
            {
                Examined::Good(signed) => {
                    note(piece.untrusted, None, format!("signed by {}", signed.signer));
                    let own = || self.claim_of(piece).map(|claim| claim.names().clone()).unwrap_or_default();
                    let names = if wants_all { own() } else { std::mem::take(&mut names) };
                    good.push(Good { piece: piece.untrusted, signed, names, attested });
                    if !wants_all {
                        break;
                    }
                }
                Examined::Flawed(flaw) => {
                    note(piece.untrusted, Some(flaw.reason), flaw.detail.clone());
                    doubts.extend(undecidable(&flaw));
                    flaws.push(flaw);
                }
                Examined::Panicked => doubts.push("the verifier failed on a piece of evidence".to_owned()),
            }
        }
        if !good.is_empty() {
            // Pieces of another kind than the one that was found explain nothing.
            findings.retain(|finding| !finding.failed.is_some_and(is_another_kind));
            told.append(&mut findings);
            return Ok((good, doubts.into_iter().next()));
        }
        told.append(&mut findings);
        if let Some(doubt) = doubts.into_iter().next() {
            return Err(Unsatisfied::Undecided(doubt));
        }
        if let Some(why) = self.unasked(authority) {
            return Err(Unsatisfied::Undecided(why));
        }
        let unread =
            self.evidence.flawed.iter().map(|what| Flaw::new(Reason::EvidenceUnreadable, crate::refusal::told(what)));
        flaws.extend(unread);
        let missing = failure::Missing { authority: &authority.name, attested, looked_at: self.looked_at(authority) };
        Err(Unsatisfied::Failed(failure::closest(&missing, flaws)))
    }

    /// Whether a piece is what is asked for, in the order of cost: what it says, who signed, conditions, the rule.
    fn answers(
        &self,
        piece: &Piece<'a>,
        authority: &'a Authority,
        attested: Option<&'a Attestation>,
        conditions: &Conditions,
    ) -> Examined<()> {
        self.signed_as_asked(piece, authority, attested, conditions).and_then(|_| self.says_as_asked(piece, attested))
    }

    /// Whether a piece is of the kind that is asked for, by whom it is asked for, under the policy's conditions.
    fn signed_as_asked(
        &self,
        piece: &Piece<'a>,
        authority: &'a Authority,
        attested: Option<&'a Attestation>,
        conditions: &Conditions,
    ) -> Examined<Signed> {
        let claim = match self.claim(piece) {
            Examined::Good(claim) => claim,
            Examined::Flawed(flaw) => return Examined::Flawed(flaw.clone()),
            Examined::Panicked => return Examined::Panicked,
        };
        if let Err(flaw) = says(claim, attested) {
            return Examined::Flawed(flaw);
        }
        self.signed(piece, authority).and_then(|signed| {
            let met = conditions.met_by(&signed.workflow, claim.annotations());
            met.map(|()| signed).map_err(|why| Flaw::new(Reason::ConditionUnmet, why)).into()
        })
    }

    /// Whether the rule of the attestation, where it has one, agrees with a piece that is signed as asked.
    fn says_as_asked(&self, piece: &Piece<'a>, attested: Option<&'a Attestation>) -> Examined<()> {
        match attested.and_then(|attested| Some((attested, attested.rule.as_ref()?))) {
            None => Examined::Good(()),
            Some((attested, rule)) => rule::of_attestation(self, piece.untrusted, attested, rule),
        }
    }

    /// As what the image is named by a piece that is signed as asked.
    fn names<'p>(&self, piece: &'p Piece<'a>, examined: &Examined<Signed>) -> Option<&'p Names> {
        matches!(examined, Examined::Good(_)).then(|| self.claim_of(piece).map(Claim::names)).flatten()
    }

    fn claim_of<'p>(&self, piece: &'p Piece<'a>) -> Option<&'p Claim> {
        match self.claim(piece) {
            Examined::Good(claim) => Some(claim),
            Examined::Flawed(_) | Examined::Panicked => None,
        }
    }

    fn claim<'p>(&self, piece: &'p Piece<'a>) -> &'p Examined<Claim> {
        piece.claim.get_or_init(|| examine(|| self.verifier(&Trust::default())?.read(piece.untrusted, self.subject)))
    }

    fn signed(&self, piece: &Piece<'a>, authority: &'a Authority) -> Examined<Signed> {
        let proof = &authority.proof;
        let ask = |by| {
            examine(|| {
                self.verifier(&proof.trust)?.verify(piece.untrusted, self.subject, Demand { by, proof, now: self.now })
            })
        };
        match &authority.kind {
            AuthorityKind::Key(key) => ask(By::Key(key)),
            AuthorityKind::Keyless(keyless) => {
                let sct = !keyless.ignore_sct;
                let known = piece.by_certificate.borrow().get(&(sct, proof)).cloned();
                let examined = known.unwrap_or_else(|| {
                    let examined = Rc::new(ask(By::Certificate { sct }));
                    piece.by_certificate.borrow_mut().insert((sct, proof), Rc::clone(&examined));
                    examined
                });
                match examined.as_ref() {
                    Examined::Good(signed) => {
                        failure::accept(&keyless.identities, &signed.signer).map(|()| signed.clone()).into()
                    }
                    other @ (Examined::Flawed(_) | Examined::Panicked) => other.clone(),
                }
            }
            AuthorityKind::Static(_) => {
                Examined::Flawed(Flaw::new(Reason::SignerUnsuitable, "nobody is asked for a signature"))
            }
        }
    }

    /// A judge makes one for every trust root that a policy names; were one missing, nothing is verified by another.
    fn verifier(&self, trust: &Trust) -> Result<&dyn Verifier, Flaw> {
        let verifier = self.verifiers.get(trust).map(AsRef::as_ref);
        verifier.ok_or_else(|| Flaw::new(Reason::CertificateUntrusted, "the trust root is not there"))
    }

    /// What lies where the authority looks.
    fn pieces_for(&self, authority: &Authority) -> impl Iterator<Item = &Piece<'a>> {
        let origins: Vec<Origin> = authority.origins().collect();
        self.pieces.iter().filter(move |piece| origins.contains(&piece.untrusted.origin))
    }

    fn looked_at(&self, authority: &Authority) -> String {
        let asked: Vec<_> = authority.origins().filter(|origin| self.evidence.asked.contains(origin)).collect();
        let asked: Vec<_> = asked.iter().map(ToString::to_string).collect();
        if asked.is_empty() { "nothing was asked".to_owned() } else { format!("looked at: {}", asked.join(", ")) }
    }

    /// The places of this authority that were not heard; none where all were.
    fn unasked(&self, authority: &Authority) -> Option<String> {
        let told = |unasked: &Unasked| format!("{}: {}", unasked.origin, told(&unasked.why));
        let origins: Vec<Origin> = authority.origins().collect();
        let unasked = self.evidence.unasked.iter().filter(|unasked| origins.contains(&unasked.origin));
        let mut unasked: Vec<_> = unasked.map(told).collect();
        unasked.sort_unstable();
        unasked.truncate(TOLD_MAX);
        (!unasked.is_empty()).then(|| format!("could not ask {}", unasked.join("; ")))
    }

    /// The statement within a piece, as bytes that were signed.
    pub(super) fn statement(&self, piece: &UntrustedPiece) -> Result<Vec<u8>, Flaw> {
        self.verifier(&Trust::default())?.statement(piece)
    }

    pub(super) fn note_clock(&self) {
        self.read_clock.set(true);
    }
}

/// Whether the claim is of the kind that is asked for.
fn says(claim: &Claim, attested: Option<&Attestation>) -> Result<(), Flaw> {
    match (attested, claim) {
        (None, Claim::Signature { .. }) => Ok(()),
        (None, Claim::Attestation { predicate_type, .. }) => {
            let detail = format!("is an attestation of type \"{}\" and no signature", told(predicate_type));
            Err(Flaw::new(Reason::NotASignature, detail))
        }
        (Some(wanted), claim) => match claim.predicate_type() {
            Some(seen) if seen == wanted.predicate_type.uri() => Ok(()),
            Some(seen) => {
                Err(Flaw::new(Reason::AttestationMissing, format!("is an attestation of type \"{}\"", told(seen))))
            }
            None => Err(Flaw::new(Reason::AttestationMissing, "is a signature and no attestation")),
        },
    }
}

/// The order in which pieces are looked at: those without a signed time after all others, those that are no good first. The sort is stable:
/// among equals the digest decides.
fn first_signed(examined: &Examined<Signed>) -> Option<(bool, Option<UnixTime>)> {
    match examined {
        Examined::Good(signed) => Some((signed.at.is_none(), signed.at)),
        Examined::Flawed(_) | Examined::Panicked => None,
    }
}

/// A rule that could not be run says neither yes nor no.
fn undecidable(flaw: &Flaw) -> Option<String> {
    (flaw.reason == Reason::RuleUndecided).then(|| flaw.detail.clone())
}

fn passed(satisfied: &[Satisfied<'_>]) -> Outcome {
    // Where several are satisfied, one that was verified is told rather than one that nobody asked.
    let told = satisfied.iter().find(|one| !one.pieces.is_empty()).or_else(|| satisfied.first());
    let Some(Satisfied { authority, pieces }) = told else {
        return Outcome::Failed(failure::together(Vec::new()));
    };
    Outcome::Passed(if pieces.is_empty() {
        Finding::Unverified { by: format!("static authority \"{}\"", crate::refusal::told(&authority.name)) }
    } else {
        Finding::Verified { authority: authority.name.clone(), pieces: pieces.iter().map(verified).collect() }
    })
}

fn verified(good: &Good<'_>) -> VerifiedPiece {
    let Signed { signer, workflow, at, .. } = good.signed.clone();
    let attestation = good.attested.map(|attested| Attested {
        name: attested.name.clone(),
        predicate_type: attested.predicate_type.uri().to_owned(),
    });
    let (evidence, origin) = (good.piece.digest().clone(), good.piece.origin.clone());
    let names = good.names.iter().map(str::to_owned).collect();
    VerifiedPiece { attestation, signer, workflow, signed_at: at, names, evidence, origin }
}

fn finding(authority: &Authority, satisfied: bool, mut pieces: Vec<PieceFinding>) -> AuthorityFinding {
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.failed.map_or(u8::MAX, |reason| reason as u8)));
    let pieces_not_told = pieces.len().saturating_sub(PIECES_TOLD_MAX);
    pieces.truncate(PIECES_TOLD_MAX);
    AuthorityFinding { authority: authority.name.clone(), satisfied, pieces, pieces_not_told }
}

/// Whether a piece was not even of the kind that was looked for.
pub(super) fn is_another_kind(reason: Reason) -> bool {
    matches!(reason, Reason::NotASignature | Reason::AttestationMissing)
}
