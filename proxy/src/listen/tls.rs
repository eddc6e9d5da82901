//! The listener's certificate: read at start and at every reload, the last good one staying.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

use crate::app::StartError;

/// Certificate and key as files, and what they held when they were last good.
pub struct TlsFiles {
    files: config::Tls,
    current: RwLock<Arc<ServerConfig>>,
}

/// A certificate and key that were read and found good.
pub struct FreshTls(Arc<ServerConfig>);

/// A chain or a key is not larger.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

impl TlsFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be read or do not belong together.
    pub fn new(files: config::Tls) -> Result<Self, StartError> {
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, current })
    }

    /// Reads both files again, and takes nothing into force yet.
    ///
    /// # Errors
    /// As [`TlsFiles::new`].
    pub fn read_again(&self) -> Result<FreshTls, StartError> {
        read(&self.files).map(|config| FreshTls(Arc::new(config)))
    }

    /// Takes what was read into force for the next connection.
    pub fn install(&self, FreshTls(fresh): FreshTls) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// An acceptor for the next connection.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn read(files: &config::Tls) -> Result<ServerConfig, StartError> {
    let pem = |path: &PathBuf| config::read_text(path, PEM_BYTES_MAX).map_err(StartError::Config);
    let wrong = |path: &PathBuf, why: String| StartError::Tls(format!("{}: {why}", path.display()));
    let chain = CertificateDer::pem_slice_iter(pem(&files.certificate)?.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, "holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(pem(&files.key)?.as_bytes())
        .map_err(|_| wrong(&files.key, "holds no private key in PEM".to_owned()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.certificate, format!("cannot be used with {}: {error}", files.key.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
