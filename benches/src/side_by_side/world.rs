//! What all peers have in common: the upstream, its content, and a certificate.

use std::{fs, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use support::{
    sigstore::VirtualSigstore,
    upstream::{Certificate, TestCa},
};
use tempfile::TempDir;

use super::{
    Failure,
    tree::{Sizes, Tree},
    upstream::Upstream,
};

const MIB: usize = 1 << 20;

/// How long the rounds are.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How large the blobs are.
    pub sizes: Sizes,
    /// How often each stream asks.
    pub requests: usize,
    /// How many seconds requests for manifests are counted.
    pub seconds: u64,
}

/// Upstream, content and certificate, in a temporary directory of their own.
pub struct World {
    /// What is served.
    pub tree: Tree,
    /// Who serves it.
    pub upstream: Upstream,
    /// How long the rounds are.
    pub effort: Effort,
    /// The trust root of the Sigstore that signed.
    pub trusted_root: String,
    /// A server's certificate and key, PEM.
    pub certificate: (String, String),
    /// What a client that trusts it speaks: TLS 1.3 with AES-128-GCM, so that all peers encrypt alike.
    pub tls: Arc<ClientConfig>,
    _directory: TempDir,
}

impl World {
    /// Makes, signs and serves everything.
    ///
    /// # Errors
    /// When a file cannot be written, or nginx is missing.
    pub fn new(quick: bool) -> Result<Self, Failure> {
        let effort = if quick {
            Effort { sizes: Sizes { large: 64 * MIB, medium: 16 * MIB, small: 4 * MIB }, requests: 2, seconds: 1 }
        } else {
            Effort { sizes: Sizes { large: 1024 * MIB, medium: 256 * MIB, small: 64 * MIB }, requests: 4, seconds: 2 }
        };
        let (directory, sigstore, authority) = (tempfile::tempdir()?, VirtualSigstore::new(), TestCa::new()?);
        let [files, upstream] = ["files", "upstream"].map(|name| directory.path().join(name));
        fs::create_dir(&upstream)?;
        let tree = Tree::write(&files, &sigstore, effort.sizes)?;
        Ok(Self {
            upstream: Upstream::start(&upstream, &tree)?,
            tree,
            effort,
            trusted_root: sigstore.trusted_root_json(),
            certificate: authority.server_pem(Certificate::Good)?,
            tls: Arc::new(client_config(&authority.pem())?),
            _directory: directory,
        })
    }
}

fn client_config(authority: &str) -> Result<ClientConfig, Failure> {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    Ok(ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
