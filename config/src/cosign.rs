//! The variables of cosign's that the commands `verify` and `attestation` honour, so that its documentation carries over.
//! `serve` never asks for them.

use std::path::PathBuf;

use crate::{ConfigError, environment, units};

/// What cosign's variables say, as far as they mean something to a command that verifies. Empty ones count as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CosignVariables {
    /// `COSIGN_CERTIFICATE_IDENTITY`.
    pub certificate_identity: Option<String>,
    /// `COSIGN_CERTIFICATE_IDENTITY_REGEXP`.
    pub certificate_identity_regexp: Option<String>,
    /// `COSIGN_CERTIFICATE_OIDC_ISSUER`.
    pub certificate_oidc_issuer: Option<String>,
    /// `COSIGN_CERTIFICATE_OIDC_ISSUER_REGEXP`.
    pub certificate_oidc_issuer_regexp: Option<String>,
    /// `COSIGN_REPOSITORY`: where cosign's tags are.
    pub repository: Option<String>,
    /// `COSIGN_MAX_ATTACHMENT_SIZE`, in bytes.
    pub attachment_bytes_max: Option<u64>,
    /// `SIGSTORE_ROOT_FILE`: certificates of the CA.
    pub root_file: Option<PathBuf>,
    /// `SIGSTORE_REKOR_PUBLIC_KEY`: a file with the key of the transparency log.
    pub rekor_public_key: Option<PathBuf>,
    /// `SIGSTORE_CT_LOG_PUBLIC_KEY_FILE`: a file with the key of the certificate log.
    pub ct_log_public_key_file: Option<PathBuf>,
    /// `SIGSTORE_TSA_CERTIFICATE_FILE`: certificates of the timestamp authority.
    pub tsa_certificate_file: Option<PathBuf>,
}

impl CosignVariables {
    /// From the environment of the process.
    ///
    /// # Errors
    /// When one is no text, or not the number it must be.
    pub fn of_process() -> Result<Self, ConfigError> {
        let text = environment::variable;
        let path = |name| text(name).map(|value| value.map(PathBuf::from));
        Ok(Self {
            certificate_identity: text("COSIGN_CERTIFICATE_IDENTITY")?,
            certificate_identity_regexp: text("COSIGN_CERTIFICATE_IDENTITY_REGEXP")?,
            certificate_oidc_issuer: text("COSIGN_CERTIFICATE_OIDC_ISSUER")?,
            certificate_oidc_issuer_regexp: text("COSIGN_CERTIFICATE_OIDC_ISSUER_REGEXP")?,
            repository: text("COSIGN_REPOSITORY")?,
            attachment_bytes_max: size("COSIGN_MAX_ATTACHMENT_SIZE", text("COSIGN_MAX_ATTACHMENT_SIZE")?.as_deref())?,
            root_file: path("SIGSTORE_ROOT_FILE")?,
            rekor_public_key: path("SIGSTORE_REKOR_PUBLIC_KEY")?,
            ct_log_public_key_file: path("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE")?,
            tsa_certificate_file: path("SIGSTORE_TSA_CERTIFICATE_FILE")?,
        })
    }
}

fn size(name: &str, written: Option<&str>) -> Result<Option<u64>, ConfigError> {
    let Some(written) = written else { return Ok(None) };
    let bytes = units::parse_size(written).filter(|bytes| *bytes > 0);
    bytes.map(Some).ok_or_else(|| ConfigError::Variable {
        name: name.to_owned(),
        expected: "a size above zero such as \"128MiB\" or 134217728".to_owned(),
        written: format!("{written:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_of_bytes_or_has_a_unit_and_nothing_else() {
        assert_eq!(size("X", None).unwrap(), None);
        assert_eq!(size("X", Some("134217728")).unwrap(), Some(128 << 20));
        assert_eq!(size("X", Some("128MiB")).unwrap(), Some(128 << 20));
        for bad in ["0", "-1", "many", "128 elephants", "128MiB or so"] {
            let told = size("COSIGN_MAX_ATTACHMENT_SIZE", Some(bad)).unwrap_err().to_string();
            assert!(told.starts_with("COSIGN_MAX_ATTACHMENT_SIZE: want a size above zero"), "{told}");
        }
    }
}
