//! A certificate authority like Fulcio: a root, an intermediate, and leaves that live for ten minutes.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

use super::{
    ct::CtLog,
    flaw::Flaw,
    fulcio,
    key::{Key, KeyKind, Keys, pem},
    signer::Signer,
};

/// How long a leaf is valid, in seconds.
pub(super) const LEAF_LIFE: u64 = 600;
/// From when on the authority and the logs are valid: 2021-01-01, in seconds since 1970.
pub(super) const VALID_FROM: u64 = 1_609_459_200;
/// An extension that nobody knows, in the arc of Fulcio's own.
const UNKNOWN_EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 999];

pub(super) struct Authority {
    keys: Arc<Keys>,
    root: Certificate,
    root_params: CertificateParams,
    root_key: Key,
    intermediate: Intermediate,
    /// By the same root, and ended.
    expired: OnceLock<Intermediate>,
    /// By the same root, for timestamps.
    other_use: OnceLock<Intermediate>,
}

struct Intermediate {
    certificate: Certificate,
    params: CertificateParams,
    key: Key,
}

/// A leaf with the key it speaks for.
pub(super) struct Leaf {
    pub(super) key: Key,
    pub(super) der: Vec<u8>,
    /// What issued it, up to the root, in DER.
    pub(super) issuers: Vec<Vec<u8>>,
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

impl Request<'_> {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }
}

impl Authority {
    pub(super) fn new(keys: &Arc<Keys>) -> Self {
        let root_key = keys.key(KeyKind::P384);
        let root_params = authority("virtual sigstore", BasicConstraints::Unconstrained);
        let root = root_params.self_signed(&root_key.pair);
        let root = root.expect("a fresh key signs its own certificate");
        let params = intermediate("virtual sigstore intermediate", ExtendedKeyUsagePurpose::CodeSigning);
        let intermediate = Intermediate::by(&root_params, &root_key, params, keys);
        let (expired, other_use) = (OnceLock::new(), OnceLock::new());
        Self { keys: Arc::clone(keys), root, root_params, root_key, intermediate, expired, other_use }
    }

    /// Intermediate and root in DER, in the order of a trusted root.
    pub(super) fn chain(&self) -> [&[u8]; 2] {
        [self.intermediate.certificate.der(), self.root.der()]
    }

    /// The same with the intermediate that ended in the middle of 2025.
    pub(super) fn expired_chain(&self) -> [&[u8]; 2] {
        [self.expired().certificate.der(), self.root.der()]
    }

    fn expired(&self) -> &Intermediate {
        self.expired.get_or_init(|| {
            let mut params = intermediate("virtual sigstore 2025", ExtendedKeyUsagePurpose::CodeSigning);
            params.not_after = date_time_ymd(2025, 6, 1);
            Intermediate::by(&self.root_params, &self.root_key, params, &self.keys)
        })
    }

    fn other_use(&self) -> &Intermediate {
        self.other_use.get_or_init(|| {
            let params = intermediate("virtual sigstore timestamps", ExtendedKeyUsagePurpose::TimeStamping);
            Intermediate::by(&self.root_params, &self.root_key, params, &self.keys)
        })
    }

    pub(super) fn issue(&self, request: &Request<'_>) -> Leaf {
        let root = || vec![self.root.der().to_vec()];
        if request.has(Flaw::SelfSigned) {
            let (key, params) = (self.keys.key(KeyKind::P256), leaf(request));
            let own = Issuer::from_params(&params, &key.pair);
            let der = sign(&params, &key, &own, &key, request);
            return Leaf { issuers: vec![der.clone()], key, der };
        }
        if request.has(Flaw::IssuedByLeaf) {
            return self.issue_by_leaf(request);
        }
        let intermediate = if request.has(Flaw::IntermediateExpired) {
            self.expired()
        } else if request.has(Flaw::IntermediateForOtherUse) {
            self.other_use()
        } else {
            &self.intermediate
        };
        let mut issuers = root();
        issuers.insert(0, intermediate.certificate.der().to_vec());
        let issuer = Issuer::from_params(&intermediate.params, &intermediate.key.pair);
        let key = self.keys.key(KeyKind::P256);
        let der = sign(&leaf(request), &key, &issuer, &intermediate.key, request);
        Leaf { key, der, issuers }
    }

    /// A leaf for the wanted signer, by a leaf of somebody else.
    fn issue_by_leaf(&self, request: &Request<'_>) -> Leaf {
        let flaws: &[Flaw] = &[];
        let signer = Signer::fork();
        let attacker = Request { signer: &signer, flaws, ..*request };
        let mut params = leaf(&attacker);
        params.distinguished_name.push(DnType::CommonName, "somebody");
        let above = Issuer::from_params(&self.intermediate.params, &self.intermediate.key.pair);
        let attacker_key = self.keys.key(KeyKind::P256);
        let attacker_der = sign(&params, &attacker_key, &above, &self.intermediate.key, &attacker);

        let key = self.keys.key(KeyKind::P256);
        let der = sign(&leaf(request), &key, &Issuer::from_params(&params, &attacker_key.pair), &attacker_key, request);
        let issuers = std::iter::once(attacker_der).chain(self.chain().map(<[u8]>::to_vec)).collect();
        Leaf { key, der, issuers }
    }
}

