//! Whom we believe to be an upstream.

use std::{path::Path, sync::Arc};

use config::read_text;
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::error::{TlsFault, UpstreamSetupError};

/// A bundle of every public authority is a quarter of this.
const CA_FILE_BYTES_MAX: u64 = 1 << 20;

/// Compiled-in authorities plus those of `ca_file`; h2 is offered before HTTP/1.1. `name` is the upstream's, for errors.
pub(super) fn client_config(name: &str, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, UpstreamSetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    add_ca_file(name, ca_file, &mut roots)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| UpstreamSetupError::Tls { upstream: name.to_owned(), source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn add_ca_file(name: &str, ca_file: Option<&Path>, roots: &mut RootCertStore) -> Result<(), UpstreamSetupError> {
    let Some(path) = ca_file else { return Ok(()) };
    let wrong = |got| UpstreamSetupError::CaFile { upstream: name.to_owned(), path: path.to_owned(), got };
    let text = read_text(path, CA_FILE_BYTES_MAX).map_err(|source| UpstreamSetupError::File {
        upstream: name.to_owned(),
        key: "ca_file",
        source,
    })?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|_| wrong("text that is not PEM"))?;
        roots.add(certificate).map_err(|_| wrong("a certificate that cannot be an authority's"))?;
    }
    if roots.len() == before {
        return Err(wrong("none"));
    }
    Ok(())
}

impl TlsFault {
    /// Our words for what the library says; its own may quote the certificate.
    pub(super) fn of(error: &rustls::Error) -> Self {
        use CertificateError as C;
        let rustls::Error::InvalidCertificate(certificate) = error else { return Self::Handshake };
        if matches!(certificate, C::NotValidForName | C::NotValidForNameContext { .. }) {
            Self::WrongHost
        } else if matches!(certificate, C::Expired | C::ExpiredContext { .. }) {
            Self::Expired
        } else if matches!(certificate, C::NotValidYet | C::NotValidYetContext { .. }) {
            Self::NotYetValid
        } else if matches!(certificate, C::UnknownIssuer) {
            Self::UnknownIssuer
        } else {
            Self::BadCertificate
        }
    }
}
