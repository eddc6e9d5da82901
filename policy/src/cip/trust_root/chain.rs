//! Chains of certificates, leaf first.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use x509_cert::{Certificate, der::Decode as _, ext::pkix::BasicConstraints};

use super::{IN_BASE64, decoded};
use crate::cip::{
    field::Field,
    pem,
    report::{Report, shown},
    roots::Part,
};

/// Reads a chain: each certificate issued by the next, the last by itself.
///
/// The controller sorts what it is given into roots and intermediates, and lets any of them vouch for any other.
pub(super) fn read(field: &Field<'_>, part: Part, report: &mut Report) -> Option<Vec<Value>> {
    let text = decoded(field, report)?;
    match checked(&text, part) {
        Ok(certificates) => Some(certificates),
        Err((what, hint)) => {
            field.error(report, what, Some(hint));
            None
        }
    }
}

fn checked(text: &str, part: Part) -> Result<Vec<Value>, (String, &'static str)> {
    let blocks = pem::blocks(text).map_err(|what| (what, IN_BASE64))?;
    if blocks.is_empty() {
        return Err(("is an empty text; expected certificates in PEM".to_owned(), IN_BASE64));
    }
    let mut certificates = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        if block.label != "CERTIFICATE" {
            let what = format!("holds a PEM block {}; expected CERTIFICATE", shown(block.label));
            return Err((what, "only certificates belong there: no keys"));
        }
        let certificate = Certificate::from_der(&block.der);
        let certificate = certificate.map_err(|error| {
            (format!("holds a certificate (number {}) that cannot be read: {error}", index + 1), IN_BASE64)
        })?;
        certificates.push(certificate);
    }
    check_order(&certificates)?;
    check_kinds(&certificates, part)?;
    Ok(blocks.iter().map(|block| json!({ "rawBytes": STANDARD.encode(&block.der) })).collect())
}

fn check_order(certificates: &[Certificate]) -> Result<(), (String, &'static str)> {
    const HINT: &str = "write one chain, leaf first, root last; another chain is another entry of the list";
    let issuers = certificates.iter().map(|certificate| &certificate.tbs_certificate.issuer);
    let subjects = certificates.iter().map(|certificate| &certificate.tbs_certificate.subject);
    // The last one's issuer is itself.
    let above = subjects.skip(1).chain(certificates.last().map(|last| &last.tbs_certificate.subject));
    for (index, (issuer, above)) in issuers.zip(above).enumerate() {
        if issuer != above {
            let number = index + 1;
            let what = if number == certificates.len() {
                format!("does not end in a root: certificate {number} is issued by {}", shown(&issuer.to_string()))
            } else {
                format!(
                    "is in disorder: certificate {number} is issued by {}, not by the next",
                    shown(&issuer.to_string())
                )
            };
            return Err((what, HINT));
        }
    }
    Ok(())
}

fn check_kinds(certificates: &[Certificate], part: Part) -> Result<(), (String, &'static str)> {
    for (index, certificate) in certificates.iter().enumerate() {
        let constraints = certificate.tbs_certificate.get::<BasicConstraints>();
        let constraints = constraints.map_err(|error| {
            (format!("holds a certificate (number {}) that cannot be read: {error}", index + 1), IN_BASE64)
        })?;
        let is_ca = constraints.is_some_and(|(_, constraints)| constraints.ca);
        match (part, index, is_ca) {
            (Part::TimestampAuthorities, 0, true) => {
                let what = "begins with a CA; expected the timestamp authority's own certificate".to_owned();
                return Err((
                    what,
                    "write the certificate that signs timestamps first: it is not taken from the timestamps",
                ));
            }
            (Part::TimestampAuthorities, 0, false) | (_, _, true) => {}
            (_, _, false) => {
                let what = format!("holds a certificate (number {}) that is no CA", index + 1);
                return Err((what, "keep the certificates that issue others"));
            }
        }
    }
    Ok(())
}
