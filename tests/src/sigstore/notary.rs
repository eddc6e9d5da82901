//! What others say of a signature: the log's answer and the authority's timestamp, and what can be wrong with them.

use super::{
    Flaw, Instance, Options, VirtualSigstore, ca,
    entry::{self, Body},
    key::{Key, KeyKind},
    log::{Entry, Log},
    party::{Party, Stranger, Verifier},
    seal::{Saying, Sealed},
    shape::EntryKind,
    signer::Signer,
    token::Token,
};

/// A log's answer as evidence carries it.
pub(super) struct Logged {
    pub(super) entry: Entry,
    pub(super) kind: &'static str,
    pub(super) version: &'static str,
    pub(super) with_set: bool,
    pub(super) with_proof: bool,
}

/// Everything that a layout writes down.
pub(super) struct Piece {
    pub(super) sealed: Sealed,
    /// None where nobody was told; one, or two where that is the flaw.
    pub(super) logged: Vec<Logged>,
    pub(super) token: Option<Vec<u8>>,
    /// Another document of the same signer's, or the same one sealed by somebody else: what a flaw puts beside the right one.
    pub(super) spare: Sealed,
}

/// Seals a document, and has it logged and dated. Without a Sigstore nobody is told.
pub(super) fn make(
    party: &Party<'_>,
    sigstore: Option<&VirtualSigstore>,
    saying: &Saying<'_>,
    options: &Options,
) -> Piece {
    let other = saying.sealed_about_another(party, options);
    let mut sealed = if options.has(Flaw::PayloadSwapped) { other.clone() } else { saying.sealed(party, options) };
    let mut piece = Piece { sealed: sealed.clone(), logged: Vec::new(), token: None, spare: other };
    if let Some(sigstore) = sigstore {
        let desk = Desk { sigstore, party, saying, sealed: &sealed, other: &piece.spare, options };
        piece.logged = desk.logged();
        piece.token = sigstore.token(&sealed.signature, options);
        if options.has(Flaw::TwoSignatures) {
            piece.spare = saying.sealed(&sigstore.stranger(party).party(), options);
        }
    }
    if options.has(Flaw::PayloadSwapped) {
        sealed.payload = (saying.write)(saying.subject);
        piece.sealed = sealed;
    }
    piece
}

/// Where a document is handed in to be logged.
struct Desk<'a> {
    sigstore: &'a VirtualSigstore,
    party: &'a Party<'a>,
    saying: &'a Saying<'a>,
    sealed: &'a Sealed,
    /// A document about another image, sealed by the same party.
    other: &'a Sealed,
    options: &'a Options,
}