impl Intermediate {
    fn by(root_params: &CertificateParams, root_key: &Key, params: CertificateParams, keys: &Keys) -> Self {
        let key = keys.key(KeyKind::P384);
        let certificate = params.signed_by(&key.pair, &Issuer::from_params(root_params, &root_key.pair));
        Self { certificate: certificate.expect("a root signs its intermediate"), params, key }
    }
}

impl Leaf {
    pub(super) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Its issuers as in cosign's chain annotation: the last line without a newline.
    pub(super) fn chain_pem(&self) -> String {
        let chain: String = self.issuers.iter().map(|der| pem("CERTIFICATE", der)).collect();
        chain.trim_end().to_owned()
    }
}

/// A certificate for `key` with the CT log's promise in it, in DER.
fn sign(
    params: &CertificateParams,
    key: &Key,
    issuer: &Issuer<'_, &rcgen::KeyPair>,
    issuer_key: &Key,
    request: &Request<'_>,
) -> Vec<u8> {
    let signed = |params: &CertificateParams| {
        let certificate = params.signed_by(&key.pair, issuer);
        certificate.expect("an issuer signs a leaf").der().to_vec()
    };
    let mut params = params.clone();
    if !request.has(Flaw::SctMissing) {
        let mut promised = params.clone();
        if request.has(Flaw::SctOfAnotherCertificate) {
            promised.serial_number = Some(SerialNumber::from(request.at));
        }
        let sct = request.ct.sct(&signed(&promised), issuer_key.id(), request.at, request.ct_id);
        // At the end: taken out again, what is left is what was signed.
        params.custom_extensions.push(sct);
    }
    signed(&params)
}

/// What every certificate of an authority begins with.
pub(super) fn authority(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    dated(&mut params);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "sigstore.test");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Valid from 2021 to 2041.
pub(super) fn dated(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2021, 1, 1);
    params.not_after = date_time_ymd(2041, 1, 1);
}

fn intermediate(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = authority(name, BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![purpose];
    params
}

fn leaf(request: &Request<'_>) -> CertificateParams {
    let signer = shown(request);
    let old_issuer = if request.has(Flaw::IssuersDisagree) { OTHER_ISSUER } else { &signer.issuer };

    let begin = date_time_ymd(1970, 1, 1) + Duration::from_secs(request.at);
    let mut params = CertificateParams::default();
    // Fulcio's leaves have no subject, so that their alternative name is critical.
    params.distinguished_name = DistinguishedName::new();
    params.not_before = begin;
    params.not_after = begin + Duration::from_secs(LEAF_LIFE);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if request.has(Flaw::WrongKeyUsage) {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::CodeSigning
    }];
    if request.has(Flaw::LeafIsCa) {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    }
    if !request.has(Flaw::NoSubject) {
        params.subject_alt_names.push(alternative_name(&signer.subject));
    }
    if request.has(Flaw::TwoSubjects) {
        params.subject_alt_names.push(alternative_name(&Signer::fork().subject));
    }
    params.custom_extensions = fulcio::extensions(&signer, old_issuer);
    if request.has(Flaw::UnknownCriticalExtension) {
        let mut unknown = CustomExtension::from_oid_content(&UNKNOWN_EXTENSION, vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    }
    params
}

const OTHER_ISSUER: &str = "https://issuer.example.com";

/// The one that the certificate names: the signer, or somebody who is not.
fn shown(request: &Request<'_>) -> Signer {
    let mut signer = request.signer.clone();
    let Signer { issuer, subject, .. } = &mut signer;
    for flaw in request.flaws {
        match flaw {
            Flaw::OtherSubject => *subject = Signer::fork().subject,
            Flaw::OtherWorkflow => *subject = subject.replacen("release.yaml", "presubmit.yaml", 1),
            Flaw::OtherBranch => *subject = subject.replacen("refs/heads/main", "refs/heads/experiment", 1),
            Flaw::SubjectPrefixed => *subject = format!("https://evil.example/?{subject}"),
            Flaw::SubjectSuffixed => subject.push_str(".evil.example"),
            Flaw::SubjectOnTwoLines => subject.push_str("\nhttps://evil.example/"),
            Flaw::SubjectInOtherCase => *subject = subject.replacen("chainguard-images", "Chainguard-Images", 1),
            Flaw::OtherIssuer => OTHER_ISSUER.clone_into(issuer),
            Flaw::IssuerSuffixed => issuer.push_str(".evil.example"),
            Flaw::IssuerWithSlash => issuer.push('/'),
            Flaw::NoIssuer => issuer.clear(),
            _ => {}
        }
    }
    signer
}

fn alternative_name(subject: &str) -> SanType {
    let name = subject.try_into().expect("tests name signers in ASCII");
    if subject.contains("://") { SanType::URI(name) } else { SanType::Rfc822Name(name) }
}
