//! Timestamps as RFC 3161 writes them: a CMS `SignedData` over a `TSTInfo`, in the answer of an authority.

use std::time::Duration;

use cms::{
    cert::{CertificateChoices, IssuerAndSerialNumber},
    content_info::{CmsVersion, ContentInfo},
    signed_data::{CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos},
};
use sha2::{Digest as _, Sha256};
use x509_cert::{
    Certificate,
    attr::Attribute,
    der::{
        Any, Decode as _, Encode as _, Tag,
        asn1::{GeneralizedTime, Int, ObjectIdentifier, OctetString, SetOfVec},
    },
    spki::AlgorithmIdentifierOwned,
};
use x509_tsp::{MessageImprint, TspVersion, TstInfo};

use super::{Flaw, Options, key::Key, tsa::Officer};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
/// The authority's policy: any.
const POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.2");
/// `PKIStatus` of an answer (RFC 3161, section 2.4.2).
const GRANTED: u8 = 0;
const REJECTION: u8 = 2;
/// Length of a SHA-1 digest.
const SHA1_BYTES: usize = 20;

/// A timestamp to be written.
pub(super) struct Token<'a> {
    message: &'a [u8],
    at: u64,
    /// Whose name and serial number it bears.
    named: &'a Officer,
    /// Whose certificate it brings.
    pub(super) embedded: &'a Officer,
    /// With what it is signed.
    pub(super) key: &'a Key,
}

impl<'a> Token<'a> {
    /// A timestamp that saw `message` at `at`, in seconds since 1970.
    pub(super) fn by(officer: &'a Officer, message: &'a [u8], at: u64) -> Self {
        Self { message, at, named: officer, embedded: officer, key: &officer.key }
    }

    /// The authority's answer in DER.
    pub(super) fn written(&self, options: &Options) -> Vec<u8> {
        let token = self.content_info(options).expect("what is made here is DER");
        let status = if options.has(Flaw::TimestampNotGranted) { REJECTION } else { GRANTED };
        let mut answer = sequence(&integer(status));
        answer.extend(token);
        sequence(&answer)
    }

    fn content_info(&self, options: &Options) -> x509_cert::der::Result<Vec<u8>> {
        let signed = self.info(self.at, options).to_der()?;
        let shown = if options.has(Flaw::TimestampTimeChanged) {
            self.info(self.at + 1, options).to_der()?
        } else {
            signed.clone()
        };
        let signer_info = self.signer(&signed)?;
        let embedded = Certificate::from_der(self.embedded.certificate.der())?;
        let data = SignedData {
            version: CmsVersion::V3,
            digest_algorithms: set([sha256()])?,
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: TST_INFO,
                econtent: Some(Any::new(Tag::OctetString, shown)?),
            },
            certificates: Some(CertificateSet(set([CertificateChoices::Certificate(embedded)])?)),
            crls: None,
            signer_infos: SignerInfos(set([signer_info])?),
        };
        ContentInfo { content_type: SIGNED_DATA, content: Any::from_der(&data.to_der()?)? }.to_der()
    }

    fn info(&self, at: u64, options: &Options) -> TstInfo {
        let (algorithm, digest) = if options.has(Flaw::TimestampHashWeak) {
            (AlgorithmIdentifierOwned { oid: SHA1, parameters: None }, vec![0; SHA1_BYTES])
        } else {
            (sha256(), Sha256::digest(self.message).to_vec())
        };
        let octets = OctetString::new(digest).expect("a digest is an OCTET STRING");
        let serial = at.to_der().and_then(|der| Int::from_der(&der)).expect("a number is an INTEGER");
        TstInfo {
            version: TspVersion::V1,
            policy: POLICY,
            message_imprint: MessageImprint { hash_algorithm: algorithm, hashed_message: octets },
            serial_number: serial,
            gen_time: GeneralizedTime::from_unix_duration(Duration::from_secs(at)).expect("a time before 10000"),
            accuracy: None,
            ordering: false,
            nonce: None,
            tsa: None,
            extensions: None,
        }
    }

    fn signer(&self, info: &[u8]) -> x509_cert::der::Result<SignerInfo> {
        let named = Certificate::from_der(self.named.certificate.der())?.tbs_certificate;
        // Of ESSCertIDv2 (RFC 5035) the certificate's SHA-256 alone, in the three sequences that it stands in.
        let own = Sha256::digest(self.named.certificate.der()).to_vec();
        let own = sequence(&sequence(&sequence(&OctetString::new(own)?.to_der()?)));
        let attributes = set([
            attribute(CONTENT_TYPE, Any::from_der(&TST_INFO.to_der()?)?)?,
            attribute(MESSAGE_DIGEST, Any::new(Tag::OctetString, Sha256::digest(info).to_vec())?)?,
            attribute(SIGNING_CERTIFICATE, Any::from_der(&own)?)?,
        ])?;
        let signature = self.key.sign(&attributes.to_der()?);
        Ok(SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: named.issuer,
                serial_number: named.serial_number,
            }),
            digest_alg: sha256(),
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned { oid: ECDSA_SHA256, parameters: None },
            signature: OctetString::new(signature)?,
            unsigned_attrs: None,
        })
    }
}

fn sha256() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: SHA256, parameters: None }
}

fn attribute(oid: ObjectIdentifier, value: Any) -> x509_cert::der::Result<Attribute> {
    Ok(Attribute { oid, values: set([value])? })
}

fn set<T: x509_cert::der::DerOrd, const N: usize>(items: [T; N]) -> x509_cert::der::Result<SetOfVec<T>> {
    SetOfVec::try_from(Vec::from(items))
}

fn integer(value: u8) -> Vec<u8> {
    value.to_der().expect("a byte is an INTEGER")
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let sequence = Any::new(Tag::Sequence, content).and_then(|any| any.to_der());
    sequence.expect("some kilobytes are a SEQUENCE")
}
