//! The trust root as the crates want it, narrowed where they would trust too widely.

use sigstore_trust_root::{CertificateAuthority, TrustedRoot};
use sigstore_types::{DerCertificate, TimeRange};
use sigstore_verify::VerificationResult;
use x509_cert::{Certificate, der::Decode as _};

/// Reads a `trusted_root.json`.
///
/// The crates take each certificate of an authority as an anchor for as long as the authority is listed, whatever the
/// certificate itself says. Here each is trusted only while it and all that are above it are valid themselves, so that an expired
/// intermediate vouches for nothing.
pub(super) fn load(text: &str) -> Result<TrustedRoot, String> {
    let mut root = TrustedRoot::from_json(text).map_err(|error| error.to_string())?;
    if root.tlogs.is_empty() && root.certificate_authorities.is_empty() && root.timestamp_authorities.is_empty() {
        return Err("it names no certificate authority, no transparency log and no timestamp authority".to_owned());
    }
    let mut narrowed = Vec::new();
    for authority in &root.certificate_authorities {
        let anchors = anchors(authority)?;
        if anchors.is_empty() {
            return Err(format!("certificate authority {} is valid at no time", authority.uri));
        }
        narrowed.extend(anchors);
    }
    root.certificate_authorities = narrowed;
    Ok(root)
}

/// The trust root without the logs whose keys had ended at one of the trusted times of a signature; none where that leaves out
/// nothing.
///
/// The crates ask for a log's key to be valid at the time in its own promise, and not where a checkpoint is all the log says.
pub(super) fn without_logs_ended_before(root: &TrustedRoot, signed: &VerificationResult) -> Option<TrustedRoot> {
    let ended = |window: Option<TimeRange>| {
        let end = window.and_then(|window| window.end);
        end.is_some_and(|end| signed.verified_timestamps().iter().any(|time| *time > end))
    };
    if !root.tlogs.iter().any(|log| ended(log.public_key.valid_for)) {
        return None;
    }
    let mut in_force = root.clone();
    in_force.tlogs.retain(|log| !ended(log.public_key.valid_for));
    Some(in_force)
}

/// One authority for each certificate, listed as long as the certificate and those above it are valid.
fn anchors(authority: &CertificateAuthority) -> Result<Vec<CertificateAuthority>, String> {
    let mut anchors = Vec::new();
    let mut window = authority.valid_for;
    for entry in authority.cert_chain.certificates.iter().rev() {
        window = Some(both(window, validity(&entry.raw_bytes)?));
        if window.is_some_and(|window| window.end.is_none_or(|end| window.start <= end)) {
            let mut anchor = authority.clone();
            anchor.cert_chain.certificates = vec![entry.clone()];
            anchor.valid_for = window;
            anchors.push(anchor);
        }
    }
    Ok(anchors)
}

fn both(listed: Option<TimeRange>, own: TimeRange) -> TimeRange {
    let Some(listed) = listed else { return own };
    let end = match (listed.end, own.end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    TimeRange::new(listed.start.max(own.start), end)
}

fn validity(certificate: &DerCertificate) -> Result<TimeRange, String> {
    let certificate = Certificate::from_der(certificate.as_bytes())
        .map_err(|error| format!("a certificate authority's certificate cannot be read: {error}"))?;
    let validity = certificate.tbs_certificate.validity;
    // Through the text that both sides understand: the crates' type of time is not one of our dependencies.
    let text = serde_json::json!({
        "start": validity.not_before.to_date_time().to_string(),
        "end": validity.not_after.to_date_time().to_string(),
    });
    serde_json::from_value(text)
        .map_err(|error| format!("a certificate authority's certificate has no usable validity: {error}"))
}
