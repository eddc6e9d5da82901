//! Transparency logs: their promise to log an entry (SET), and the proof that it is in the tree.
//!
//! This is our own check, by RFC 9162 and the crates' signature verification. The crates check both too, but only together with a
//! comparison of entry and signature that does not know all kinds of entry, and that reads a statement of any size into memory.

use oci::UnixTime;
use sigstore_crypto::VerificationKey;
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Checkpoint, InclusionProof, Sha256Hash, SignatureBytes, TimeRange};

use super::sealed::Entry;
use crate::{refusal::Reason, verifier::Flaw};

/// Most signatures of one checkpoint: the log's own and its witnesses'.
const CHECKPOINT_SIGNATURES_MAX: usize = 64;
/// Most of them by the hint of one log: each costs a verification, and a log signs once.
const SIGNATURES_OF_ONE_LOG_MAX: usize = 4;

/// The logs of a trust root.
pub(super) struct Logs(Vec<Log>);

struct Log {
    id: Vec<u8>,
    key: VerificationKey,
    window: Option<TimeRange>,
}

/// What logs say of an entry. Not whether it is about the signature that it came with.
pub(super) struct Vouched<'a> {
    /// When it was taken in, in seconds since 1970, where the log promised that.
    pub at: Option<i64>,
    by: Vec<&'a Log>,
}

impl Logs {
    /// Keys of a kind that is not supported are passed over: nothing is verified by them.
    pub(super) fn of(root: &TrustedRoot) -> Self {
        let log = |log: &sigstore_trust_root::TransparencyLog| {
            let key = VerificationKey::from_spki(&log.public_key.raw_bytes).ok()?;
            Some(Log { id: log.log_id.key_id.as_bytes().to_vec(), key, window: log.public_key.valid_for })
        };
        Self(root.tlogs.iter().filter_map(log).collect())
    }

    /// Whether a log vouches for each of the entries, of which there must be one: by its promise or by a proof, by all that is there.
    /// Where they are to be `proven`, a promise does not suffice.
    pub(super) fn vouch(&self, entries: &[Entry], proven: bool) -> Result<Vec<Vouched<'_>>, Flaw> {
        if entries.is_empty() {
            return Err(missing("there is no log entry"));
        }
        entries.iter().map(|entry| self.vouch_for(entry, proven)).collect()
    }

    fn vouch_for(&self, entry: &Entry, proven: bool) -> Result<Vouched<'_>, Flaw> {
        let mut vouched = Vouched { at: None, by: Vec::new() };
        if let Some(promise) = &entry.inclusion_promise {
            let signature = SignatureBytes::from_bytes(promise.signed_entry_timestamp.as_bytes());
            vouched.by.push(self.promised(entry, &signature)?);
            // Entries of Rekor v2 have no time, and no promise that would cover it.
            vouched.at = (!entry.is_v2()).then_some(entry.integrated_time.as_i64());
        }
        match &entry.inclusion_proof {
            Some(proof) => vouched.by.push(self.included(entry, proof)?),
            None if proven => return Err(missing("a log entry has no inclusion proof")),
            None if vouched.by.is_empty() => return Err(missing("a log entry has neither promise nor proof")),
            None => {}
        }
        Ok(vouched)
    }

    /// Whether the log that the entry names promised to log it at the time that it names.
    fn promised(&self, entry: &Entry, signature: &SignatureBytes) -> Result<&Log, Flaw> {
        let id = entry.log_id.key_id.as_bytes();
        let log = self.0.iter().find(|log| log.id == id);
        let log =
            log.ok_or_else(|| invalid(&format!("no log of the trust root has the id \"{}\"", hex::encode(id))))?;
        if !log.was_valid_at(entry.integrated_time.as_i64()) {
            return Err(invalid("the log's key was not valid when it promised to log the entry"));
        }
        let body = entry.canonicalized_body.to_base64();
        let promise = promise(&body, entry.integrated_time.get(), id, entry.log_index.get());
        let forged = |_| invalid("the promise to log it (SET) is not by the log, or about another entry");
        log.key.verify(promise, signature).map_err(forged)?;
        Ok(log)
    }

    /// Whether the entry is in the tree of a checkpoint that a log of the trust root signed.
    ///
    /// Rekor v2 signs what tree and root are, and the bundle's copy of both counts for nothing; in Rekor v1 the copies must agree.
    fn included(&self, entry: &Entry, proof: &InclusionProof) -> Result<&Log, Flaw> {
        let checkpoint = proof.checkpoint.checkpoint();
        let checkpoint = checkpoint.ok_or_else(|| invalid("an inclusion proof has no checkpoint"))?;
        let (index, size) = if entry.is_v2() {
            (entry.log_index.get(), checkpoint.tree_size())
        } else {
            (proof.log_index.get(), proof.tree_size)
        };
        if !entry.is_v2() && *checkpoint.root_hash() != proof.root_hash {
            return Err(invalid("an inclusion proof and its checkpoint are about different trees"));
        }
        let root = root(entry.canonicalized_body.as_bytes(), index, size, &proof.hashes);
        if root.as_ref() != Some(checkpoint.root_hash()) {
            return Err(invalid("the inclusion proof does not lead to the checkpoint"));
        }
        self.signed(checkpoint)
    }

    fn signed(&self, checkpoint: &Checkpoint) -> Result<&Log, Flaw> {
        let signatures = checkpoint.signatures();
        if signatures.len() > CHECKPOINT_SIGNATURES_MAX {
            return Err(invalid(&format!("a checkpoint has more than {CHECKPOINT_SIGNATURES_MAX} signatures")));
        }
        let signed_by = |log: &&Log| {
            let hinted = signatures.iter().filter(|signature| log.id.get(..4) == Some(signature.key_id.as_slice()));
            let mut hinted = hinted.take(SIGNATURES_OF_ONE_LOG_MAX);
            hinted.any(|signature| log.key.verify(checkpoint.signed_data(), &signature.signature).is_ok())
        };
        let log = self.0.iter().find(signed_by);
        log.ok_or_else(|| invalid("the checkpoint is not signed by a log of the trust root"))
    }
}

