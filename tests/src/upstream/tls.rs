//! A CA made on the spot, and what it signs.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A certificate authority that exists as long as the test.
#[derive(Clone)]
pub struct TestCa(Arc<CertifiedIssuer<'static, KeyPair>>);

/// Which certificate a place shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// For `localhost` and `127.0.0.1`, and for names that only a forward proxy knows (`*.cloud.example`), by the CA that clients trust.
    Good,
    /// Valid, but for `elsewhere.example` alone.
    WrongHost,
    /// Ended in 2021.
    Expired,
    /// Right in everything, but by a CA that nobody was told about.
    UnknownCa,
}

impl TestCa {
    /// Makes a key and signs itself.
    ///
    /// # Errors
    ///
    /// When the cryptography library does.
    pub fn new() -> Result<Self, rcgen::Error> {
        Self::named("throw-away CA of a test")
    }

    fn named(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate()?).map(|issuer| Self(Arc::new(issuer)))
    }

    /// The CA's certificate: what goes into a `ca_file`.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's certificate and private key as PEM, in this order: what goes into `tls.certificate` and `tls.key`.
    ///
    /// # Errors
    ///
    /// When the cryptography library does.
    pub fn server_pem(&self, certificate: Certificate) -> Result<(String, String), rcgen::Error> {
        let (issued, key) = self.issue(certificate)?;
        Ok((issued.pem(), key.serialize_pem()))
    }

    /// What a listener needs.
    pub(crate) fn server_config(
        &self,
        certificate: Certificate,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let (issued, key) = self.issue(certificate)?;
        let chain: Vec<CertificateDer<'static>> = vec![issued.der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    fn issue(&self, certificate: Certificate) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
        let names: &[&str] = match certificate {
            Certificate::WrongHost => &["elsewhere.example"],
            Certificate::Good | Certificate::Expired | Certificate::UnknownCa => {
                &["localhost", "127.0.0.1", "*.cloud.example"]
            }
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if certificate == Certificate::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate()?;
        let issued = if certificate == Certificate::UnknownCa {
            params.signed_by(&key, &Self::named("CA that nobody knows")?.0)?
        } else {
            params.signed_by(&key, &self.0)?
        };
        Ok((issued, key))
    }
}

impl std::fmt::Debug for TestCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestCa")
    }
}
