//! A certificate authority like Fulcio: a root, an intermediate, and leaves that live for ten minutes.

use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use super::{
    ct::CtLog,
    flaw::Flaw,
    fulcio,
    key::{Key, KeyKind, pem},
    signer::Signer,
};

/// How long a leaf is valid, in seconds.
pub(super) const LEAF_LIFE: u64 = 600;
/// From when on the authority and the logs are valid: 2021-01-01, in seconds since 1970.
pub(super) const VALID_FROM: u64 = 1_609_459_200;

pub(super) struct Authority {
    root: Certificate,
    intermediate: Certificate,
    intermediate_params: CertificateParams,
    intermediate_key: Key,
}

/// A leaf with the key it speaks for.
pub(super) struct Leaf {
    pub(super) key: Key,
    pub(super) der: Vec<u8>,
    /// Intermediate and root, as in cosign's chain annotation: the last line without a newline.
    pub(super) chain_pem: String,
}

/// What goes into a leaf.
pub(super) struct Request<'a> {
    pub(super) signer: &'a Signer,
    /// When the leaf begins to be valid, in seconds since 1970.
    pub(super) at: u64,
    pub(super) flaws: &'a [Flaw],
    /// Who signs the SCT, and the log that it names.
    pub(super) ct: &'a CtLog,
    pub(super) ct_id: [u8; 32],
}

impl Authority {
    pub(super) fn new() -> Self {
        let root_key = Key::generate(KeyKind::P384);
        let root_params = authority("virtual sigstore", BasicConstraints::Unconstrained);
        let root = root_params.self_signed(&root_key.pair);
        let root = root.expect("a fresh key signs its own certificate");

        let intermediate_key = Key::generate(KeyKind::P384);
        let mut intermediate_params = authority("virtual sigstore intermediate", BasicConstraints::Constrained(0));
        intermediate_params.use_authority_key_identifier_extension = true;
        intermediate_params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let issuer = Issuer::from_params(&root_params, &root_key.pair);
        let intermediate = intermediate_params.signed_by(&intermediate_key.pair, &issuer);
        let intermediate = intermediate.expect("a root signs its intermediate");
        Self { root, intermediate, intermediate_params, intermediate_key }
    }

    /// Intermediate and root in DER, in the order of a trusted root.
    pub(super) fn chain(&self) -> [&[u8]; 2] {
        [self.intermediate.der(), self.root.der()]
    }

    pub(super) fn issue(&self, request: &Request<'_>) -> Leaf {
        let key = Key::generate(KeyKind::P256);
        let issuer = Issuer::from_params(&self.intermediate_params, &self.intermediate_key.pair);
        let mut params = leaf(request);
        let sign = |params: &CertificateParams| {
            let certificate = params.signed_by(&key.pair, &issuer);
            certificate.expect("an intermediate signs a leaf")
        };
        if !request.flaws.contains(&Flaw::SctMissing) {
            let issuer_id = self.intermediate_key.id();
            let sct = request.ct.sct(sign(&params).der(), issuer_id, request.at, request.ct_id);
            // At the end: taken out again, what is left is what was signed.
            params.custom_extensions.push(sct);
        }
        let der = sign(&params).der().to_vec();
        let chain_pem: String = self.chain().map(|der| pem("CERTIFICATE", der)).concat();
        Leaf { key, der, chain_pem: chain_pem.trim_end().to_owned() }
    }
}

impl Leaf {
    pub(super) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }
}

fn authority(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "sigstore.test");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2021, 1, 1);
    params.not_after = date_time_ymd(2041, 1, 1);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(request: &Request<'_>) -> CertificateParams {
    let has = |flaw| request.flaws.contains(&flaw);
    let mut signer = request.signer.clone();
    if has(Flaw::OtherSubject) {
        signer.subject = Signer::fork().subject;
    }
    if has(Flaw::OtherIssuer) {
        "https://issuer.example.com".clone_into(&mut signer.issuer);
    }
    let old_issuer = if has(Flaw::IssuersDisagree) { "https://issuer.example.com" } else { &signer.issuer };

    let begin = date_time_ymd(1970, 1, 1) + Duration::from_secs(request.at);
    let mut params = CertificateParams::default();
    // Fulcio's leaves have no subject, so that their alternative name is critical.
    params.distinguished_name = DistinguishedName::new();
    params.not_before = begin;
    params.not_after = begin + Duration::from_secs(LEAF_LIFE);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if has(Flaw::WrongKeyUsage) {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::CodeSigning
    }];
    params.subject_alt_names = vec![alternative_name(&signer.subject)];
    if has(Flaw::TwoSubjects) {
        params.subject_alt_names.push(alternative_name(&Signer::fork().subject));
    }
    params.custom_extensions = fulcio::extensions(&signer, old_issuer);
    params
}

fn alternative_name(subject: &str) -> SanType {
    let name = subject.try_into().expect("tests name signers in ASCII");
    if subject.contains("://") { SanType::URI(name) } else { SanType::Rfc822Name(name) }
}