impl Desk<'_> {
    fn logged(&self) -> Vec<Logged> {
        if self.options.has(Flaw::NotLogged) {
            return Vec::new();
        }
        let mut logged = vec![self.log(self.body())];
        if self.options.has(Flaw::SecondEntryUnrelated) || self.options.has(Flaw::LogAnswerTwofold) {
            logged.push(self.log(self.plain(self.party, self.other)));
        }
        logged
    }

    fn plain(&self, party: &Party<'_>, sealed: &Sealed) -> Body {
        entry::body(self.options.entry, party, sealed)
    }

    /// The entry, or what is logged instead.
    fn body(&self) -> Body {
        let has = |flaw| self.options.has(flaw);
        let own = || self.plain(self.party, self.sealed);
        if has(Flaw::EntryOfAnotherImage) {
            self.plain(self.party, self.other)
        } else if has(Flaw::EntryOfAnotherSigner) {
            let stranger = self.sigstore.stranger(self.party);
            self.plain(&stranger.party(), &self.saying.sealed(&stranger.party(), self.options))
        } else if has(Flaw::EntryOfAnotherSignature) {
            self.plain(self.party, &self.saying.sealed(self.party, self.options))
        } else if has(Flaw::EntryHashDiffers) {
            let signature = self.sealed.signature.clone();
            self.plain(self.party, &Sealed { signature, ..self.other.clone() })
        } else if has(Flaw::EntryVerifierDiffers) {
            self.plain(&self.sigstore.stranger(self.party).party(), self.sealed)
        } else if has(Flaw::EntryOfUnknownKind) {
            own().of_unknown_kind()
        } else if has(Flaw::EntryUnreadable) {
            Body { bytes: b"an entry, believe me".to_vec(), ..own() }
        } else if has(Flaw::EntryBodyTwofold) {
            own().after(&self.plain(self.party, self.other))
        } else {
            own()
        }
    }

    /// Has the entry logged, and spoils the answer.
    fn log(&self, Body { kind, version, bytes }: Body) -> Logged {
        let (sigstore, options) = (self.sigstore, self.options);
        let at = options.logged_at();
        let (own, foreign) = (sigstore.own.log(options.entry), || sigstore.foreign().log(options.entry));
        let log = if options.has(Flaw::UnknownLog) { foreign() } else { own };
        let mut entry = if options.has(Flaw::SetOfAnotherEntry) {
            let set = own.append(self.plain(self.party, self.other).bytes, at).set;
            Entry { set, ..own.append(bytes, at) }
        } else {
            log.append(bytes, at)
        };
        if options.has(Flaw::SetForged) {
            entry.set = foreign().promise(&entry.body, at, own.id(), entry.index);
        }
        if options.has(Flaw::LogIdDiffers) {
            entry.log_id = foreign().id();
        }
        if options.has(Flaw::CheckpointForged) {
            let (size, root) = (entry.proof.size, entry.proof.root);
            entry.proof.checkpoint = foreign().checkpoint(size, root, own.id());
        }
        spoil(&mut entry, log, options);
        let (kind, version) = if options.has(Flaw::EntryKindDiffers) { another_kind(kind) } else { (kind, version) };
        Logged {
            kind,
            version,
            with_set: options.entry != EntryKind::RekorV2 && !options.has(Flaw::NoSignedTime),
            with_proof: !options.has(Flaw::ProofMissing) && !options.has(Flaw::Downgraded),
            entry,
        }
    }
}

/// Some kind of entry for envelopes that this is not.
fn another_kind(kind: &str) -> (&'static str, &'static str) {
    if kind == "dsse" { ("intoto", "0.0.2") } else { ("dsse", "0.0.1") }
}

/// Changes an answer in the ways that need no other log.
fn spoil(entry: &mut Entry, log: &Log, options: &Options) {
    let proof = &mut entry.proof;
    if options.has(Flaw::SetFlipped) {
        // The last byte is of the number s, so that the signature stays well-formed.
        flip_last_bit(&mut entry.set);
    }
    if options.has(Flaw::SetEmpty) {
        entry.set.clear();
    }
    if options.has(Flaw::TimeChanged) {
        entry.integrated_time = entry.integrated_time.map(|time| time + 1);
    }
    if options.has(Flaw::ProofBroken) {
        proof.path.iter_mut().take(1).for_each(|sibling| flip_last_bit(sibling));
    }
    if options.has(Flaw::ProofShortened) {
        proof.path.pop();
    }
    if options.has(Flaw::ProofLengthened) {
        proof.path.push(proof.root);
    }
    if options.has(Flaw::ProofOfAnotherEntry) {
        // The one before; its place goes with it, so that the proof is good for what it is of.
        proof.path = log.path(proof.size - 2, proof.size);
        move_to_the_one_before(proof, &mut entry.index, log);
    }
    if options.has(Flaw::ProofIndexWrong) {
        move_to_the_one_before(proof, &mut entry.index, log);
    }
    if options.has(Flaw::ProofSizeWrong) {
        proof.size *= 2;
    }
    if options.has(Flaw::CheckpointMissing) {
        proof.checkpoint.clear();
    }
    if options.has(Flaw::CheckpointUnsigned) {
        let text = proof.checkpoint.split_once("\n\n").map(|(text, _)| format!("{text}\n\n"));
        proof.checkpoint = text.expect("a signed note has an empty line before its signatures");
    }
    if options.has(Flaw::CheckpointOlder) {
        proof.checkpoint = log.older_checkpoint(proof.size);
    }
}

