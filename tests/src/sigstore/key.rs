//! Keys made on the spot, of the kinds that sign images.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _,
    RsaKeySize, SigningKey as _,
};
use sha2::{Digest as _, Sha256};

/// What stands before the 32 bytes of a private key for Ed25519 in PKCS#8 (RFC 8410, section 7).
const ED25519_PRIVATE: [u8; 16] = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];

/// A kind of key and the hash that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA over P-256 with SHA-256: what `cosign generate-key-pair` makes.
    P256,
    /// ECDSA over P-384 with SHA-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits, PKCS#1 v1.5 with SHA-256. Takes some hundred milliseconds to make.
    Rsa2048,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::P256, Self::P384, Self::Ed25519, Self::Rsa2048];
}

/// Where keys come from.
pub(super) enum Keys {
    /// From the system's random numbers.
    Random,
    /// From a seed, one after the other: the same ones each time.
    Drawn {
        seed: u64,
        /// How many there were.
        drawn: AtomicU64,
    },
}

impl Keys {
    /// A new key: of this kind where it is random, and where it is drawn for Ed25519, whose signatures are no work of chance either.
    pub(super) fn key(&self, kind: KeyKind) -> Key {
        match self {
            Self::Random => Key::generate(kind),
            Self::Drawn { seed, drawn } => Key::drawn(*seed, drawn.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// A private key with its public half in the spellings that Sigstore uses.
pub(super) struct Key {
    pub(super) kind: KeyKind,
    pub(super) pair: KeyPair,
}

impl Key {
    /// The `number`th key of a seed.
    fn drawn(seed: u64, number: u64) -> Self {
        let private = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(number.to_be_bytes()).finalize();
        let pair = KeyPair::try_from([&ED25519_PRIVATE[..], &private].concat());
        Self { kind: KeyKind::Ed25519, pair: pair.expect("any 32 bytes are a private key") }
    }

    pub(super) fn generate(kind: KeyKind) -> Self {
        let pair = match kind {
            KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            KeyKind::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            KeyKind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let pair = pair.expect("aws-lc makes keys of these four kinds");
        Self { kind, pair }
    }

    /// ECDSA signatures come in DER, as everywhere in Sigstore.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).expect("a key that was generated signs")
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub(super) fn public_der(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// The same as PEM, 64 columns, with a final newline.
    pub(super) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der())
    }

    /// By which logs, and hints in bundles, name a key: SHA-256 of its DER.
    pub(super) fn id(&self) -> [u8; 32] {
        Sha256::digest(self.public_der()).into()
    }
}

/// PEM as Go writes it: 64 columns, a newline after the last line.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let mut lines = String::new();
    for (column, character) in STANDARD.encode(der).chars().enumerate() {
        if column > 0 && column % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}
