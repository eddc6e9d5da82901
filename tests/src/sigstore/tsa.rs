//! A timestamp authority (RFC 3161): a root, and a certificate that may sign timestamps and nothing else.

use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CustomExtension, DnType, Issuer, KeyUsagePurpose};

use super::{
    ca::{authority, dated},
    key::{Key, KeyKind, Keys},
};

const EXTENDED_KEY_USAGE: [u64; 4] = [2, 5, 29, 37];
/// A sequence of one purpose: 1.3.6.1.5.5.7.3.8, timestamps.
const TIME_STAMPING: [u8; 12] = [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8];
/// A sequence of one purpose: 1.3.6.1.5.5.7.3.3, signing code.
const CODE_SIGNING: [u8; 12] = [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3];

pub(super) struct TimestampAuthority {
    keys: Arc<Keys>,
    root: Certificate,
    root_params: CertificateParams,
    root_key: Key,
    pub(super) officer: Officer,
    misfit: OnceLock<Officer>,
}

/// A key with a certificate by the authority's root.
pub(super) struct Officer {
    pub(super) key: Key,
    pub(super) certificate: Certificate,
}

impl TimestampAuthority {
    pub(super) fn new(keys: &Arc<Keys>) -> Self {
        let root_key = keys.key(KeyKind::P384);
        let root_params = authority("virtual timestamp root", BasicConstraints::Constrained(0));
        let root = root_params.self_signed(&root_key.pair).expect("a fresh key signs its own certificate");
        let officer = Officer::new(&Issuer::from_params(&root_params, &root_key.pair), &TIME_STAMPING, keys);
        Self { keys: Arc::clone(keys), root, root_params, root_key, officer, misfit: OnceLock::new() }
    }

    /// One whose certificate is for signing code.
    pub(super) fn misfit(&self) -> &Officer {
        let issuer = Issuer::from_params(&self.root_params, &self.root_key.pair);
        self.misfit.get_or_init(|| Officer::new(&issuer, &CODE_SIGNING, &self.keys))
    }

    /// The certificate of the one who signs, and the root, in the order of a trusted root.
    pub(super) fn chain<'a>(&'a self, officer: &'a Officer) -> [&'a [u8]; 2] {
        [officer.certificate.der(), self.root.der()]
    }
}

impl Officer {
    fn new(issuer: &Issuer<'_, &rcgen::KeyPair>, purpose: &[u8], keys: &Keys) -> Self {
        let key = keys.key(KeyKind::P256);
        let mut params = CertificateParams::default();
        dated(&mut params);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "sigstore.test");
        params.distinguished_name.push(DnType::CommonName, "virtual timestamp authority");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Critical, as RFC 3161, section 2.3, wants it.
        let mut usage = CustomExtension::from_oid_content(&EXTENDED_KEY_USAGE, purpose.to_vec());
        usage.set_criticality(true);
        params.custom_extensions.push(usage);
        let certificate = params.signed_by(&key.pair, issuer).expect("a root signs its authority");
        Self { key, certificate }
    }
}
