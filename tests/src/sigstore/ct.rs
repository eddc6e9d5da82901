//! A certificate transparency log that signs whatever it is shown (RFC 6962, section 3.2).

use rcgen::CustomExtension;
use x509_cert::{
    Certificate,
    der::{Decode as _, Encode as _, asn1::OctetString},
};

use super::key::{Key, KeyKind, Keys};

const SCT_LIST: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
const ECDSA_SHA256: [u8; 2] = [4, 3];

pub(super) struct CtLog {
    pub(super) key: Key,
}

impl CtLog {
    pub(super) fn new(keys: &Keys) -> Self {
        Self { key: keys.key(KeyKind::P256) }
    }

    /// The promise to log a certificate, as the extension that is put into it. `without` is the certificate before that, `issuer_id`
    /// the SHA-256 of its issuer's key, `at` in seconds since 1970. `log_id` is the log's own unless it pretends to be another.
    pub(super) fn sct(&self, without: &[u8], issuer_id: [u8; 32], at: u64, log_id: [u8; 32]) -> CustomExtension {
        let millis = (at * 1000).to_be_bytes();
        let tbs = Certificate::from_der(without)
            .and_then(|certificate| certificate.tbs_certificate.to_der())
            .expect("a certificate that was just written is read");
        // version, kind of signature, time, kind of entry (a precertificate), issuer, certificate, no extensions
        let mut signed = vec![0, 0];
        signed.extend(millis);
        signed.extend([0, 1]);
        signed.extend(issuer_id);
        signed.extend(vector(3, &tbs));
        signed.extend([0, 0]);

        let mut sct = vec![0];
        sct.extend(log_id);
        sct.extend(millis);
        sct.extend([0, 0]);
        sct.extend(ECDSA_SHA256);
        sct.extend(vector(2, &self.key.sign(&signed)));
        let list = vector(2, &vector(2, &sct));
        let content = OctetString::new(list).and_then(|octets| octets.to_der());
        let content = content.expect("some hundred bytes are an OCTET STRING");
        CustomExtension::from_oid_content(&SCT_LIST, content)
    }
}

/// Bytes after their length, which takes `width` bytes.
fn vector(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    let skipped = length.len() - width;
    length.iter().skip(skipped).chain(bytes).copied().collect()
}