impl Vouched<'_> {
    /// Whether the logs' keys were valid at the trusted times of the signature. A checkpoint has no time of its own.
    pub(super) fn check_times(&self, seconds: &[i64]) -> Result<(), Flaw> {
        if self.by.iter().all(|log| seconds.iter().all(|time| log.was_valid_at(*time))) {
            return Ok(());
        }
        Err(invalid("the log's key was not valid at the trusted time of the signature"))
    }

    /// Whether the logs' keys can be believed where no trusted time says when the entry was made: they have begun, and have no end after
    /// which it may have been made.
    pub(super) fn check_undated(&self, now: UnixTime) -> Result<(), Flaw> {
        let now = i64::try_from(now.as_millis() / 1000).unwrap_or(i64::MAX);
        if self
            .by
            .iter()
            .all(|log| log.window.as_ref().is_none_or(|it| it.end.is_none() && it.start.as_second() <= now))
        {
            return Ok(());
        }
        Err(invalid("no trusted time says when the entry was made, and the log's key is not valid for ever"))
    }
}

impl Log {
    fn was_valid_at(&self, seconds: i64) -> bool {
        let Some(window) = self.window else { return true };
        window.start.as_second() <= seconds && window.end.is_none_or(|end| seconds <= end.as_second())
    }
}

impl Entry {
    /// Of Rekor v2, whose only kind of entry this is.
    fn is_v2(&self) -> bool {
        self.kind_version.kind == "hashedrekord" && self.kind_version.version == "0.0.2"
    }
}

/// What a SET is over, by RFC 8785: names in order, no space. Nothing in it needs escaping.
pub(super) fn promise(body: &str, time: u64, log_id: &[u8], index: u64) -> String {
    let log_id = hex::encode(log_id);
    format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log_id}","logIndex":{index}}}"#)
}

/// The root of a tree of `size` leaves, as the path from a leaf leads to it (RFC 9162, 2.1.3.2); none where the path is too long or
/// too short.
pub(super) fn root(leaf: &[u8], index: u64, size: u64, path: &[Sha256Hash]) -> Option<Sha256Hash> {
    let (mut at, mut last) = (index, size.checked_sub(1)?);
    if at > last {
        return None;
    }
    let mut hash = node(&[&[0], leaf]);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(&[&[1], sibling.as_slice(), hash.as_slice()]);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&[&[1], hash.as_slice(), sibling.as_slice()]);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

pub(super) fn node(parts: &[&[u8]]) -> Sha256Hash {
    let mut hasher = sigstore_crypto::Sha256Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn missing(detail: &str) -> Flaw {
    Flaw::new(Reason::LogMissing, format!("not in the transparency log: {detail}"))
}

pub(super) fn invalid(detail: &str) -> Flaw {
    Flaw::new(Reason::LogInvalid, format!("the transparency log entry is not good: {detail}"))
}
