//! The trust root: keys and certificates of CA, logs and timestamp authorities, as the bytes of a `trusted_root.json`.

use std::fmt;

use oci::UnixTime;
use sha2::{Digest as _, Sha256};

use crate::sigstore;

/// Deepest nesting of a `trusted_root.json`; real ones need seven.
const JSON_DEPTH_MAX: usize = 32;

/// Whom we trust to say who signed what and when. Checked when made: every key and certificate in it can be used.
#[derive(Clone)]
pub struct TrustRoot {
    text: String,
    content_digest: [u8; 32],
}

/// A document that is not a usable trust root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustRootError {
    /// Not JSON in UTF-8, or JSON that two parsers may read differently.
    #[error("trust root cannot be read")]
    Json(#[source] oci::json::JsonError),
    /// Not the text of a `trusted_root.json`, or with a key or certificate that cannot be used.
    #[error("trust root cannot be used: {what}")]
    Unusable {
        /// One clause.
        what: String,
    },
}

impl TrustRoot {
    /// The root of the public-good Sigstore as it was when this was built.
    ///
    /// # Panics
    /// Never in a build that passed its tests: the document is compiled in, and a test reads it.
    #[must_use]
    pub fn public_good() -> Self {
        Self::parse(sigstore::PUBLIC_GOOD.as_bytes()).expect("the compiled-in trust root is read by a test")
    }

    /// The root of the public-good Sigstore's staging instance as it was when this was built: for tests of the format, trusted by
    /// nobody.
    ///
    /// # Panics
    /// Never in a build that passed its tests: the document is compiled in, and a test reads it.
    #[must_use]
    pub fn staging() -> Self {
        Self::parse(sigstore::STAGING.as_bytes()).expect("the compiled-in trust root is read by a test")
    }

    /// Reads a `trusted_root.json`.
    ///
    /// # Errors
    /// When it is not one, when a key or certificate in it is malformed, or when it trusts nobody.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustRootError> {
        oci::json::check(bytes, JSON_DEPTH_MAX).map_err(TrustRootError::Json)?;
        let text = String::from_utf8(bytes.to_vec())
            .map_err(|_| TrustRootError::Unusable { what: "it is not UTF-8".to_owned() })?;
        let root = Self { content_digest: Sha256::digest(bytes).into(), text };
        sigstore::Sigstore::new(&root)?;
        Ok(root)
    }

    /// One root out of three: certificate authorities and certificate logs of the first, transparency logs of the second, timestamp
    /// authorities of the third.
    ///
    /// # Errors
    /// When what comes out trusts nobody.
    pub(crate) fn composed(ca: &Self, log: &Self, timestamp: &Self) -> Result<Self, TrustRootError> {
        let read = |root: &Self| -> Result<serde_json::Map<String, serde_json::Value>, TrustRootError> {
            serde_json::from_str(&root.text).map_err(|error| TrustRootError::Unusable { what: error.to_string() })
        };
        let mut composed = read(ca)?;
        for (root, field) in [(log, "tlogs"), (timestamp, "timestampAuthorities")] {
            match read(root)?.remove(field) {
                Some(value) => composed.insert(field.to_owned(), value),
                None => composed.remove(field),
            };
        }
        Self::parse(serde_json::Value::Object(composed).to_string().as_bytes())
    }

    /// SHA-256 of the document. Part of every fingerprint: another root is another judge.
    #[must_use]
    pub fn content_digest(&self) -> [u8; 32] {
        self.content_digest
    }

    /// The document.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whom it names, and for which time: for people to look at, and to tell one root from another. Nothing is decided by it.
    ///
    /// # Panics
    /// Never: it was read the same way when it was made.
    #[must_use]
    pub fn describe(&self) -> Vec<TrustAnchor> {
        sigstore::describe(&self.text).expect("a trust root was read when it was made")
    }
}

