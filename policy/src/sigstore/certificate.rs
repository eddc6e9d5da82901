//! Who a certificate says it is.

use sigstore_crypto::{SubjectAltName, parse_certificate_info};
use sigstore_types::DerCertificate;
use x509_cert::{Certificate, der::Decode as _, ext::pkix};

use crate::{
    refusal::{Reason, told},
    verifier::{Flaw, Signer},
};

/// The issuer's two extensions: the old one, and the one that replaces it.
const ISSUER_OIDS: [&str; 2] = ["1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8"];

/// Issuer and subject of a certificate that was verified.
///
/// The crates give the first of several subjects. Whom such a certificate speaks for is not ours to choose, so one with several
/// names of whatever kind, with an extension given twice, or with two issuers that differ, speaks for nobody.
pub(super) fn signer(der: &DerCertificate) -> Result<Signer, Flaw> {
    let flaw = |detail: String| Flaw::new(Reason::CertificateUntrusted, detail);
    let certificate =
        Certificate::from_der(der.as_bytes()).map_err(|error| flaw(format!("certificate cannot be read: {error}")))?;
    let names: Option<(bool, pkix::SubjectAltName)> = certificate
        .tbs_certificate
        .get()
        .map_err(|error| flaw(format!("subject alternative names cannot be read: {error}")))?;
    let count = names.map_or(0, |(_, names)| names.0.len());
    if count != 1 {
        return Err(flaw(format!("certificate names {count} subjects, and one is wanted")));
    }
    one_issuer(&certificate)?;
    let info = parse_certificate_info(der).map_err(|error| flaw(told(&error.to_string())))?;
    let subject = info.identity.as_ref().map(SubjectAltName::as_str);
    match (info.issuer, subject) {
        (Some(issuer), Some(subject)) if !issuer.is_empty() && !subject.is_empty() => {
            Ok(Signer::Certificate { issuer, subject: subject.to_owned() })
        }
        (None, _) => Err(flaw("certificate names no OIDC issuer".to_owned())),
        _ => Err(flaw("certificate names neither an e-mail address nor a URI".to_owned())),
    }
}

/// Each issuer extension at most once, and both alike where both are there.
fn one_issuer(certificate: &Certificate) -> Result<(), Flaw> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let mut seen = Vec::new();
    for oid in ISSUER_OIDS {
        let values: Vec<&[u8]> = extensions
            .iter()
            .filter(|extension| extension.extn_id.to_string() == oid)
            .map(|extension| extension.extn_value.as_bytes())
            .collect();
        if values.len() > 1 {
            return Err(Flaw::new(Reason::CertificateUntrusted, "certificate names its OIDC issuer several times"));
        }
        seen.extend(values.into_iter().map(text));
    }
    seen.dedup();
    if seen.len() > 1 {
        return Err(Flaw::new(Reason::CertificateUntrusted, "certificate names two OIDC issuers"));
    }
    Ok(())
}

/// The text of an issuer extension: the bare text in the old one, a DER string in the new one and sometimes in the old.
fn text(value: &[u8]) -> &[u8] {
    use x509_cert::der::asn1::Utf8StringRef;

    Utf8StringRef::from_der(value).map_or(value, |text| text.as_str().as_bytes())
}
