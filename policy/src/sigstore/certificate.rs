//! Who a certificate says it is.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use sigstore_crypto::{SubjectAltName, parse_certificate_info, x509::FulcioCiClaims};
use sigstore_types::{DerCertificate, SignatureBytes};
use x509_cert::{
    Certificate,
    der::{
        Decode as _,
        oid::ObjectIdentifier,
        pem::{self, LineEnding},
    },
    ext::pkix,
};

use crate::{
    condition::Workflow,
    refusal::{Reason, told},
    verifier::{Flaw, Signer},
};

/// The issuer's two extensions: the old one, and the one that replaces it.
const ISSUER_OIDS: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1"), ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8")];

/// Issuer and subject of a certificate that was verified.
///
/// The crates give the first of several subjects. Whom such a certificate speaks for is not ours to choose, so one with several
/// names of whatever kind, with an extension given twice, or with two issuers that differ, speaks for nobody.
pub(super) fn signer(der: &DerCertificate) -> Result<(Signer, Workflow), Flaw> {
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
    once(&certificate)?;
    one_issuer(&certificate)?;
    let info = parse_certificate_info(der).map_err(|error| flaw(told(&error.to_string())))?;
    let subject = info.identity.as_ref().map(SubjectAltName::as_str);
    match (info.issuer, subject) {
        (Some(issuer), Some(subject)) if !issuer.is_empty() && !subject.is_empty() => {
            Ok((Signer::Certificate { issuer, subject: subject.to_owned() }, workflow(info.ci_claims)))
        }
        (None, _) => Err(flaw("certificate names no OIDC issuer".to_owned())),
        _ => Err(flaw("certificate names neither an e-mail address nor a URI".to_owned())),
    }
}

/// What it says of the workflow that it was issued to.
///
/// As cosign has it: from the extensions that GitHub's certificates have had from the beginning (`.1.2` to `.1.6`). They are called
/// deprecated; where one is no longer there, its successor says the same (`.1.20`, `.1.13`, `.1.12`, `.1.14`), the repository as a
/// URL of which the path is the name that the old one has. The workflow's display name has no successor.
pub(super) fn workflow(claims: FulcioCiClaims) -> Workflow {
    let old = claims.deprecated_github;
    let path = |url: String| {
        let path = url.strip_prefix("https://").and_then(|rest| rest.split_once('/')).map(|(_, path)| path.to_owned());
        path.unwrap_or(url)
    };
    Workflow {
        trigger: old.workflow_trigger.or(claims.build_trigger),
        sha: old.workflow_sha.or(claims.source_repository_digest),
        name: old.workflow_name,
        repository: old.workflow_repository.or(claims.source_repository_uri.map(path)),
        reference: old.workflow_ref.or(claims.source_repository_ref),
    }
}

/// What the controller calls a signature's `id`. The signature's bytes count only where the signature is not within what is signed.
pub(super) fn id(signature: Option<&SignatureBytes>, certificate: Option<&DerCertificate>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(signature.map(SignatureBytes::as_bytes).unwrap_or_default());
    // 64 characters a line and a newline at the end, as Go's encoder writes it.
    let pem = certificate.and_then(|der| pem::encode_string("CERTIFICATE", LineEnding::LF, der.as_bytes()).ok());
    hasher.update(pem.unwrap_or_default());
    hex::encode(hasher.finalize())
}

/// No extension twice: two readers could take a different one for the only one.
fn once(certificate: &Certificate) -> Result<(), Flaw> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let mut seen = BTreeSet::new();
    match extensions.iter().find(|extension| !seen.insert(extension.extn_id)) {
        None => Ok(()),
        Some(twice) => {
            let detail = format!("certificate has extension {} several times", twice.extn_id);
            Err(Flaw::new(Reason::CertificateUntrusted, detail))
        }
    }
}

/// Both issuer extensions alike, where both are there.
fn one_issuer(certificate: &Certificate) -> Result<(), Flaw> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let issuers = extensions.iter().filter(|extension| ISSUER_OIDS.contains(&extension.extn_id));
    let mut seen: Vec<&[u8]> = issuers.map(|extension| text(extension.extn_value.as_bytes())).collect();
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