/// One authority or log that a trust root names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustAnchor {
    /// What it is trusted for.
    pub kind: AnchorKind,
    /// Its address, as the document has it; for a timestamp authority without one, its subject.
    pub name: String,
    /// In hexadecimal: the id of a log; SHA-256 of the certificates of an authority, one after the other.
    pub id: String,
    /// When it begins to be trusted, where the document says so.
    pub from: Option<UnixTime>,
    /// When it ends to be, where the document says so.
    pub until: Option<UnixTime>,
}

/// What an anchor of a trust root is trusted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnchorKind {
    /// Certifies signers.
    CertificateAuthority,
    /// Holds signatures.
    TransparencyLog,
    /// Holds certificates.
    CertificateLog,
    /// Says when something was signed.
    TimestampAuthority,
}

impl AnchorKind {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 4] =
        [Self::CertificateAuthority, Self::TransparencyLog, Self::CertificateLog, Self::TimestampAuthority];

    /// In lower case, in the singular.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "certificate authority",
            Self::TransparencyLog => "transparency log",
            Self::CertificateLog => "certificate log",
            Self::TimestampAuthority => "timestamp authority",
        }
    }
}

/// By digest: the document itself fills screens.
impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({})", hex::encode(self.content_digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_trust_root_is_usable() {
        assert_eq!(TrustRoot::public_good().content_digest(), Sha256::digest(sigstore::PUBLIC_GOOD).as_slice());
        assert_eq!(TrustRoot::staging().content_digest(), Sha256::digest(sigstore::STAGING).as_slice());
    }

    #[test]
    fn what_trusts_nobody_is_no_trust_root() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#,
            r#"{"mediaType":"x","mediaType":"x","tlogs":[]}"#,
        ] {
            assert!(TrustRoot::parse(bad.as_bytes()).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_damaged_key_or_certificate_is_refused_when_the_root_is_read() {
        let good: serde_json::Value = serde_json::from_str(sigstore::PUBLIC_GOOD).unwrap();
        for pointer in [
            "/tlogs/0/publicKey/rawBytes",
            "/ctlogs/1/publicKey/rawBytes",
            "/certificateAuthorities/1/certChain/certificates/0/rawBytes",
            "/timestampAuthorities/0/certChain/certificates/0/rawBytes",
        ] {
            let mut bad = good.clone();
            let place = bad.pointer_mut(pointer).unwrap();
            let text = place.as_str().unwrap().to_owned();
            *place = text.get(..text.len() / 8 * 4).unwrap().into();
            let error = TrustRoot::parse(bad.to_string().as_bytes()).unwrap_err();
            assert!(matches!(error, TrustRootError::Unusable { .. }), "{pointer}: {error}");
        }
    }

    #[test]
    fn every_authority_and_log_of_the_document_is_told_with_its_time() {
        let anchors = TrustRoot::public_good().describe();
        let document: serde_json::Value = serde_json::from_str(sigstore::PUBLIC_GOOD).unwrap();
        for (kind, key) in [
            (AnchorKind::CertificateAuthority, "certificateAuthorities"),
            (AnchorKind::TransparencyLog, "tlogs"),
            (AnchorKind::CertificateLog, "ctlogs"),
            (AnchorKind::TimestampAuthority, "timestampAuthorities"),
        ] {
            let listed = document[key].as_array().unwrap().len();
            assert_eq!(anchors.iter().filter(|anchor| anchor.kind == kind).count(), listed, "{key}");
        }
        let first = anchors.first().unwrap();
        let listed = &document["certificateAuthorities"][0];
        assert_eq!(first.name, listed["uri"]);
        assert_eq!(first.from.unwrap().to_string(), listed["validFor"]["start"]);
        assert!(anchors.iter().any(|anchor| anchor.until.is_some()) && anchors.iter().any(|a| a.until.is_none()));
        let ids: std::collections::BTreeSet<_> = anchors.iter().map(|anchor| &anchor.id).collect();
        assert_eq!(ids.len(), anchors.len());
    }

    #[test]
    fn another_document_has_another_digest() {
        let spaced = format!("{} ", sigstore::PUBLIC_GOOD);
        let other = TrustRoot::parse(spaced.as_bytes()).unwrap();
        assert_ne!(other.content_digest(), TrustRoot::public_good().content_digest());
    }
}