/// Version 1 tells the place in the proof, version 2 in the entry.
fn move_to_the_one_before(proof: &mut super::log::Proof, index: &mut u64, log: &Log) {
    proof.index -= 1;
    if log.generation == super::log::Generation::V2 {
        *index -= 1;
    }
}

pub(super) fn flip_last_bit(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
}

impl VirtualSigstore {
    /// Somebody else who signs by the same means as `party`.
    fn stranger(&self, party: &Party<'_>) -> Stranger {
        match party.verifier {
            Verifier::Certificate(_) => {
                let fork = Signer::fork();
                Stranger::Certified(Box::new(self.certify(&fork, &Options::default())))
            }
            Verifier::Key(_) => Stranger::Keyed(Box::new(Key::generate(KeyKind::P256))),
        }
    }

    /// The authority's timestamp of a signature, where one is asked for.
    pub(super) fn token(&self, signature: &[u8], options: &Options) -> Option<Vec<u8>> {
        if !options.timestamp || options.has(Flaw::TimestampMissing) {
            return None;
        }
        let (own, foreign) = (&self.own.tsa, || &self.foreign().tsa);
        let message = if options.has(Flaw::TimestampOfAnotherSignature) { b"another signature" } else { signature };
        let mut token = Token::by(&own.officer, message, options.stamped_at());
        if options.has(Flaw::TimestampByStranger) || options.has(Flaw::TimestampEmbedsAnother) {
            token = Token::by(&foreign().officer, message, options.stamped_at());
        }
        if options.has(Flaw::TimestampForOtherUse) {
            token = Token::by(own.misfit(), message, options.stamped_at());
        }
        if options.has(Flaw::TimestampForged) {
            token.key = &foreign().officer.key;
        }
        if options.has(Flaw::TimestampEmbedsAnother) {
            token.embedded = &own.officer;
        }
        let mut token = token.written(options);
        if options.has(Flaw::TimestampFlipped) {
            flip_last_bit(&mut token);
        }
        if options.has(Flaw::TimestampTruncated) {
            token.truncate(token.len() / 2);
        }
        Some(token)
    }
}

impl Instance {
    fn log(&self, kind: EntryKind) -> &Log {
        if kind == EntryKind::RekorV2 { &self.log_v2 } else { &self.log }
    }
}

impl Options {
    /// When the certificate begins.
    pub(super) fn began_at(&self) -> u64 {
        if self.has(Flaw::LoggedInTheFuture) { FUTURE } else { self.signed_at }
    }

    fn logged_at(&self) -> u64 {
        if self.has(Flaw::LoggedEarly) {
            return self.began_at() - AWAY;
        }
        self.began_at() + if self.has(Flaw::OutsideValidity) { ca::LEAF_LIFE + AWAY } else { LOGGED_AFTER }
    }

    fn stamped_at(&self) -> u64 {
        if self.has(Flaw::TimestampEarly) {
            return self.began_at() - AWAY;
        }
        let late = self.has(Flaw::OutsideValidity) || self.has(Flaw::TimestampLate);
        self.began_at() + if late { ca::LEAF_LIFE + AWAY } else { STAMPED_AFTER }
    }
}

/// 2039-05-26, when the authority's certificates are still valid.
const FUTURE: u64 = 2_190_000_000;
/// How far outside a certificate's life something happens that happens outside it, in seconds.
const AWAY: u64 = 60;
/// How long after the certificate's beginning a signature is dated, in seconds.
const STAMPED_AFTER: u64 = 1;
/// How long after the certificate's beginning a signature is logged, in seconds.
const LOGGED_AFTER: u64 = 2;
