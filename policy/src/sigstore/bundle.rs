//! Sigstore bundles, as they come from a registry.

use sigstore_types::{Bundle, MediaType};

use super::statement::because;
use crate::{
    refusal::{Reason, told},
    verifier::Flaw,
};

/// Deepest nesting; real bundles need eight.
const JSON_DEPTH_MAX: usize = 64;
/// Most log entries, and most timestamps, of one bundle. Each costs a verification; real ones have one.
const PROOFS_MAX: usize = 8;

/// Reads a bundle of the versions that bring their proof.
///
/// Version 0.1 may leave the proof out, and the version is not signed: who could choose it could choose what is checked. It is
/// taken only from our own conversion of cosign's annotations, which does not come through here.
pub(super) fn read(bytes: &[u8]) -> Result<Bundle, Flaw> {
    let unreadable = |detail: String| Flaw::new(Reason::EvidenceUnreadable, format!("bundle cannot be read: {detail}"));
    oci::json::check(bytes, JSON_DEPTH_MAX).map_err(|error| unreadable(because(&error)))?;
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    let bundle = Bundle::from_json(text).map_err(|error| unreadable(told(&error.to_string())))?;
    if ![MediaType::Bundle0_2, MediaType::Bundle0_3].contains(&bundle.media_type()) {
        return Err(unreadable(format!("version \"{}\" need not bring its proof", bundle.media_type())));
    }
    let material = &bundle.verification_material;
    let timestamps = &material.timestamp_verification_data.rfc3161_timestamps;
    if material.tlog_entries.len() > PROOFS_MAX || timestamps.len() > PROOFS_MAX {
        return Err(unreadable(format!("it has more than {PROOFS_MAX} log entries or timestamps")));
    }
    for entry in &material.tlog_entries {
        oci::json::check(entry.canonicalized_body.as_bytes(), JSON_DEPTH_MAX)
            .map_err(|error| unreadable(format!("log entry: {}", because(&error))))?;
    }
    Ok(bundle)
}

/// At least one log entry, each with its proof. The crates are content with one proof among several entries.
pub(super) fn check_log(bundle: &Bundle) -> Result<(), Flaw> {
    let entries = &bundle.verification_material.tlog_entries;
    if entries.is_empty() {
        return Err(Flaw::new(Reason::LogMissing, "not in the transparency log: the bundle has no log entry"));
    }
    if entries.iter().any(|entry| entry.inclusion_proof.is_none()) {
        return Err(Flaw::new(Reason::LogMissing, "not in the transparency log: a log entry has no inclusion proof"));
    }
    Ok(())
}
