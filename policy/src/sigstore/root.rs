//! The trust root as the crates want it, narrowed where they would trust too widely.

use oci::UnixTime;
use sha2::{Digest as _, Sha256};
use sigstore_trust_root::{CertificateAuthority, TrustedRoot, trusted_root::CertChain};
use sigstore_types::{DerCertificate, TimeRange};
use x509_cert::{Certificate, der::Decode as _};

use crate::trust_root::{AnchorKind, TrustAnchor};

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

/// Whom a document names, as it names them: unlike [`load`], which narrows.
pub(crate) fn describe(text: &str) -> Result<Vec<TrustAnchor>, String> {
    let root = TrustedRoot::from_json(text).map_err(|error| error.to_string())?;
    let mut anchors = Vec::new();
    let mut add = |kind, name: &str, id: String, window: Option<TimeRange>| {
        let from = window.map(|window| instant(window.start.as_millisecond()));
        let until = window.and_then(|window| window.end).map(|end| instant(end.as_millisecond()));
        anchors.push(TrustAnchor { kind, name: name.to_owned(), id, from, until });
    };
    for authority in &root.certificate_authorities {
        let id = fingerprint(&authority.cert_chain);
        add(AnchorKind::CertificateAuthority, &authority.uri, id, authority.valid_for);
    }
    for log in &root.tlogs {
        let id = hex::encode(log.log_id.key_id.as_bytes());
        add(AnchorKind::TransparencyLog, &log.base_url, id, log.public_key.valid_for);
    }
    for log in &root.ctlogs {
        let id = hex::encode(log.log_id.key_id.as_bytes());
        add(AnchorKind::CertificateLog, &log.base_url, id, log.public_key.valid_for);
    }
    for authority in &root.timestamp_authorities {
        let name = authority.uri.as_ref().or(authority.subject.common_name.as_ref());
        let id = fingerprint(&authority.cert_chain);
        add(AnchorKind::TimestampAuthority, name.map_or("", String::as_str), id, authority.valid_for);
    }
    Ok(anchors)
}

fn fingerprint(chain: &CertChain) -> String {
    let mut hasher = Sha256::new();
    chain.certificates.iter().for_each(|entry| hasher.update(entry.raw_bytes.as_bytes()));
    hex::encode(hasher.finalize())
}

fn instant(milliseconds: i64) -> UnixTime {
    UnixTime::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}
